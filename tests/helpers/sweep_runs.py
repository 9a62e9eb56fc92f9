"""Sweeps small enough for a test, each training of which is counted."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from compare.sweep.results import LINES_FILE

# Three cases: 3 * (torch, its repetition, four ensemble members, keras-torch) trainings.
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
CASES, TRAININGS = 3, 21

# How long to wait for what must come, on a machine however busy; nothing is asserted about how soon it does.
PATIENCE_SECONDS = 300

# Every Python process imports this module at its start. The one that is to be killed is killed once.
COUNTING = """
import os, pathlib, signal

if "TRAININGS" in os.environ:
    from compare.trace.trace import TraceWriter

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


def start_sweep(folder: Path, environment: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    """Start a sweep in a folder, each of whose trainings leaves a line in `trainings.txt` when it is done."""
    return start_counted(folder, environment, SWEEP, "sweep", *arguments)


def start_counted(
    folder: Path, environment: dict[str, str], text: str, command: str, *arguments: str
) -> subprocess.Popen[str]:
    """Start a command on a sweep's file in a folder; its trainings are counted as those of `start_sweep`."""
    (folder / "sweep.toml").write_text(text)
    (folder / "sitecustomize.py").write_text(COUNTING)
    path = os.pathsep.join([str(folder), environment["PYTHONPATH"]])
    return subprocess.Popen(
        [sys.executable, "-m", "compare", command, "sweep.toml", "--out", "out", "--json", *arguments],
        cwd=folder,
        env={**environment, "PYTHONPATH": path, "TRAININGS": str(folder / "trainings.txt")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish_sweep(process: subprocess.Popen[str]) -> tuple[dict[str, int], str]:
    """Wait for a sweep that must succeed, and return its counts and what it said."""
    output, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, errors
    return json.loads(output), errors


def trainings(folder: Path) -> Counter[str]:
    """How often each training was done."""
    path = folder / "trainings.txt"
    return Counter(path.read_text().splitlines() if path.is_file() else [])


def records(folder: Path) -> list[dict[str, Any]]:
    """What was kept of each case, in the order in which it was done."""
    return [json.loads(line) for line in (folder / "out" / LINES_FILE).read_text().splitlines()]


def verdicts(folder: Path) -> dict[str, str]:
    """The text of each case's verdict, without what depends on where and when it was made."""
    lines = records(folder)
    for record in lines:
        del record["run"], record["checksum"]
    assert len({record["case"] for record in lines}) == len(lines)
    return {record["case"]: json.dumps(record) for record in lines}
