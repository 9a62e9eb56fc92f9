"""A sweep that is killed goes on where it stopped: nothing is run twice, nothing is lost."""

import signal
import time
from pathlib import Path

import pytest
from helpers.sweep_runs import (
    CASES,
    PATIENCE_SECONDS,
    TRAININGS,
    finish_sweep,
    records,
    start_sweep,
    trainings,
    verdicts,
)

from compare.sweep.results import LINES_FILE


@pytest.mark.parametrize(
    ("done", "runner"),
    [
        pytest.param(0, "torch", marks=pytest.mark.slow),
        pytest.param(5, "keras-torch", marks=pytest.mark.slow),
        pytest.param(7, "member-float32-3", marks=pytest.mark.slow),
        pytest.param(TRAININGS, None, marks=pytest.mark.slow),
    ],
)
def test_a_killed_sweep_goes_on(tmp_path: Path, environment: dict[str, str], done: int, runner: str | None) -> None:
    """Killed after any number of trainings and run again, a sweep does every training once and has every verdict once.

    Only those that were under way, at most as many as there were jobs, are begun anew, and a training whose process is
    killed in its turn, which is said and kept.
    """
    process = start_sweep(tmp_path, environment, "--jobs", "2")
    end = time.monotonic() + PATIENCE_SECONDS
    while trainings(tmp_path).total() < done or not (tmp_path / "out" / LINES_FILE).exists():
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert trainings(tmp_path).total() >= done
    counts, errors = finish_sweep(start_sweep(tmp_path, {**environment, "KILLED": runner} if runner else environment))
    assert (counts["cases"], counts["agree"]) == (CASES, CASES)
    said = [line for line in errors.splitlines() if "tried again" in line]
    assert len(said) == (runner is not None)
    assert all(f"{runner}: the process killed by SIGKILL" in line for line in said)
    assert sum(len(record["run"]["retried"]) for record in records(tmp_path)) == len(said)
    # A worker that outlived the sweep by a moment may have come to the end of what it was at.
    assert TRAININGS <= trainings(tmp_path).total() <= TRAININGS + 2
    assert len(trainings(tmp_path)) == TRAININGS
    assert len(verdicts(tmp_path)) == CASES
    assert not any((tmp_path / "out" / "traces").iterdir())


@pytest.mark.slow
def test_a_finished_sweep_trains_nothing(
    finished_sweep: tuple[Path, dict[str, int]], environment: dict[str, str]
) -> None:
    """Given the same folder again a finished sweep finds every case done."""
    folder, first = finished_sweep
    assert first == {"cases": 3, "agree": 3, "differ": 0, "failed": 0, "skipped": 0, "comparisons": 3}
    done = trainings(folder)
    assert done.total() == len(done) == TRAININGS
    again, _ = finish_sweep(start_sweep(folder, environment))
    assert again == {**first, "skipped": CASES}
    assert trainings(folder) == done
