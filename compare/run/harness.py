"""From cases to a verdict: starts prepared, runners put to work, traces judged."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from pathlib import Path

from compare.config.case import Case
from compare.errors import InputError
from compare.experiment.experiment import Experiment, make_experiment, write_experiment
from compare.judge import Comparison, StepReference, Verdict, judge
from compare.judge.distribution import judge_samples
from compare.judge.folds import summarise_folds
from compare.known.defects import with_defects
from compare.storage import read_json, write_json
from compare.trace.trace import Trace, TraceError, read_state, read_trace
from compare.workers.backends import REFERENCE_RUNNER, keras_runner, versions_of
from compare.workers.pool import Event, Pool, Task

# Four twins: the largest of four separations is a usable measure of what rounding does, at four short trainings' cost.
ENSEMBLE_SIZE = 4

# Trainings of each side where it draws its own dropout masks: the spread of eight tells a mean that is off by one.
SAMPLES = 8

# What a run compares, by which it is known again.
RUN_FILE = "run.json"

# What a runner's recurrent layers may run as; torch_models.execution and keras_models.execution tell which.
KERNELS = ("cudnn", "onednn", "bptt", "fused", "loop", "python-loop", "scan", "while-loop", "unrolled")


@dataclass(frozen=True)
class Failure:
    """Why a task has no whole trace."""

    error: str
    log: str | None


def prepare(cases: Sequence[Case]) -> list[Experiment]:
    """Make the starts of cases before anything is written.

    Raises InputError for data that cannot be used, two cases of one name, or none.
    """
    if not cases:
        raise InputError("no case was given")
    names = [case.name for case in cases]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"two cases are named {name!r}; give each case its own name")
    return [make_experiment(case) for case in cases]


def create_out(out: Path, cases: Sequence[Case], backends: Sequence[str]) -> None:
    """Create the folder of a run, or find the same run in it, whose finished trainings need not be repeated.

    Raises InputError where it cannot be written or holds something else.
    """
    create_folder(out, RUN_FILE)
    run = {"cases": [json.loads(case.to_json()) for case in cases], "versions": versions_of(backends)}
    if (out / RUN_FILE).exists() and read_json(out / RUN_FILE) != run:
        raise InputError(f"--out {out} is not empty; it may hold another run: give a new folder")
    try:
        write_json(out / RUN_FILE, run)
    except OSError as error:
        raise InputError(f"--out {out} cannot be written: {error.strerror}") from None


def create_folder(out: Path, known: str = "") -> None:
    """Create a folder for results, or find one that is empty or holds the file `known`.

    Raises InputError where it cannot be created or holds anything else.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()) and not (known and (out / known).exists()):
            raise InputError(f"--out {out} is not empty; it may hold another run: give a new folder")
    except OSError as error:
        raise InputError(f"--out {out} cannot be written: {error.strerror}") from None


def plan(
    experiment: Experiment, backends: Sequence[str], out: Path, faults: Mapping[str, str] | None = None
) -> list[Task]:
    """List the trainings of one case: the PyTorch side, its twins, and a Keras runner for every backend."""
    case = experiment.case
    folder = out / case.name

    def task(runner: str, name: str, member: dict[str, object] | None = None) -> Task:
        # With stock settings the two sides are not meant to take the same step: only the journey is compared.
        reference = None if member or case.training.stock else folder / REFERENCE_RUNNER
        fault = None if member else (faults or {}).get(runner)
        return Task(runner, case.name, folder / "experiment", folder / name, reference, member, fault)

    runners = (REFERENCE_RUNNER, *map(keras_runner, backends))
    if case.model.independent_masks:
        return [
            Task(
                runner,
                case.name,
                folder / "experiment",
                folder / _sample(runner, number),
                sample=number,
                fault=(faults or {}).get(runner),
            )
            for number in range(SAMPLES)
            for runner in runners
        ]
    tasks = [task(runner, runner) for runner in runners]
    for precision in _precisions(case, backends):
        for seed in range(1, ENSEMBLE_SIZE + 1):
            tasks.append(task(REFERENCE_RUNNER, _member(precision, seed), {"precision": precision, "seed": seed}))
    return tasks


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


def run_cases(
    experiments: Sequence[Experiment],
    backends: Sequence[str],
    out: Path,
    pool: Pool,
    on_event: Callable[[Event], None] = lambda event: None,
    faults: Mapping[str, str] | None = None,
    kernels: Mapping[str, str] | None = None,
) -> Verdict:
    """Train every case on both sides, judge, and write `verdict.json` into `out`, a folder that exists.

    A fault, given by runner as FILE.py:function, is planted in that runner after its start was hashed. A runner that
    ran another kernel than the one required of it has failed.
    """
    jobs = [Job(experiment, backends, faults or {}, kernels or {}) for experiment in experiments]
    comparisons = run_jobs(jobs, out, pool, on_event)
    verdict = Verdict(comparisons, summarise_folds([experiment.case for experiment in experiments], comparisons))
    write_json(out / "verdict.json", verdict.as_json())
    return verdict


def run_jobs(
    jobs: Sequence[Job], out: Path, pool: Pool, on_event: Callable[[Event], None] = lambda event: None
) -> list[Comparison]:
    """Train the cases of all jobs, side by side, and judge each on each of its backends.

    A case is judged as soon as its traces are whole, in a thread, so that little is left when the last training ends.
    """
    waiting: dict[str, set[Path]] = {}
    tasks = []
    for job in jobs:
        write_experiment(job.experiment, out / job.name / "experiment")
        of_job = [task for task in plan(job.experiment, job.backends, out, job.faults) if not is_done(task)]
        waiting[job.name] = {task.out for task in of_job}
        tasks += of_job
    failures: dict[Path, Failure] = {}
    by_name = {job.name: job for job in jobs}
    judge = ThreadPoolExecutor(1)

    def judged(name: str) -> Future[list[Comparison]]:
        return judge.submit(judge_job, by_name[name], out, failures)

    try:
        comparisons = {name: judged(name) for name in by_name if not waiting[name]}
        for event in pool.run(tasks):
            if event.kind == "failed":
                failures[event.task.out] = Failure(event.error or "unknown", event.log)
            if event.kind in ("done", "failed"):
                name = event.task.case
                waiting[name].remove(event.task.out)
                if not waiting[name]:
                    comparisons[name] = judged(name)
            on_event(event)
        return [comparison for name in by_name for comparison in comparisons[name].result()]
    finally:
        judge.shutdown(wait=False, cancel_futures=True)


def judge_job(job: Job, out: Path, failures: Mapping[Path, Failure]) -> list[Comparison]:
    """Judge the traces of a case on each of its backends; `failures` are of trainings, by the folder of the trace."""
    found = []
    read = cache(read_trace)  # the PyTorch side and its twins are compared with each of the others
    for backend in job.backends:
        comparison = _compare(job, keras_runner(backend), out, failures, read)
        comparison = replace(comparison, data_notes=job.experiment.examples.notes)
        found.append(with_defects(job.experiment.case, comparison))
    return found


def is_done(task: Task) -> bool:
    """Whether a training was done before, in a run that was interrupted; what is left of an unfinished one goes."""
    if (task.out / "end.json").is_file():
        return True
    if task.out.exists():
        shutil.rmtree(task.out)
    return False


def _compare(
    job: Job, runner: str, out: Path, failures: Mapping[Path, Failure], read: Callable[[Path], Trace]
) -> Comparison:
    experiment, case = job.experiment, job.experiment.case
    folder = out / case.name

    def failed(error: str, log: str | None = None) -> Comparison:
        return Comparison(case.name, runner, REFERENCE_RUNNER, case.dtype, "failed", error=error, log=log)

    samples = range(SAMPLES if case.model.independent_masks else 1)
    for name in [_sample(side, number) for side in (REFERENCE_RUNNER, runner) for number in samples]:
        if folder / name in failures:
            failure = failures[folder / name]
            return failed(f"{name}: {failure.error}", failure.log)
    try:
        if case.model.independent_masks:
            left, right = (
                [read(folder / _sample(side, number)) for number in samples] for side in (REFERENCE_RUNNER, runner)
            )
            return judge_samples(left, right, experiment)
        expected, obtained = read(folder / REFERENCE_RUNNER), read(folder / runner)
        names = [_member(obtained.manifest["precision"], seed) for seed in range(1, ENSEMBLE_SIZE + 1)]
        for name in names:
            if folder / name in failures:
                return failed(f"{name} of {REFERENCE_RUNNER}: {failures[folder / name].error}")
        members = [read(folder / name) for name in names]
    except TraceError as error:
        return failed(str(error))
    for trace in (expected, obtained):
        side, kernel = trace.manifest["runner"], trace.manifest["execution"]["kernel"]
        if job.kernels.get(side, kernel) != kernel:
            return failed(f"{side} ran the kernel {kernel!r}, {job.kernels[side]!r} was required")
    references = None
    if not case.training.stock:
        references = step_references(experiment, folder / REFERENCE_RUNNER, obtained.manifest["precision"])
    return judge(expected, obtained, members, experiment, references)


@lru_cache(maxsize=2)  # the runners of a case are judged one after the other, against the same references
def step_references(experiment: Experiment, reference: Path, precision: str) -> list[StepReference]:
    """Compute what the steps that were taken apart should give, from the PyTorch side's states."""
    found = []
    for step in experiment.recorded_steps:
        state = read_state(reference, step)
        if state is not None:
            found.append(StepReference(experiment, step, *state, precision))
    return found


def _precisions(case: Case, backends: Sequence[str]) -> list[str]:
    """Which precisions a Keras runner may turn out to compute in; on torch and jax Keras may narrow float64."""
    return ["float64", "float32"] if case.dtype == "float64" and set(backends) - {"tensorflow"} else [case.dtype]


def _sample(runner: str, number: int) -> str:
    return f"{runner}-sample-{number}" if number else runner


def _member(precision: str, seed: int) -> str:
    return f"member-{precision}-{seed}"
