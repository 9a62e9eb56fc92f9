"""Worker processes, one for each runner: started, kept warm across tasks, watched, and outlived."""

import contextlib
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Self

from compare.workers.backends import REFERENCE_RUNNER, backend_of, version, worker_environment
from compare.workers.interpreters import interpreter_environment, link_packages

# A second worker of the same runner must import the framework again: as long as nothing is known of either, that is
# taken to be as long as a few short trainings.
TASKS_WORTH_A_WORKER = 3

# How much of a failed runner's log is shown.
LOG_LINES = 12

# Whose processes are started first: what compiles the longest, since a run ends with its last training.
SLOWEST_FIRST = ("keras-jax", "keras-tensorflow")

# How long a process whose output has ended may take to end itself: Python unloads a whole framework.
SECONDS_TO_END = 10

# Not a runner but a process like one: it judges what the runners have written.
JUDGE = "judge"

# How many tasks are looked at to find one for an idle worker; no more are drawn from where they come.
LOOKAHEAD = 64


@dataclass(frozen=True)
class Task:
    """One training for one runner: from a start's folder to a trace's folder.

    With `reference`, the PyTorch side's trace, single steps are taken apart from its states; it must be whole first.
    Trainings of one side with its own dropout masks are numbered by `sample`. A task for the judge comes `after` the
    trainings that it judges, whatever becomes of them, and has the `backends` to judge.
    """

    runner: str
    case: str
    experiment: Path
    out: Path
    reference: Path | None = None
    member: dict[str, Any] | None = None
    fault: str | None = None
    sample: int = 0
    after: tuple[Path, ...] = ()
    backends: tuple[str, ...] = ()

    def message(self, base: Path = Path()) -> dict[str, Any]:
        """What a worker is told; its folders are below `base`."""
        return {
            "experiment": str(base / self.experiment),
            "out": str(base / self.out),
            "reference": None if self.reference is None else str(base / self.reference),
            "member": self.member,
            "fault": self.fault,
            "sample": self.sample,
            "backends": self.backends,
        }

    @property
    def needs(self) -> Path | None:
        """The trace that must be whole before this task can be given to a worker."""
        return None if self.reference == self.out else self.reference


@dataclass(frozen=True)
class Event:
    """What happened to a task: it started, made progress, was done, failed with an error, or is tried again after one.

    `died` where its process ended by itself or was killed by another.
    """

    kind: Literal["started", "progress", "done", "failed", "retried"]
    task: Task
    epoch: int = 0
    loss: float | None = None
    error: str | None = None
    log: str | None = None
    died: bool = False


class Worker:
    """One child process; it works on one task at a time."""

    def __init__(self, runner: str, threads: int, log: Path, temporary: str, interpreter: str | None = None) -> None:
        self.runner = runner
        self.log = log
        self.task: Task | None = None
        self.ready = False
        self.heard = self.began = time.monotonic()
        self._rest = b""
        command = [sys.executable, "-m"]
        environment = worker_environment(runner, threads)
        if interpreter is not None:
            # Nothing of the folder that this was started in may be imported there in place of what is installed.
            command = [interpreter, "-P", "-m"]
            environment = interpreter_environment(runner, threads, link_packages(log.parent / "packages"))
        # TensorFlow leaves a file for every function that it traces where its process is killed.
        environment["TMPDIR"] = temporary
        with log.open("wb") as errors:
            self.process = subprocess.Popen(
                [*command, "compare.workers.training", runner],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment,
                # A Ctrl-C at the terminal reaches the harness alone, which then ends its children in order.
                start_new_session=True,
            )
        assert self.process.stdin is not None  # both are pipes
        assert self.process.stdout is not None
        self.stdin, self.stdout = self.process.stdin, self.process.stdout

    def give(self, task: Task) -> None:
        """Send a task; a worker that has died is noticed when its output ends."""
        self.task = task
        self.heard = self.began = time.monotonic()
        try:
            self.stdin.write(json.dumps(task.message()).encode() + b"\n")
            self.stdin.flush()
        except BrokenPipeError:
            pass

    @property
    def alive(self) -> bool:
        """Whether it can be given a task."""
        return self.process.poll() is None

    def read(self) -> list[dict[str, Any]] | None:
        """Read the events that have arrived; None at the end of its output, when the worker has died."""
        content = os.read(self.stdout.fileno(), 65536)
        if not content:
            return None
        self.heard = time.monotonic()
        *lines, self._rest = (self._rest + content).split(b"\n")
        return [json.loads(line) for line in lines]

    def log_tail(self) -> str:
        """The last lines that the process printed."""
        return "\n".join(self.log.read_text("utf-8", errors="replace").splitlines()[-LOG_LINES:])

    def end(self) -> str:
        """Kill the process if it still runs, and say how it ended."""
        self.process.kill()
        code = self.process.wait()
        with contextlib.suppress(BrokenPipeError):  # a task that was written after the process had died
            self.stdin.close()
        self.stdout.close()
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"


class Pool:
    """Runs tasks on worker processes, at most `jobs` at a time, and keeps idle workers warm for the next call.

    A runner of `interpreters` works in the interpreter given for it, checked by `compare.workers.interpreters`. A task whose
    worker died is tried again `retries` times.
    """

    def __init__(
        self,
        logs: Path,
        jobs: int,
        timeout: float = 600,
        threads: int | None = None,
        interpreters: Mapping[str, str] | None = None,
        retries: int = 0,
    ) -> None:
        self.logs = logs
        self.jobs = jobs
        self.timeout = timeout
        self.retries = retries
        self.threads = threads or max(1, (os.cpu_count() or 1) // jobs)
        self.interpreters = interpreters or {}
        self._workers: list[Worker] = []
        self._started = 0
        self._died_early: set[str] = set()
        # What the last import and the last task of each runner took, seconds.
        self._import_seconds: dict[str, float] = {}
        self._task_seconds: dict[str, float] = {}
        self._selector = selectors.DefaultSelector()
        self._temporary = ""
        self._closing = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self.logs.mkdir(parents=True, exist_ok=True)
        temporary = tempfile.TemporaryDirectory(prefix="rnn-parity-", ignore_cleanup_errors=True)
        self._temporary = self._closing.enter_context(temporary)
        return self

    def __exit__(self, *_: object) -> None:
        for worker in list(self._workers):
            self._drop(worker)
        self._selector.close()
        self._closing.close()

    def run(self, tasks: Iterable[Task]) -> Iterator[Event]:
        """Run the tasks and yield what happens to each; the last event of each task is "done" or "failed".

        A worker that dies, or says nothing for `timeout` seconds, fails its own task only. Tasks are drawn as they are
        needed; one that needs another, or comes after it, is drawn later than that.
        """
        coming = iter(tasks)
        waiting: list[Task] = []
        failed: set[Path] = set()
        tries: Counter[Path] = Counter()
        elsewhere = {JUDGE, *self.interpreters}
        installed = cache(lambda runner: runner in elsewhere or version(backend_of(runner)) is not None)
        while True:
            drawn = list(islice(coming, max(0, LOOKAHEAD - len(waiting))))
            for task in drawn:
                if installed(task.runner):
                    waiting.append(task)
                else:
                    failed.add(task.out)
                    yield Event("failed", task, error=_missing(task.runner))
            if not drawn and not waiting and not self._working():
                return
            for given_up in [task for task in waiting if task.needs in failed]:
                waiting.remove(given_up)
                failed.add(given_up.out)
                yield Event("failed", given_up, error=f"{REFERENCE_RUNNER}, to which it is compared, failed")
            while len(self._busy()) < self.jobs:
                pending = {task.out for task in [*waiting, *(worker.task for worker in self._workers)] if task}
                able = [task for task in waiting if pending.isdisjoint((task.needs, *task.after))]
                chosen, worker = self._choose(able, waiting)
                if worker is None:
                    break
                if chosen is not None:
                    waiting.remove(chosen)
                    worker.give(chosen)
                    yield Event("started", chosen)
            for event in self._listen():
                if event.died and tries[event.task.out] < self.retries:
                    tries[event.task.out] += 1
                    shutil.rmtree(event.task.out, ignore_errors=True)
                    waiting.insert(0, event.task)
                    yield replace(event, kind="retried")
                    continue
                if event.kind == "failed":
                    failed.add(event.task.out)
                yield event

    def _listen(self) -> Iterator[Event]:
        for key, _ in self._selector.select(timeout=0.5):
            yield from self._hear(key.data)
        yield from self._end_the_silent()

    def _end_the_silent(self) -> Iterator[Event]:
        for worker in self._busy():
            if time.monotonic() - worker.heard > self.timeout:
                yield from self._fail(worker, f"said nothing for {self.timeout:g} s and was ended")

    def _working(self) -> list[Worker]:
        return [worker for worker in self._workers if worker.task is not None]

    def _busy(self) -> list[Worker]:
        """The workers that use a core: at a task, or still importing their framework."""
        return [worker for worker in self._workers if worker.task is not None or not worker.ready]

    def _choose(self, able: list[Task], waiting: list[Task]) -> tuple[Task | None, Worker | None]:
        """Choose what to do next: a task and its worker, a worker without a task to warm up, or nothing."""
        for task in able:
            for worker in self._workers:
                if worker.task is None and worker.runner == task.runner and worker.alive:
                    return task, worker
        started = {worker.runner for worker in self._workers}
        for task in sorted(able, key=_rank):
            if task.runner not in started:
                return task, self._start(task.runner)
        for task in sorted(waiting, key=_rank):
            # A task that must still wait finds its framework imported by then.
            if task.runner not in started | self._died_early:
                return None, self._start(task.runner)
        if len(able) >= TASKS_WORTH_A_WORKER:
            runner = able[0].runner
            seconds = self._task_seconds.get(runner, float("inf")) * sum(task.runner == runner for task in able)
            if seconds > self._import_seconds.get(runner, 0):
                return able[0], self._start(runner)
        return None, None

    def _start(self, runner: str) -> Worker:
        self._started += 1
        log = self.logs / f"{runner}-{self._started}.log"
        worker = Worker(runner, self.threads, log, self._temporary, self.interpreters.get(runner))
        self._workers.append(worker)
        self._selector.register(worker.stdout, selectors.EVENT_READ, worker)
        return worker

    def _hear(self, worker: Worker) -> Iterator[Event]:
        events = worker.read()
        if events is None:
            # Its output has ended, and it soon will: how it did is its own answer, not that it was killed here.
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.process.wait(timeout=SECONDS_TO_END)
            yield from self._fail(worker, None)
            return
        for event in events:
            task = worker.task
            if event["event"] == "ready":
                worker.ready = True
                self._import_seconds[worker.runner] = time.monotonic() - worker.began
            if task is None or event["event"] == "ready":
                continue
            if event["event"] == "progress":
                yield Event("progress", task, epoch=event["epoch"], loss=event["loss"])
                continue
            worker.task = None
            if event["event"] == "done":
                self._task_seconds[worker.runner] = time.monotonic() - worker.began
                yield Event("done", task)
            else:
                yield Event("failed", task, error=event["error"])

    def _fail(self, worker: Worker, reason: str | None) -> Iterator[Event]:
        task = worker.task
        log = worker.log_tail()
        how = self._drop(worker)
        if not worker.ready:
            self._died_early.add(worker.runner)
        if task is not None:
            yield Event("failed", task, error=f"the process {reason or how}", log=log, died=reason is None)

    def _drop(self, worker: Worker) -> str:
        self._workers.remove(worker)
        self._selector.unregister(worker.stdout)
        return worker.end()


def _rank(task: Task) -> int:
    return SLOWEST_FIRST.index(task.runner) if task.runner in SLOWEST_FIRST else len(SLOWEST_FIRST)


def _missing(runner: str) -> str:
    backend = backend_of(runner)
    return f"backend {backend} is not installed; python -m pip install {backend}"
