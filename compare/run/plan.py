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

# The training of the reference once more, which must come to the same, bit for bit.
REPETITION = "repetition"

# One training of the Keras side, perturbed: it witnesses that the members part by rounding, not by a fault they share.
WITNESS = "member"

# For whom a fault is planted that is to be in the ensemble too, as one in the PyTorch side's own code would be.
MEMBERS = "members"

# Trainings of each side where it draws its own dropout masks: the spread of eight tells a mean that is off by one.
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

    Where each side draws its own dropout masks, every runner trains several samples instead. `faults` are planted by
    runner, in no member of the ensemble but for those of `MEMBERS`.
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
    of_reference = [Member(case.dtype, 0, "repetition")]
    of_reference += [member for precision in _precisions(case, backends) for member in ensemble(case, precision)]
    members = [
        task(REFERENCE_RUNNER, member_name(member), member=member, fault=faults.get(MEMBERS)) for member in of_reference
    ]
    for precision in _precisions(case, backends):
        witness = witness_name(case, backends, precision)
        if witness is not None:
            runner = next(name for name in runners if witness.startswith(name))
            members.append(task(runner, witness, member=Member(precision, 1), fault=faults.get(runner)))
    return [task(runner, runner, reference=states, fault=faults.get(runner)) for runner in runners] + members


def is_of_ensemble(task: Task, precision: str) -> bool:
    """Whether a training is of the PyTorch side's ensemble for a side that computes in a precision."""
    member = task.member
    return (
        task.runner == REFERENCE_RUNNER
        and member is not None
        and member.kind != "repetition"
        and member.precision == precision
    )


def witness_name(case: Case, backends: Sequence[str], precision: str) -> str | None:
    """Name the folder of the one perturbed training of the Keras side, on the backend on which it costs least."""
    narrow = precision != case.dtype
    for backend in ("tensorflow", "jax", "torch"):
        # On TensorFlow alone Keras keeps to float64 where it is asked for.
        if backend in backends and (case.dtype == "float32" or (backend != "tensorflow") == narrow):
            return f"{keras_runner(backend)}-{WITNESS}-{precision}"
    return None


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


def ensemble(case: Case, precision: str) -> list[Member]:
    """List the members for a side that computes in a precision; the last is wide, where the training itself is not.

    A case in float64 that Keras narrows has no wide member: the training that is perturbed is in float64 already.
    """
    wide = case.dtype == precision == "float32"
    return [
        Member(precision, seed, "wide" if wide and seed == ENSEMBLE_SIZE else "perturbed")
        for seed in range(1, ENSEMBLE_SIZE + 1)
    ]


def member_name(member: Member) -> str:
    """Name the folder of an ensemble member's trace."""
    return REPETITION if member.kind == "repetition" else f"member-{member.precision}-{member.seed}"


def _precisions(case: Case, backends: Sequence[str]) -> list[str]:
    """Which precisions a Keras runner may turn out to compute in; on torch and jax Keras may narrow float64."""
    return ["float64", "float32"] if case.dtype == "float64" and set(backends) - {"tensorflow"} else [case.dtype]
