"""A selection of the planted faults, as `python -m compare power` runs them, and how it counts and resumes."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from compare.calibration import power
from compare.calibration.power import (
    Outcome,
    PlantedFault,
    Power,
    Trial,
    fault_trials,
    faults_folder,
    null_trials,
    read_catalogue,
    run_trials,
)
from compare.judge import Comparison
from compare.report.power_table import markdown
from compare.run.plan import ENSEMBLE_SIZE, MEMBERS, REPETITION, plan
from compare.storage import SealedLines
from compare.workers.planted_fault import load_fault
from compare.workers.pool import Pool

FAULTS = read_catalogue(faults_folder())
# Of the quick selection those that `test_planted_faults.py` does not plant every day too.
EVERY_DAY = [
    fault
    for fault in FAULTS
    if fault.quick
    and fault.name
    not in {
        "lstm-kernel-gates-swapped",
        "gru-gates-swapped",
        "recurrent-kernel-transposed-lstm",
        "forget-bias-dropped",
        "window-shifted",
        "batches-swapped-epoch-3",
        "last-batch-dropped",
        "adam-epsilon-of-torch",
    }
]


def outcomes_of(trials: Sequence[Trial], pool: Pool, factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """What the judge said of each trial."""
    return {outcome.name: outcome for outcome in run_trials(trials, factory.mktemp("power"), pool)}


def trials_of(faults: Sequence[PlantedFault]) -> list[Trial]:
    """A trial of each fault, on Keras's torch backend where it can be seen there."""
    return [trial for fault in faults for trial in fault_trials([fault], fault.backends[:1] or ["torch"])]


@pytest.fixture(scope="module")
def outcomes(pool: Pool, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """What the judge said of some faults and of three null runs, on Keras's torch backend."""
    return outcomes_of(trials_of(EVERY_DAY) + null_trials(3, ["torch"]), pool, tmp_path_factory)


@pytest.fixture(scope="module")
def other_outcomes(pool: Pool, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """What the judge said of all other faults of the catalogue."""
    return outcomes_of(trials_of([fault for fault in FAULTS if fault not in EVERY_DAY]), pool, tmp_path_factory)


@pytest.mark.parametrize(
    ("fault", "selection"),
    [
        pytest.param(fault, "outcomes", id=fault.name)
        if fault in EVERY_DAY
        else pytest.param(fault, "other_outcomes", id=fault.name, marks=[pytest.mark.slow, pytest.mark.timeout(1200)])
        for fault in FAULTS
    ],
)
def test_planted_fault_is_found_in_its_place(
    fault: PlantedFault, selection: str, request: pytest.FixtureRequest
) -> None:
    """The fault is a difference, first seen in the phase and tensor in which it was planted."""
    outcome = request.getfixturevalue(selection)[fault.name]

    assert outcome.status == "differs", outcome.said
    # What strikes at random shows first in whichever figure has the digits for it.
    assert outcome.phase == fault.phase or fault.name == "last-bits-at-random", outcome.said
    assert not fault.tensors or outcome.tensor in fault.tensors, outcome.said


@pytest.mark.parametrize("trial", null_trials(3, ["torch"]), ids=lambda trial: trial.name)
def test_a_null_run_raises_no_alarm(trial: Trial, outcomes: dict[str, Outcome]) -> None:
    """A case without a fault agrees, and something was measured of it."""
    outcome = outcomes[trial.name]

    assert outcome.status == "agrees", outcome.said
    assert outcome.step_share is not None
    assert 0 < outcome.step_share <= 1


def test_every_kind_of_fault_is_in_the_catalogue() -> None:
    """The catalogue has at least 45 faults, of every group, each with a name of its own and a function that exists."""
    faults = FAULTS

    assert len(faults) >= 45
    assert len({fault.name for fault in faults}) == len(faults)
    assert {fault.group for fault in faults} >= {"weights", "cells", "loss", "gradient", "optimizer", "data"}
    for fault in faults:
        assert callable(load_fault(str(faults_folder() / fault.function))), fault.name


@pytest.mark.parametrize(
    ("name", "planted"),
    [
        pytest.param("step-doubled-on-keras", {"keras-torch"}, id="keras"),
        pytest.param("step-doubled-on-torch", {"torch", MEMBERS}, id="torch"),
        pytest.param("step-doubled-on-both", {"keras-torch", "torch", MEMBERS}, id="both"),
        pytest.param("targets-shifted", {"torch"}, id="of its data"),
    ],
)
def test_a_fault_of_the_code_is_in_the_ensemble_too(name: str, planted: set[str], tmp_path: Path) -> None:
    """What is wrong in the PyTorch side's code reaches every training of it, what is wrong in its data does not."""
    (fault,) = [fault for fault in FAULTS if fault.name == name]
    (trial,) = fault_trials([fault], ["torch"])
    job = trial.job(faults_folder())
    assert job.faults.keys() == planted
    tasks = plan(job.experiment, ["torch"], tmp_path, job.faults)
    members = [task for task in tasks if task.member]
    assert len(members) == ENSEMBLE_SIZE + 1
    assert all((task.fault is not None) == (MEMBERS in planted) for task in members)
    assert [task.out.name for task in members if task.member and task.member.repeats] == [REPETITION]


def outcome_of(name: str, group: str, status: str, right: bool | None = None) -> Outcome:
    """Make an outcome of which only the verdict matters."""
    return Outcome(name, group, "keras-torch", {}, status, "", None, None, right, right, 0.1, 0.1)


@pytest.mark.parametrize(
    ("outcomes_given", "exit_code"),
    [
        pytest.param([("fault", "differs"), ("null", "agrees")], 0, id="all as it should be"),
        pytest.param([("fault", "agrees"), ("null", "agrees")], 1, id="a fault missed"),
        pytest.param([("fault", "differs"), ("null", "differs")], 1, id="a false alarm"),
        pytest.param([("fault", "differs"), ("null", "failed")], 3, id="a trial that could not be run"),
    ],
)
def test_exit_code_tells_a_miss(outcomes_given: Sequence[tuple[str, str]], exit_code: int) -> None:
    """A missed fault and a false alarm are failures of the judge; a trial that could not be run is not passed over."""
    groups = {"fault": "weights", "null": power.NULL}
    table = Power([outcome_of(kind, groups[kind], status, kind == "fault") for kind, status in outcomes_given])

    assert table.exit_code == exit_code


def test_finished_trials_are_not_run_again(tmp_path: Path) -> None:
    """A trial whose outcome is known is read, a cut last line is not; without a pool nothing could be run."""
    (trial,) = null_trials(1, ["torch"])
    known = power.judge_of(trial, _agreeing(trial))
    with SealedLines(tmp_path / power.RESULTS) as lines:
        lines.add(asdict(known))
    line = (tmp_path / power.RESULTS).read_bytes()
    (tmp_path / power.RESULTS).write_bytes(line + line[: len(line) // 2])

    assert list(run_trials([trial], tmp_path, pool=None)) == [known]


@pytest.mark.parametrize("bit", [5, 803, -20, -12])
def test_a_damaged_outcome_is_told_and_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bit: int) -> None:
    """A line with a flipped bit, its end apart, is of no trial: that is said, and the trial run again."""
    (trial,) = null_trials(1, ["torch"])
    with SealedLines(tmp_path / power.RESULTS) as lines:
        lines.add(asdict(replace(power.judge_of(trial, _agreeing(trial)), status="differs")))
    content = bytearray((tmp_path / power.RESULTS).read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    (tmp_path / power.RESULTS).write_bytes(content)
    monkeypatch.setattr(power, "run_jobs", lambda *arguments, **options: [_agreeing(trial)])
    told: list[str] = []

    (outcome,) = run_trials([trial], tmp_path, pool=None, on_damage=told.append)
    assert outcome.status == "agrees"
    assert told == [f"1 of the lines of {tmp_path / power.RESULTS} are damaged; their trials are run again"]


def _agreeing(trial: Trial) -> Comparison:
    return Comparison(trial.case.name, "keras-torch", "torch", trial.case.dtype, "agrees", steps=1)


def test_a_table_that_cannot_be_written_is_refused(refused: Callable[..., str]) -> None:
    """Where the table could not be written is told before anything is trained, not after half an hour."""
    message = refused("power", "--quick", "--write", "nowhere/power.md")
    assert message == "--write nowhere/power.md cannot be written: there is no folder nowhere"


def test_the_table_has_what_was_drawn_after_the_code() -> None:
    """Beside each count is that of held-out faults, where there is one, and counts that are of those alone follow."""
    table = Power([outcome_of("fault", "weights", "differs", True), outcome_of("null", power.NULL, "agrees")])
    lines = markdown(table, {}, {}, {"faults detected": (58, 60), "side named": (57, 58)}).splitlines()
    assert next(line for line in lines if line.startswith("| faults detected")).endswith("| 58 of 60 |")
    assert next(line for line in lines if line.startswith("| phase right")).endswith("| – |")
    assert "| side named | – | – | 57 of 58 |" in lines
    assert "held out" not in markdown(table, {}, {}).lower().replace("| held out |", "")
