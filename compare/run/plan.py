"""Which trainings a case takes, and where each leaves its trace."""

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from compare.config.case import Case, with_fields
from compare.errors import InputError
from compare.experiment.experiment import Experiment, make_experiment, write_experiment
from compare.trace.trace import END, damaged_files
from compare.workers.backends import REFERENCE_RUNNER, keras_runner
from compare.workers.tasks import Member, Task

# The largest of four separations is a usable measure of what rounding does, at four short trainings' cost.
ENSEMBLE_SIZE = 4

# The training of the PyTorch side once more, step by step, which must come to the same, bit for bit.
REPETITION = "repetition"

# For whom a fault is planted that is to be in the whole ensemble, as one in the PyTorch side's own code would be.
MEMBERS = "members"

# Trainings of each side where it draws its own dropout masks: how small a difference of their mean losses is found with
# so many is computed, and told, by `compare.judge.distribution`.
SAMPLES = 8

# The folder, beside the samples, of the same case with masks that both sides share.
SHARED_MASKS = "shared-masks"


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


def with_shared_masks(experiment: Experiment) -> Experiment:
    """Return the same experiment for both sides to share their dropout masks, so that steps can be compared."""
    case = experiment.case
    return replace(experiment, case=with_fields(case, {"model.dropout_masks": "shared", "model.sequence_first": False}))


def write_experiments(experiment: Experiment, folder: Path) -> None:
    """Write what the trainings of a case start from into its folder, also of those that share their masks."""
    write_experiment(experiment, folder / "experiment")
    if experiment.case.model.independent_masks:
        write_experiment(with_shared_masks(experiment), folder / SHARED_MASKS / "experiment")


def plan(
    experiment: Experiment, backends: Sequence[str], out: Path, faults: Mapping[str, str] | None = None
) -> list[Task]:
    """List the trainings of one case: the PyTorch side, its ensemble, and a Keras runner for every backend.

    Where each side draws its own dropout masks, every runner trains several samples, and all is trained with shared
    masks as well. `faults` are planted by runner, in no member of the ensemble but those of `MEMBERS`.
    """
    folder = out / experiment.case.name
    if not experiment.case.model.independent_masks:
        return _trainings(experiment, backends, folder, faults)
    return plan_samples(experiment, backends, out, faults) + _trainings(
        with_shared_masks(experiment), backends, folder / SHARED_MASKS, faults
    )


def plan_samples(
    experiment: Experiment, backends: Sequence[str], out: Path, faults: Mapping[str, str] | None = None
) -> list[Task]:
    """List the trainings of a case whose sides draw their own dropout masks, several of each."""
    return _trainings(experiment, backends, out / experiment.case.name, faults)


def _trainings(
    experiment: Experiment, backends: Sequence[str], folder: Path, faults: Mapping[str, str] | None
) -> list[Task]:
    """List the trainings of an experiment by folder of its traces, or the samples of one with independent masks."""
    case = experiment.case
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
    members = {
        member_name(precision, seed): Member(precision, seed)
        for precision in _precisions(case, backends)
        for seed in range(1, ENSEMBLE_SIZE + 1)
    } | {REPETITION: Member(case.dtype, 0, repeats=True)}
    of_reference = [
        task(REFERENCE_RUNNER, name, member=member, fault=faults.get(MEMBERS)) for name, member in members.items()
    ]
    return [task(runner, runner, reference=states, fault=faults.get(runner)) for runner in runners] + of_reference


def remaining(tasks: Iterable[Task], on_damage: Callable[[Task, str], None] = lambda task, message: None) -> list[Task]:
    """List the trainings that were not done before; what is left of an unfinished or a damaged one goes.

    One that was checked from the states of another is done again with it. `on_damage` is told of each that is damaged.
    """
    repeated: list[Task] = []
    for task in tasks:
        damaged = damaged_files(task.out)
        if damaged:
            verb = "is" if len(damaged) == 1 else "are"
            on_damage(task, f"{', '.join(damaged)} {verb} damaged, so that it is trained again")
        elif (task.out / END).is_file() and task.needs not in {other.out for other in repeated}:
            continue
        if task.out.exists():
            shutil.rmtree(task.out)
        repeated.append(task)
    return repeated


def sample_name(runner: str, number: int) -> str:
    """Name the folder of a runner's trace, one of several where it was sampled."""
    return f"{runner}-sample-{number}" if number else runner


def member_name(precision: str, seed: int) -> str:
    """Name the folder of an ensemble member's trace."""
    return f"member-{precision}-{seed}"


def _precisions(case: Case, backends: Sequence[str]) -> list[str]:
    """Which precisions a Keras runner may turn out to compute in; on torch and jax Keras may narrow float64."""
    return ["float64", "float32"] if case.dtype == "float64" and set(backends) - {"tensorflow"} else [case.dtype]
