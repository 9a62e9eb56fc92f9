"""Trainings that are small enough for a test."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.paths import ROOT

from compare.config.case import Case, load_case, with_fields
from compare.judge import Comparison, Verdict
from compare.run.plan import prepare
from compare.run.training import run_cases
from compare.workers.pool import Pool
from compare.workers.tasks import Event

BACKENDS = ("tensorflow", "torch", "jax")
CELLS = ("simple_rnn", "lstm", "gru")
FAULTS = ROOT / "tests" / "faults"

# 120 points in windows of 10, a fifth held out, leave 86 windows to train on: 5 batches of 16 and one of 6.
TINY = {"data.points": 120, "model.units": 4, "training.epochs": 3, "training.batch_size": 16}
STEPS_PER_EPOCH = 6
STEPS = 18


@dataclass(frozen=True)
class Run:
    """A finished run: its folder and its verdict."""

    folder: Path
    verdict: Verdict

    def comparison(self, case: str, runner: str) -> Comparison:
        """The one comparison of a case on a runner."""
        (comparison,) = [c for c in self.verdict.comparisons if (c.case, c.runner) == (case, runner)]
        return comparison


def tiny_case(cell: str = "lstm", fields: Mapping[str, Any] | None = None) -> Case:
    """Return a built-in case made small, with further fields replaced."""
    return with_fields(load_case(cell), {**TINY, **(fields or {})})


def run_cases_in(
    folder: Path,
    pool: Pool,
    cases: Sequence[Case],
    backends: Sequence[str],
    faults: Mapping[str, str] | None = None,
    on_event: Callable[[Event], None] = lambda event: None,
) -> Run:
    """Run cases in a new folder, with faults planted by runner, each as FILE:function of tests/faults."""
    experiments = prepare(cases)
    folder.mkdir(parents=True)
    places = {runner: str(FAULTS / fault) for runner, fault in (faults or {}).items()}
    return Run(folder, run_cases(experiments, backends, folder, pool, on_event, places))
