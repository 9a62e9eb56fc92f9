"""From the traces of a case to its comparisons."""

import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path

from compare.config.case import Case
from compare.experiment.experiment import Experiment
from compare.judge import Comparison, StepReference, judge
from compare.judge.distribution import judge_samples
from compare.known.defects import with_defects
from compare.known.evidence import Evidence
from compare.known.masks import with_missing_mask
from compare.run.plan import (
    ENSEMBLE_SIZE,
    REPETITION,
    SAMPLES,
    SHARED_MASKS,
    member_name,
    sample_name,
    with_shared_masks,
)
from compare.storage import FULL
from compare.trace.trace import Trace, TraceError, damaged_files, read_state, read_trace
from compare.workers.backends import REFERENCE_RUNNER, keras_runner

# Where the traceback of an error of this project's own is kept, in the folder of the results.
ERROR_LOG = "error.log"
INTERNAL_ERROR = "internal error"


@dataclass(frozen=True)
class Failure:
    """Why a task has no whole trace."""

    error: str
    log: str | None


@dataclass(frozen=True)
class Job:
    """One case to be compared on some backends, with faults planted by runner and kernels required by runner."""

    experiment: Experiment
    backends: Sequence[str]
    faults: Mapping[str, str] = field(default_factory=dict)
    kernels: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of the case, by which a run knows it."""
        return self.experiment.case.name


def judge_job(job: Job, out: Path, failures: Mapping[Path, Failure]) -> list[Comparison]:
    """Judge the traces of a case on each of its backends; `failures` are of trainings, by the folder of the trace."""
    traces = _Traces(job, out / job.name, TraceReader(failures))
    comparisons = (traces.compare(keras_runner(backend)) for backend in job.backends)
    notes = job.experiment.examples.notes
    return [replace(comparison, data_notes=notes) for comparison in comparisons]


def judge_failed(error: Exception, case: Case, sides: Iterable[tuple[str, str]], out: Path) -> list[Comparison]:
    """Say of each runner and its reference that they could not be judged; the traceback is added to a log in `out`.

    Raises the error where it is of a full disk.
    """
    if isinstance(error, OSError) and error.errno in FULL:
        raise error
    text = "".join(traceback.format_exception(error))
    log = out / ERROR_LOG
    with log.open("a", encoding="utf-8") as lines:
        lines.write(f"judging {case.name}\n{text}")
    message = f"{INTERNAL_ERROR}: {type(error).__name__}: {error}; please report it with {log}"
    failed = Comparison(case.name, "", "", case.dtype, "failed", error=message, log=text, internal_error=True)
    return [replace(failed, runner=runner, reference=reference) for runner, reference in sides]


@lru_cache(maxsize=2)  # the runners of a case are judged one after the other, against the same references
def step_references(experiment: Experiment, reference: Path, precision: str) -> list[StepReference]:
    """Compute what the checked steps should give, from the PyTorch side's states."""
    states = {step: read_state(reference, step) for step in experiment.recorded_steps}
    return [StepReference(experiment, step, *state, precision) for step, state in states.items() if state is not None]


def with_causes(
    case: Case, comparison: Comparison, traces: Sequence[Trace], references: Sequence[StepReference] | None
) -> Comparison:
    """Name why a comparison differs where that is known and proved by the checked steps of both traces."""
    records = {trace.manifest["runner"]: trace.single_step for trace in traces}
    evidence = Evidence(references or (), records)
    named = with_defects(case, comparison, evidence)
    return named if named.causes else with_missing_mask(named, evidence)


class FailedError(Exception):
    """A training that a comparison needs has failed, or its trace cannot be read."""

    def __init__(self, error: str, log: str | None = None) -> None:
        super().__init__(error)
        self.log = log


def failed_comparison(case: Case, runner: str, reference: str, error: FailedError | TraceError) -> Comparison:
    """Say that a comparison cannot be made, and which defect of a framework keeps it from that where one does."""
    failed = Comparison(case.name, runner, reference, case.dtype, "failed", error=str(error))
    return with_defects(case, replace(failed, log=error.log if isinstance(error, FailedError) else None))


class TraceReader:
    """Reads traces, each once: the PyTorch side and its ensemble are compared with each of the others.

    `failures` are of trainings, by the folder of the trace. Raises FailedError for what was not trained to its end or
    is not as it was written, and TraceError for what is no trace.
    """

    def __init__(self, failures: Mapping[Path, Failure]) -> None:
        self._failures = failures
        self._traces: dict[Path, Trace] = {}

    def __call__(self, folder: Path) -> Trace:
        """Read the trace in a folder."""
        self.refuse_failed(folder)
        if folder not in self._traces:
            damaged = damaged_files(folder)
            if damaged:
                raise FailedError(f"the trace of {folder.name} is damaged: {', '.join(damaged)}")
            self._traces[folder] = read_trace(folder)
        return self._traces[folder]

    def refuse_failed(self, *folders: Path) -> None:
        """Raise FailedError for the first of the trainings that has failed."""
        for folder in folders:
            if folder in self._failures:
                failure = self._failures[folder]
                raise FailedError(f"{folder.name}: {failure.error}", failure.log)


class _Traces:
    """The traces of one case."""

    def __init__(self, job: Job, folder: Path, read: TraceReader) -> None:
        self.job, self.folder, self.read = job, folder, read

    def compare(self, runner: str) -> Comparison:
        """Compare a runner with the PyTorch side."""
        case = self.job.experiment.case
        try:
            return self._compare_samples(runner) if case.model.independent_masks else self._compare(runner)
        except (FailedError, TraceError) as error:
            return failed_comparison(case, runner, REFERENCE_RUNNER, error)

    def _compare_samples(self, runner: str) -> Comparison:
        sides = (REFERENCE_RUNNER, runner)
        folders = [[self.folder / sample_name(side, number) for number in range(SAMPLES)] for side in sides]
        self.read.refuse_failed(*folders[0], *folders[1])
        expected, obtained = (list(map(self.read, of_side)) for of_side in folders)
        return judge_samples(expected, obtained, self.job.experiment, self._shared_masks._compare(runner))

    @cached_property
    def _shared_masks(self) -> "_Traces":
        """The traces of the same case with masks that both sides share."""
        job = replace(self.job, experiment=with_shared_masks(self.job.experiment))
        return _Traces(job, self.folder / SHARED_MASKS, self.read)

    def _compare(self, runner: str) -> Comparison:
        experiment = self.job.experiment
        folders = self.folder / REFERENCE_RUNNER, self.folder / runner
        self.read.refuse_failed(*folders)
        expected, obtained = map(self.read, folders)
        precision = obtained.manifest["precision"]
        members = [self.read(self.folder / member_name(precision, seed)) for seed in range(1, ENSEMBLE_SIZE + 1)]
        for trace in (expected, obtained):
            side, kernel = trace.manifest["runner"], trace.manifest["execution"]["kernel"]
            if self.job.kernels.get(side, kernel) != kernel:
                raise FailedError(f"{side} ran the kernel {kernel!r}, {self.job.kernels[side]!r} was required")
        references = None
        if not experiment.case.training.stock:
            references = step_references(experiment, self.folder / REFERENCE_RUNNER, precision)
        repetition = self.read(self.folder / REPETITION)
        comparison = judge(expected, obtained, members, experiment, references, repetition=repetition)
        return with_causes(experiment.case, comparison, (expected, obtained), references)
