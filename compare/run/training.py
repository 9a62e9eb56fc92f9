"""From experiments to a verdict: runners put to work, each case judged when its traces are whole."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from compare.experiment.experiment import Experiment
from compare.judge import Comparison, Verdict
from compare.judge.folds import summarise_folds
from compare.run.judging import Failure, Job, judge_failed, judge_job
from compare.run.plan import plan, remaining, write_experiments
from compare.storage import write_json
from compare.workers.backends import REFERENCE_RUNNER, keras_runner
from compare.workers.pool import Pool
from compare.workers.tasks import Event, Task


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

    A fault, given by runner as FILE.py:function, is planted in that runner after its experiment was hashed. A runner
    that ran another kernel than the one required of it has failed.
    """
    jobs = [Job(experiment, backends, faults or {}, kernels or {}) for experiment in experiments]
    comparisons = run_jobs(jobs, out, pool, on_event)
    verdict = Verdict(comparisons, summarise_folds([experiment.case for experiment in experiments], comparisons))
    write_json(out / "verdict.json", verdict.as_json())
    return verdict


def run_jobs(
    jobs: Sequence[Job],
    out: Path,
    pool: Pool,
    on_event: Callable[[Event], None] = lambda event: None,
    log_folder: Path | None = None,
) -> list[Comparison]:
    """Train the cases of all jobs, side by side, and judge each on each of its backends.

    The log of an error of this project's own goes into `log_folder`, by default `out`; it fails its own case alone.
    A case is judged as soon as its traces are whole, in a thread, so that little is left when the last training ends.
    """
    by_name = {job.name: job for job in jobs}
    for job in jobs:
        write_experiments(job.experiment, out / job.name)
    notes: dict[str, list[str]] = {name: [] for name in by_name}

    def on_damage(task: Task, message: str) -> None:
        notes[task.case].append(f"{task.out.name}: {message}")
        on_event(Event("retried", task, error=message))

    tasks = [
        task
        for job in jobs
        for task in remaining(plan(job.experiment, job.backends, out, job.faults), on_damage)
    ]  # fmt: skip
    waiting = {name: {task.out for task in tasks if task.case == name} for name in by_name}
    failures: dict[Path, Failure] = {}
    executor = ThreadPoolExecutor(1)

    def judged(name: str) -> Future[list[Comparison]]:
        return executor.submit(_judge, by_name[name], out, failures, notes[name], log_folder or out)

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
        executor.shutdown(wait=False, cancel_futures=True)


def _judge(
    job: Job, out: Path, failures: Mapping[Path, Failure], notes: Sequence[str], log_folder: Path
) -> list[Comparison]:
    """Judge a case; an error of this project's own fails its comparisons and no others."""
    try:
        comparisons = judge_job(job, out, failures)
    except Exception as error:
        sides = [(keras_runner(backend), REFERENCE_RUNNER) for backend in job.backends]
        return judge_failed(error, job.experiment.case, sides, log_folder)
    return [replace(comparison, notes=[*comparison.notes, *notes]) for comparison in comparisons]
