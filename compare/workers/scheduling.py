"""Which task is given to which worker next, and when another worker is worth its start."""

import shutil
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Protocol

from compare.workers.process import ProcessError
from compare.workers.protocol import Reply, Request
from compare.workers.tasks import Task

# A second worker of the same runner must import the framework again: as long as nothing is known of either, that is
# taken to be as long as a few short trainings.
TASKS_WORTH_A_WORKER = 3

# Whose processes are started first: what compiles the longest, since a run ends with its last training.
SLOWEST_FIRST = ("keras-jax", "keras-tensorflow")

# How many tasks are looked at to find one for an idle worker; no more are drawn from where they come.
LOOKAHEAD = 64


class Channel(Protocol):
    """The way to whatever does a worker's work."""

    heard: float  # when something last came or went, seconds of the monotonic clock

    @property
    def alive(self) -> bool:
        """Whether anything can be asked for."""

    def send(self, request: Request) -> None:
        """Ask for something."""

    def read(self) -> Iterable[Reply]:
        """Read what has arrived; raises ProcessError where nothing can come any more."""

    def end_silent(self, timeout: float) -> ProcessError:
        """End it because nothing came for so many seconds, and return that as an error."""

    def end(self) -> object:
        """End it, if it has not ended."""


@dataclass
class Worker:
    """What works on one task at a time; `ready` when it has imported what it works with."""

    runner: str
    channel: Channel
    task: Task | None = None
    ready: bool = False
    began: float = field(default_factory=time.monotonic)

    def give(self, task: Task) -> None:
        """Give it a task."""
        self.task, self.began = task, time.monotonic()
        self.channel.send(task.request())


@dataclass(frozen=True)
class Choice:
    """What to do next: give a task to a worker, started for it where there is none, or start one without a task."""

    task: Task | None
    runner: str
    worker: Worker | None = None


class Backlog:
    """The tasks of one run that no worker has: drawn as they are needed, given up where what they need has failed."""

    def __init__(self, tasks: Iterable[Task], retries: int) -> None:
        self.waiting: list[Task] = []
        self.failed: set[Path] = set()
        self._coming = iter(tasks)
        self._retries = retries
        self._tries: Counter[Path] = Counter()

    def draw(self) -> list[Task]:
        """Draw tasks until enough are looked at; they do not wait yet."""
        return list(islice(self._coming, max(0, LOOKAHEAD - len(self.waiting))))

    def give_up(self) -> list[Task]:
        """Take out the tasks whose reference has failed, which then have failed too."""
        hopeless = []
        for task in [task for task in self.waiting if task.needs in self.failed]:
            self.waiting.remove(task)
            self.failed.add(task.out)
            hopeless.append(task)
        return hopeless

    def able(self, working: Iterable[Task]) -> list[Task]:
        """The tasks that wait for no other, of those waiting or at work."""
        pending = {task.out for task in [*self.waiting, *working]}
        return [task for task in self.waiting if pending.isdisjoint((task.needs, *task.after))]

    def retry(self, task: Task) -> bool:
        """Have a task wait again, the first of all, unless it was tried too often; what it has written goes."""
        if self._tries[task.out] >= self._retries:
            return False
        self._tries[task.out] += 1
        shutil.rmtree(task.out, ignore_errors=True)
        self.waiting.insert(0, task)
        return True


class Scheduler:
    """Chooses by what the last import and the last task of each runner took, seconds."""

    def __init__(self) -> None:
        self.import_seconds: dict[str, float] = {}
        self.task_seconds: dict[str, float] = {}
        self.died_early: set[str] = set()

    def choose(self, able: Sequence[Task], waiting: Sequence[Task], workers: Sequence[Worker]) -> Choice | None:
        """Choose what to do next: a task for an idle worker, then a worker that is missing, then a second one."""
        for task in able:
            for worker in workers:
                if worker.task is None and worker.runner == task.runner and worker.channel.alive:
                    return Choice(task, task.runner, worker)
        started = {worker.runner for worker in workers}
        for task in sorted(able, key=_rank):
            if task.runner not in started:
                return Choice(task, task.runner)
        for task in sorted(waiting, key=_rank):
            # A task that must still wait finds its framework imported by then.
            if task.runner not in started | self.died_early:
                return Choice(None, task.runner)
        if len(able) >= TASKS_WORTH_A_WORKER:
            runner = able[0].runner
            seconds = self.task_seconds.get(runner, float("inf")) * sum(task.runner == runner for task in able)
            if seconds > self.import_seconds.get(runner, 0):
                return Choice(able[0], runner)
        return None


def _rank(task: Task) -> int:
    return SLOWEST_FIRST.index(task.runner) if task.runner in SLOWEST_FIRST else len(SLOWEST_FIRST)
