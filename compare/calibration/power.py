"""Calibration of the judge: plants every known fault, trains null runs too, and counts what the judge said."""

import json
import shutil
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from compare.calibration.null_cases import null_case
from compare.config.case import Case, load_case, with_fields
from compare.errors import InputError
from compare.experiment.experiment import make_experiment
from compare.judge import Comparison
from compare.judge.phases import Phase
from compare.run.judging import INTERNAL_ERROR, Job
from compare.run.plan import MEMBERS
from compare.run.training import run_jobs
from compare.storage import SealedLines
from compare.workers.backends import REFERENCE_RUNNER, keras_runner
from compare.workers.pool import Pool

# Small enough for a second or two, with a smaller last batch and three whole epochs.
FAULT_FIELDS = {"data.points": 200, "model.units": 8, "training.epochs": 4, "training.batch_size": 16}
# The group of trials in which nothing is planted.
NULL = "null"
NULL_RUNS = 300
QUICK_NULL_RUNS = 12
# A line for each trial that is done.
RESULTS = "results.jsonl"
TRAININGS_AT_A_TIME = 24


class PlantedFault(BaseModel):
    """One entry of the catalogue: what is planted, where, and what the judge should say.

    `tensors` are those that may rightly be named first; empty where no tensor is to blame. `step` is that at which the
    fault strikes, where that is one. `backends` are those on which the case agrees with
    nothing planted; empty for all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    group: Literal["weights", "cells", "loss", "gradient", "optimizer", "data", "numerics", "training"]
    function: str
    side: Literal["keras", "torch", "both"]
    cell: Literal["simple_rnn", "lstm", "gru"] = "lstm"
    fields: dict[str, Any] = {}
    phase: Phase
    tensors: tuple[str, ...] = ()
    step: int | None = None
    backends: tuple[str, ...] = ()
    quick: bool = False


@dataclass(frozen=True)
class Trial:
    """One training of the power table, with a fault planted or without."""

    name: str
    case: Case
    backend: str
    fault: PlantedFault | None = None

    def job(self, folder: Path) -> Job:
        """The comparison to make; faults are found in `folder`.

        What is wrong in the PyTorch side's code is wrong in the members of its ensemble too; its data are not theirs.
        """
        planted = []
        if self.fault is not None:
            planted = [self.off_side] if self.fault.side != "both" else [keras_runner(self.backend), REFERENCE_RUNNER]
            planted += [MEMBERS] if REFERENCE_RUNNER in planted and self.fault.group != "data" else []
        faults = {runner: str(folder / self.fault.function) for runner in planted if self.fault is not None}
        return Job(make_experiment(self.case), [self.backend], faults)

    @property
    def off_side(self) -> str:
        """The runner in which a fault is planted, or "both"."""
        assert self.fault is not None
        return {"keras": keras_runner(self.backend), "torch": REFERENCE_RUNNER, "both": "both"}[self.fault.side]


@dataclass(frozen=True)
class Outcome:
    """What the judge said of a trial; what it has right of a fault is None where there is nothing to be right."""

    name: str
    group: str
    runner: str
    case: dict[str, Any]
    status: str
    said: str
    phase: str | None
    tensor: str | None
    phase_right: bool | None
    tensor_right: bool | None
    trajectory_share: float | None
    step_share: float | None
    side_right: bool | None = None
    step_right: bool | None = None


def faults_folder() -> Path:
    """Find the catalogue of faults in the source checkout that this package was installed from.

    Raises InputError where there is none.
    """
    folder = Path(__file__).resolve().parents[2] / "tests" / "faults"
    if not (folder / "catalogue.toml").is_file():
        raise InputError(f"power needs a source checkout with {folder}: install with pip install -e")
    return folder


def read_catalogue(folder: Path) -> list[PlantedFault]:
    """Read the catalogue of planted faults."""
    content = tomllib.loads((folder / "catalogue.toml").read_text("utf-8"))
    return [PlantedFault.model_validate(entry) for entry in content["fault"]]


def read_reasons() -> dict[str, str]:
    """Read why a trial, by name, cannot go as it should; the catalogue keeps the reasons beside the faults."""
    content = tomllib.loads((faults_folder() / "catalogue.toml").read_text("utf-8"))
    return dict(content.get("reasons", {}))


def fault_trials(faults: Sequence[PlantedFault], backends: Sequence[str]) -> list[Trial]:
    """Make a small case for each fault, the backends in turn; none for a fault that could be seen on none of them."""
    trials = []
    for index, fault in enumerate(faults):
        able = [backend for backend in backends if not fault.backends or backend in fault.backends]
        case = with_fields(load_case(fault.cell), {**FAULT_FIELDS, **fault.fields, "name": fault.name})
        trials += [Trial(fault.name, case, able[index % len(able)], fault)] if able else []
    return trials


def null_trials(count: int, backends: Sequence[str], first: int = 0) -> list[Trial]:
    """Draw the cases of null runs from the first number on, the cells and the backends in turn."""
    in_turn = ((index, backends[index // 3 % len(backends)]) for index in range(first, first + count))
    drawn = ((null_case(index, backend), backend) for index, backend in in_turn)
    return [Trial(case.name, case, backend) for case, backend in drawn]


def run_trials(
    trials: Sequence[Trial],
    out: Path,
    pool: Pool,
    on_outcome: Callable[[Outcome], None] = lambda outcome: None,
    on_damage: Callable[[str], None] = lambda message: None,
) -> Iterator[Outcome]:
    """Run the trials that `out` does not hold yet and yield the outcomes of all; the traces themselves are not kept.

    `on_damage` is told of outcomes that are not as they were written; their trials are run again.
    """
    out.mkdir(parents=True, exist_ok=True)
    folder, traces = faults_folder(), out / "traces"
    with SealedLines(out / RESULTS) as lines:
        known = {outcome.name: outcome for outcome in map(_outcome, lines.read()) if outcome is not None}
        if lines.damaged:
            on_damage(f"{lines.damaged} of the lines of {lines.path} are damaged; their trials are run again")
        waiting = [trial for trial in trials if not _holds(known.get(trial.name), trial)]
        for first in range(0, len(waiting), TRAININGS_AT_A_TIME):
            chosen = waiting[first : first + TRAININGS_AT_A_TIME]
            shutil.rmtree(traces, ignore_errors=True)
            traces.mkdir()
            comparisons = run_jobs([trial.job(folder) for trial in chosen], traces, pool, log_folder=out)
            for trial, comparison in zip(chosen, comparisons, strict=True):
                known[trial.name] = judge_of(trial, comparison)
                lines.add(asdict(known[trial.name]))
                on_outcome(known[trial.name])
            shutil.rmtree(traces, ignore_errors=True)
    for trial in trials:
        yield known[trial.name]


def judge_of(trial: Trial, comparison: Comparison) -> Outcome:
    """Hold what the judge said against what was planted."""
    first, fault = comparison.first_difference, trial.fault
    phase, tensor = (None, None) if first is None else (first.phase, first.tensor)
    return Outcome(
        name=trial.name,
        group=NULL if fault is None else fault.group,
        runner=comparison.runner,
        case=json.loads(trial.case.to_json()),
        status=comparison.status,
        said=comparison.error or ("" if first is None else f"step {first.step}, {first.phase}: {first.message}"),
        phase=phase,
        tensor=tensor,
        phase_right=None if fault is None else phase == fault.phase,
        tensor_right=None if fault is None or not fault.tensors else tensor in fault.tensors,
        trajectory_share=comparison.trajectory_tolerance_ratio,
        step_share=comparison.step_tolerance_ratio,
        side_right=None if fault is None or first is None else first.off_side == trial.off_side,
        step_right=None if fault is None or fault.step is None else first is not None and first.step == fault.step,
    )


@dataclass(frozen=True)
class Power:
    """The counts of the power table."""

    outcomes: Sequence[Outcome]

    @property
    def faults(self) -> list[Outcome]:
        """The trials with a fault."""
        return [outcome for outcome in self.outcomes if outcome.group != NULL]

    @property
    def null_runs(self) -> list[Outcome]:
        """The trials without a fault."""
        return [outcome for outcome in self.outcomes if outcome.group == NULL]

    def as_json(self) -> dict[str, int]:
        """The counts by the names that `power --json` has."""
        return {
            "faults": len(self.faults),
            "detected": sum(outcome.status == "differs" for outcome in self.faults),
            "phase_right": sum(outcome.phase_right is True for outcome in self.faults),
            "tensor_right": sum(outcome.tensor_right is True for outcome in self.faults),
            "tensor_known": sum(outcome.tensor_right is not None for outcome in self.faults),
            "side_right": sum(outcome.side_right is True for outcome in self.faults),
            "side_known": sum(outcome.side_right is not None for outcome in self.faults),
            "step_right": sum(outcome.step_right is True for outcome in self.faults),
            "step_known": sum(outcome.step_right is not None for outcome in self.faults),
            "clean_runs": len(self.null_runs),
            "false_alarms": sum(outcome.status == "differs" for outcome in self.null_runs),
            "failed": sum(outcome.status == "failed" for outcome in self.outcomes),
            "undecidable": sum(outcome.status == "undecidable" for outcome in self.outcomes),
        }

    @property
    def exit_code(self) -> int:
        """0 where every fault was detected and no null run raised an alarm; 3 where a trial could not be run.

        70 where one was not judged for an error of this project's own.
        """
        if any(outcome.said.startswith(INTERNAL_ERROR) for outcome in self.outcomes if outcome.status == "failed"):
            return 70
        counts = self.as_json()
        if counts["detected"] < counts["faults"] - counts["failed"] or counts["false_alarms"]:
            return 1
        return 3 if counts["failed"] else 0


def confidence_interval(hits: int, trials: int) -> tuple[float, float]:
    """The 95 % interval of a proportion. Source: Clopper and Pearson 1934."""
    from scipy.stats import binomtest  # comes with scikit-learn

    if trials == 0:
        return 0.0, 1.0
    interval = binomtest(hits, trials).proportion_ci(0.95, method="exact")
    return float(interval.low), float(interval.high)


def _outcome(line: Mapping[str, Any]) -> Outcome | None:
    """Read an outcome; None of one that another version has written."""
    try:
        return Outcome(**line)
    except TypeError:
        return None


def _holds(outcome: Outcome | None, trial: Trial) -> bool:
    return outcome is not None and outcome.case == json.loads(trial.case.to_json()) and outcome.status != "failed"
