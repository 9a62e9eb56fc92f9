"""The judge's part of a sweep: the traces of one case in, a record of its verdict out."""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from compare.config.case import case_from_json
from compare.experiment.experiment import read_experiment
from compare.judge import Comparison
from compare.run.judging import Failure, Job, judge_failed, judge_job
from compare.storage import read_json, write_json
from compare.workers.backends import REFERENCE_RUNNER, keras_runner
from compare.workers.protocol import Answer, Request, Service
from compare.workers.tasks import task_of

# What became of trainings that failed, by the name of the trace's folder, beside the traces of a case.
FAILURES = "failures.json"
VERDICT = "verdict.json"

# Not a runner but a process like one, and what it does: it judges what the runners have written.
JUDGE = "judge"
SERVICES = {JUDGE: "compare.sweep.judging:load_judge"}


def load_judge(runner: str) -> Service:
    """Return the service of a judge's process, which is of no framework and has no progress to tell."""
    del runner
    return judge_task


def judge_task(request: Request, report: object = None) -> Answer:
    """Judge a case and write its record; what is asked for is a task of a pool."""
    del report
    task = task_of(request)
    task.out.mkdir(exist_ok=True)
    write_json(task.out / VERDICT, judge_case(task.experiment.parent, task.backends))
    return Answer()


def judge_case(folder: Path, backends: Sequence[str]) -> dict[str, Any]:
    """Judge the traces in a case's folder, which has its experiment too, on each backend.

    The record is the same wherever the trainings were made: nothing in it is of a time or a machine.
    """
    one_thread()
    experiment = read_experiment(folder / "experiment", lambda fields: case_from_json(json.dumps(fields)))
    failures = {folder / name: Failure(**failure) for name, failure in (read_json(folder / FAILURES) or {}).items()}
    name = experiment.case.name
    try:
        return record_of(name, judge_job(Job(experiment, backends), folder.parent, failures))
    except Exception as error:
        sides = [(keras_runner(backend), REFERENCE_RUNNER) for backend in backends]
        return record_of(name, judge_failed(error, experiment.case, sides, folder / JUDGE))


def failed_case(name: str, dtype: str, backends: Sequence[str], error: str) -> dict[str, Any]:
    """Make the record of a case that could not be judged."""
    runners = map(keras_runner, backends)
    return record_of(
        name, [Comparison(name, runner, REFERENCE_RUNNER, dtype, "failed", error=error) for runner in runners]
    )


def record_of(name: str, comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """Make a case's record; of what agrees the figures of every tensor are left out, which take most of the space."""
    statuses = {comparison.status for comparison in comparisons if not comparison.expected}
    status = next((status for status in ("differs", "failed", "undecidable") if status in statuses), "agrees")
    brief = [replace(c, tensor_errors=()) if c.status == "agrees" else c for c in comparisons]
    record = {"case": name, "status": status, "comparisons": [comparison.as_json() for comparison in brief]}
    return record | ({"internal_error": True} if any(c.internal_error for c in comparisons) else {})


def training_seconds(folder: Path) -> float:
    """Add up what the trainings of a case took, the compiling within them too."""
    ends = [json.loads(path.read_text("utf-8")) for path in folder.rglob("end.json")]
    return float(sum(end.get("seconds", 0.0) for end in ends))


@cache
def one_thread() -> None:
    """Let NumPy compute with one thread: more are no faster here, and sum in another order."""
    from threadpoolctl import threadpool_limits  # comes with scikit-learn

    threadpool_limits(1)
