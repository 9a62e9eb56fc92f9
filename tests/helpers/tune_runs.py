"""Searches without a framework: a pool whose trainings are predictions that are wrong by what a test says."""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from compare.config.case import case_from_json
from compare.experiment.experiment import read_experiment
from compare.storage import read_json
from compare.trace.trace import TraceWriter
from compare.tune.results import Tried, ranking
from compare.tune.running import Trials
from compare.tune.search import Search, read_search
from compare.tune.study import SharedStudy
from compare.workers.tasks import Event, Task

SMALL = """
case = "lstm"
backends = ["torch"]
[fields]
data.points = 60
data.window = 4
training.epochs = 2
training.batch_size = 16
"""

# By how much the predictions of a case are off; None where its training fails.
Error = Callable[[Any], float | None]


class PretendedPool:
    """A pool that trains nothing; `done` has the folders of its tasks, and after `limit` of them it is killed."""

    def __init__(self, error: Error, jobs: int = 1, limit: int | None = None) -> None:
        self.error, self.jobs, self.limit = error, jobs, limit
        self.done: list[str] = []

    def run(self, tasks: Iterable[Task]) -> Iterator[Event]:
        """Write the trace of each task, unless its case is to fail."""
        for task in tasks:
            if self.limit is not None and len(self.done) >= self.limit:
                raise KeyboardInterrupt
            self.done.append(f"{task.case} {task.runner}")
            facts = read_json(task.experiment / "experiment.json")
            experiment = read_experiment(task.experiment)
            off = self.error(case_from_json(json.dumps(facts["case"])))
            if off is None:
                yield Event("failed", task, error="it broke")
                continue
            predictions = experiment.examples.test.targets + np.float32(off)
            with TraceWriter(task.out, {}, ["loss"]) as trace:
                trace.finish({"predictions": predictions}, {"stopped": None})
            yield Event("done", task)


def search_of(folder: Path, tables: str, *, top: str = "", **replaced: Any) -> Search:
    """Read a search from its tables and the lines above them, which are written into a folder."""
    folder.mkdir(exist_ok=True)
    (folder / "sweep.toml").write_text(top + SMALL + tables)
    return read_search(folder / "sweep.toml", **replaced)


def tried_all(search: Search, out: Path, pool: PretendedPool) -> list[Tried]:
    """Run the trials of a search on a pretended pool; where that is killed, so is what holds the study."""
    shared = SharedStudy(out, search)
    try:
        Trials(shared, pool, lambda line: None).run()  # type: ignore[arg-type]
        return ranking(shared.study, search)
    finally:
        shared._file.close()  # as the system does for a process that is killed
