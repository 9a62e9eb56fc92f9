"""The folder of a run: it knows what it is of, and one process at a time writes into it."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.small_runs import tiny_case

from compare.errors import InputError
from compare.experiment.experiment import Experiment, make_experiment
from compare.run.folder import LOCK_FILE, RUN_FILE, locked, results_folder, run_folder

# Another process that holds a folder until it is killed.
HOLDER = (
    "import sys, time; from pathlib import Path; from compare.run.folder import locked\n"
    "with locked(Path(sys.argv[1]), shared=len(sys.argv) > 2): print('held', flush=True); time.sleep(600)"
)


@pytest.fixture
def experiment() -> Experiment:
    """A tiny experiment."""
    return make_experiment(tiny_case())


def other_data(experiment: Experiment) -> Experiment:
    """The series has another value."""
    features = experiment.windows.features.copy()
    features[3] += 1e-3
    return replace(experiment, windows=replace(experiment.windows, features=features))


def other_schedule(experiment: Experiment) -> Experiment:
    """The batches are others."""
    return replace(experiment, schedule=experiment.schedule[:, ::-1])


def other_weights(experiment: Experiment) -> Experiment:
    """An initial weight is another."""
    weights = {name: array + (name == "head/bias") for name, array in experiment.weights.items()}
    return replace(experiment, weights=weights)


def test_the_same_run_goes_on(tmp_path: Path, experiment: Experiment) -> None:
    """A folder of the same run is found again, also where it was killed while it wrote its first file."""
    with run_folder(tmp_path / "out", [experiment], ["torch"]):
        pass
    (tmp_path / "out" / RUN_FILE).rename(tmp_path / "out" / "run.partial")
    for _ in range(2):
        with run_folder(tmp_path / "out", [experiment], ["torch"]):
            assert (tmp_path / "out" / RUN_FILE).exists()
    assert not (tmp_path / "out" / LOCK_FILE).exists()


@pytest.mark.parametrize(
    ("change", "part"), [(other_data, "data"), (other_schedule, "schedule"), (other_weights, "weights")]
)
def test_a_run_of_other_data_is_refused(
    tmp_path: Path, experiment: Experiment, change: Callable[[Experiment], Experiment], part: str
) -> None:
    """What was trained from something else is not judged against what there is now."""
    with run_folder(tmp_path / "out", [experiment], ["torch"]):
        pass
    with (
        pytest.raises(InputError, match=rf"holds a run of case lstm with other {part}: give a new folder"),
        run_folder(tmp_path / "out", [change(experiment)], ["torch"]),
    ):
        pass


@pytest.mark.parametrize("bit", [0, 100, 1000, 5000])
def test_a_damaged_description_of_a_run_is_told(tmp_path: Path, experiment: Experiment, bit: int) -> None:
    """A bit flipped in what says which run it is does not make it another run, or the same."""
    with run_folder(tmp_path / "out", [experiment], ["torch"]):
        pass
    file = tmp_path / "out" / RUN_FILE
    content = bytearray(file.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"run.json is damaged"), run_folder(tmp_path / "out", [experiment], ["torch"]):
        pass


def test_a_second_process_is_told_who_holds_a_folder(tmp_path: Path, environment: dict[str, str]) -> None:
    """While a process holds a folder no other may, and is told which does; of one that was killed it is taken over."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(InputError, match=rf"is in use by process {holder.pid} on \S+ since \d{{4}}-"),
            results_folder(tmp_path),
        ):
            pass
        holder.send_signal(signal.SIGKILL)
    assert (tmp_path / LOCK_FILE).exists()
    with locked(tmp_path):
        assert str(os.getpid()) in (tmp_path / LOCK_FILE).read_text("utf-8")
    assert not (tmp_path / LOCK_FILE).exists()


def test_readers_share_a_folder_and_keep_a_writer_out(tmp_path: Path, environment: dict[str, str]) -> None:
    """What is being read is read by several at a time, and written by nobody until the last of them has ended."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path), "shared"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "held\n"
        with locked(tmp_path, shared=True):
            pass
        with pytest.raises(InputError, match="is in use by"), locked(tmp_path):
            pass
        reader.kill()
    with locked(tmp_path), pytest.raises(InputError, match=f"process {os.getpid()} "), locked(tmp_path, shared=True):
        pass


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_what_cannot_be_written_can_be_read(tmp_path: Path) -> None:
    """A folder without permission to write is held for reading, and not for writing."""
    tmp_path.chmod(0o500)
    with locked(tmp_path, shared=True):
        pass
    with pytest.raises(InputError, match="cannot be written"), locked(tmp_path):
        pass
