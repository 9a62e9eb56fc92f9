"""Which trainings a case takes, and where each leaves its trace."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from compare.config.case import Case
from compare.errors import InputError
from compare.experiment.experiment import Experiment, make_experiment
from compare.workers.backends import REFERENCE_RUNNER, keras_runner
from compare.workers.tasks import Member, Task

# The largest of four separations is a usable measure of what rounding does, at four short trainings' cost.
ENSEMBLE_SIZE = 4

# Trainings of each side where it draws its own dropout masks: the spread of eight tells a mean that is off by one.
SAMPLES = 8


def prepare(cases: Sequence[Case]) -> list[Experiment]:
    """Make the experiments of cases before anything is written.

    Raises InputError for data that cannot be used, two cases of one name, or none.
    """
    if not cases:
        raise InputError("no case was given")
    names = [case.name for case in cases]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"two cases are named {name!r}; give each case its own name")
    return [make_experiment(case) for case in cases]


def plan(
    experiment: Experiment, backends: Sequence[str], out: Path, faults: Mapping[str, str] | None = None
) -> list[Task]:
    """List the trainings of one case: the PyTorch side, its ensemble, and a Keras runner for every backend.

    Where each side draws its own dropout masks, every runner trains several samples instead. `faults` are planted by
    runner, in no member of the ensemble.
    """
    case, folder = experiment.case, out / experiment.case.name
    runners, faults = (REFERENCE_RUNNER, *map(keras_runner, backends)), faults or {}

    def task(runner: str, name: str, **options: object) -> Task:
        return Task(runner, case.name, folder / "experiment", folder / name, **options)  # type: ignore[arg-type]

    if case.model.independent_masks:
        return [
            task(runner, sample_name(runner, number), sample=number, fault=faults.get(runner))
            for number in range(SAMPLES)
            for runner in runners
        ]
    # With stock settings the two sides are not meant to take the same step: only the trajectory is compared.
    states = None if case.training.stock else folder / REFERENCE_RUNNER
    members = [
        task(REFERENCE_RUNNER, member_name(precision, seed), member=Member(precision, seed))
        for precision in _precisions(case, backends)
        for seed in range(1, ENSEMBLE_SIZE + 1)
    ]
    return [task(runner, runner, reference=states, fault=faults.get(runner)) for runner in runners] + members


def is_done(task: Task) -> bool:
    """Whether a training was done before, in a run that was interrupted; what is left of an unfinished one goes."""
    if (task.out / "end.json").is_file():
        return True
    if task.out.exists():
        shutil.rmtree(task.out)
    return False


def sample_name(runner: str, number: int) -> str:
    """Name the folder of a runner's trace, one of several where it was sampled."""
    return f"{runner}-sample-{number}" if number else runner


def member_name(precision: str, seed: int) -> str:
    """Name the folder of an ensemble member's trace."""
    return f"member-{precision}-{seed}"


def _precisions(case: Case, backends: Sequence[str]) -> list[str]:
    """Which precisions a Keras runner may turn out to compute in; on torch and jax Keras may narrow float64."""
    return ["float64", "float32"] if case.dtype == "float64" and set(backends) - {"tensorflow"} else [case.dtype]
