"""The cases of a sweep as tasks of a pool: their trainings, and their judging after these."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from compare.run.plan import plan, remaining, write_experiments
from compare.storage import read_json, write_json
from compare.sweep.grid import Point, Sweep
from compare.sweep.judging import FAILURES, JUDGE, VERDICT, failed_case, training_seconds
from compare.sweep.results import Record
from compare.workers.pool import WorkerPool
from compare.workers.tasks import Task

# The folder of the traces of cases that are under way, and of those that do not agree.
TRACES = "traces"


class PooledSweep:
    """Trains and judges cases on a pool of workers; yields the record of each as it is done.

    The traces of a case stay until it is judged, so that no training is repeated where a sweep goes on, and go where it
    agrees.
    """

    def __init__(self, sweep: Sweep, out: Path, pool: WorkerPool, on: str, say: Callable[[str], None]) -> None:
        self.sweep = sweep
        self.traces = out / TRACES
        self.pool = pool
        self.on = on
        self.say = say
        self.retried: dict[str, list[str]] = {}
        self.failures: dict[str, dict[str, Any]] = {}
        self.dtypes: dict[str, str] = {}

    def run(self, points: Sequence[Point]) -> Iterator[Record]:
        """Run cases."""
        for event in self.pool.run(task for point in points for task in self._tasks(point)):
            task = event.task
            if event.kind == "retried":
                self.retried.setdefault(task.case, []).append(f"{task.out.name}: {event.error}")
                self.say(f"{task.case} {task.out.name}: {event.error}; it is tried again")
            if event.kind == "failed" and task.runner != JUDGE:
                failures = self.failures.setdefault(task.case, {})
                failures[str(task.out.relative_to(self.traces / task.case))] = {
                    "error": event.error or "unknown",
                    "log": event.log,
                }
                write_json(self.traces / task.case / FAILURES, failures)
            if task.runner == JUDGE and event.kind in ("done", "failed"):
                yield self._record(task, event.error)

    def _tasks(self, point: Point) -> Iterator[Task]:
        folder = self.traces / point.name
        self.dtypes[point.name] = point.fields["dtype"]
        # What was judged before is judged again: it may have been a failure that is tried once more.
        for left in (folder / JUDGE, folder / FAILURES):
            shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)
        experiment = self.sweep.experiment(point)
        write_experiments(experiment, folder)
        trainings = plan(experiment, self.sweep.backends, self.traces)
        yield from remaining(trainings, self._on_damage)
        yield Task(
            JUDGE,
            point.name,
            folder / "experiment",
            folder / JUDGE,
            after=tuple(task.out for task in trainings),
            backends=tuple(self.sweep.backends),
        )

    def _on_damage(self, task: Task, message: str) -> None:
        self.retried.setdefault(task.case, []).append(f"{task.out.name}: {message}")
        self.say(f"{task.case} {task.out.name}: {message}")

    def _record(self, task: Task, error: str | None) -> Record:
        record = read_json(task.out / VERDICT)
        if record is None:
            reason = f"the judge: {error or 'no verdict was written'}"
            record = failed_case(task.case, self.dtypes[task.case], self.sweep.backends, reason)
        record["run"] = {
            "on": self.on,
            "seconds": training_seconds(self.traces / task.case),
            "retried": self.retried.pop(task.case, []),
        }
        self.failures.pop(task.case, None)
        return record
