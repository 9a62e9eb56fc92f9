"""A sweep that is killed goes on where it stopped: nothing is run twice, nothing is lost."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from compare.sweep.results import LINES_FILE

# Three cases: 3 * (torch, four twins, keras-torch) trainings.
SWEEP = """
case = "lstm"
backends = ["torch"]
seeds = [0, 1, 2]
[fields]
data.points = 60
data.window = 4
model.units = 2
training.epochs = 2
"""
CASES, TRAININGS = 3, 18

# How long to wait for what must come, on a machine however busy; nothing is asserted about how soon it does.
PATIENCE_SECONDS = 240


def sweep(folder: Path, environment: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    """Start a sweep in a folder, each of whose trainings leaves a line in `trainings.txt` when it is done."""
    (folder / "sweep.toml").write_text(SWEEP)
    # Every worker process imports this module at its start, and counts by it.
    (folder / "sitecustomize.py").write_text(COUNTING)
    path = os.pathsep.join([str(folder), environment["PYTHONPATH"]])
    return subprocess.Popen(
        [sys.executable, "-m", "compare", "sweep", "sweep.toml", "--out", "out", "--json", *arguments],
        cwd=folder,
        env={**environment, "PYTHONPATH": path, "TRAININGS": str(folder / "trainings.txt")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


COUNTING = """
import os, pathlib, signal

if "TRAININGS" in os.environ:
    from compare.trace import TraceWriter

    finish = TraceWriter.finish

    def counted(self, predicted, end):
        killed = pathlib.Path(os.environ["TRAININGS"]).with_name("killed.txt")
        if self.folder.name == os.environ.get("KILLED") and not killed.exists():
            killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        finish(self, predicted, end)
        with open(os.environ["TRAININGS"], "a") as lines:
            lines.write(f"{self.folder.parent.name} {self.folder.name}\\n")

    TraceWriter.finish = counted
"""


def trainings(folder: Path) -> Counter[str]:
    """How often each training was done."""
    path = folder / "trainings.txt"
    return Counter(path.read_text().splitlines() if path.is_file() else [])


def verdicts(folder: Path) -> Counter[str]:
    """How often each case has a verdict."""
    path = folder / "out" / LINES_FILE
    return Counter(json.loads(line)["case"] for line in path.read_text().splitlines() if line.endswith("}"))


def finished(process: subprocess.Popen[str]) -> dict[str, int]:
    """Wait for a sweep that must succeed, and return its counts."""
    output, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, errors
    return json.loads(output)


@pytest.mark.parametrize("done", [0, 5, TRAININGS], ids="after-{}-trainings".format)
def test_a_killed_sweep_goes_on(tmp_path: Path, environment: dict[str, str], done: int) -> None:
    """Killed after any number of trainings and run again, a sweep does every training once and has every verdict once.

    Only those that were under way, at most as many as there were jobs, are begun anew.
    """
    process = sweep(tmp_path, environment, "--jobs", "2")
    end = time.monotonic() + PATIENCE_SECONDS
    while trainings(tmp_path).total() < done or not (tmp_path / "out" / LINES_FILE).exists():
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = trainings(tmp_path).total()
    assert before >= done
    counts = finished(sweep(tmp_path, environment))
    assert (counts["cases"], counts["agree"]) == (CASES, CASES)
    # A worker that outlived the sweep by a moment may have come to the end of what it was at.
    assert TRAININGS <= trainings(tmp_path).total() <= TRAININGS + 2
    assert len(trainings(tmp_path)) == TRAININGS
    assert verdicts(tmp_path) == dict.fromkeys(verdicts(tmp_path), 1)
    assert len(verdicts(tmp_path)) == CASES
    assert not any((tmp_path / "out" / "traces").iterdir())


def test_a_finished_sweep_trains_nothing(tmp_path: Path, environment: dict[str, str]) -> None:
    """Given the same folder again a finished sweep finds every case done, and a larger one trains what is new."""
    assert finished(sweep(tmp_path, environment))["skipped"] == 0
    first = trainings(tmp_path)
    assert first.total() == TRAININGS
    counts = finished(sweep(tmp_path, environment))
    assert (counts["skipped"], counts["agree"]) == (CASES, CASES)
    assert trainings(tmp_path) == first


@pytest.mark.parametrize("runner", ["torch", "keras-torch", "twin-float32-3"])
def test_a_killed_worker_is_replaced(tmp_path: Path, environment: dict[str, str], runner: str) -> None:
    """A training whose process is killed is tried again, which is said and kept, and nothing else is repeated."""
    process = sweep(tmp_path, {**environment, "KILLED": runner})
    output, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, errors
    assert json.loads(output)["agree"] == CASES
    (said,) = [line for line in errors.splitlines() if "tried again" in line]
    assert f"{runner}: the process killed by SIGKILL" in said
    assert trainings(tmp_path) == dict.fromkeys(trainings(tmp_path), 1)
    assert len(trainings(tmp_path)) == TRAININGS
    records = [json.loads(line) for line in (tmp_path / "out" / LINES_FILE).read_text().splitlines()]
    assert sorted(len(record["run"]["retried"]) for record in records) == [0, 0, 1]
