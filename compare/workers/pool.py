"""Worker processes, one for each runner: started, kept warm across tasks, watched, and outlived."""

import os
import selectors
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Self

from compare.workers.backends import REFERENCE_RUNNER, backend_of, version
from compare.workers.process import ChildProcess, ProcessError
from compare.workers.protocol import Answer, Failed, Progress, Ready, Reply
from compare.workers.scheduling import Backlog, Channel, Scheduler, Worker
from compare.workers.tasks import Event, Task

# What a worker does unless it is told otherwise.
TRAINING = "compare.workers.training:Training"


class WorkerPool(ABC):
    """Runs tasks on workers, at most `jobs` at a time, and keeps idle workers warm for the next call.

    Runners of `services` do what that says, as "module:name"; the others train. A task whose worker died is tried again
    `retries` times.
    """

    def __init__(self, jobs: int, timeout: float, retries: int, services: Mapping[str, str] | None) -> None:
        self.jobs, self.timeout, self.retries = jobs, timeout, retries
        self.services = services or {}
        self.workers: list[Worker] = []
        self._scheduler = Scheduler()

    @abstractmethod
    def open(self, runner: str) -> Channel:
        """Start what does the work of a runner."""

    @abstractmethod
    def wait(self) -> Iterable[Worker]:
        """Wait a moment for workers from which something has arrived."""

    def close(self) -> None:
        """End all workers."""
        for worker in self.workers:
            worker.channel.end()
        self.workers.clear()

    def installed(self, runner: str) -> bool:
        """Whether there is what a runner works with."""
        return runner in self.services or version(backend_of(runner)) is not None

    def run(self, tasks: Iterable[Task]) -> Iterator[Event]:
        """Run the tasks and yield what happens to each; the last event of each task is "done" or "failed".

        A worker that dies, or says nothing for `timeout` seconds, fails its own task only. Tasks are drawn as they are
        needed; one that needs another, or comes after it, is drawn later than that.
        """
        backlog = Backlog(tasks, self.retries)
        installed = cache(self.installed)
        while True:
            drawn = backlog.draw()
            for task in drawn:
                if installed(task.runner):
                    backlog.waiting.append(task)
                else:
                    backlog.failed.add(task.out)
                    yield Event("failed", task, error=_missing(task.runner))
            if not drawn and not backlog.waiting and not self._tasks():
                return
            for task in backlog.give_up():
                yield Event("failed", task, error=f"{REFERENCE_RUNNER}, to which it is compared, failed")
            yield from self._give(backlog)
            for event in self._listen():
                if event.died and backlog.retry(event.task):
                    yield replace(event, kind="retried")
                    continue
                if event.kind == "failed":
                    backlog.failed.add(event.task.out)
                yield event

    def _give(self, backlog: Backlog) -> Iterator[Event]:
        while len(self._busy()) < self.jobs:
            choice = self._scheduler.choose(backlog.able(self._tasks()), backlog.waiting, self.workers)
            if choice is None:
                return
            worker = choice.worker
            if worker is None:
                worker = Worker(choice.runner, self.open(choice.runner))
                self.workers.append(worker)
            if choice.task is not None:
                backlog.waiting.remove(choice.task)
                worker.give(choice.task)
                yield Event("started", choice.task)

    def _tasks(self) -> list[Task]:
        return [worker.task for worker in self.workers if worker.task is not None]

    def _busy(self) -> list[Worker]:
        """The workers that use a core: at a task, or still importing their framework."""
        return [worker for worker in self.workers if worker.task is not None or not worker.ready]

    def _listen(self) -> Iterator[Event]:
        for worker in self.wait():
            try:
                replies = worker.channel.read()
            except ProcessError as ended:
                yield from self._lose(worker, ended)
                continue
            for reply in replies:
                yield from self._hear(worker, reply)
        for worker in self._busy():
            if time.monotonic() - worker.channel.heard > self.timeout:
                yield from self._lose(worker, worker.channel.end_silent(self.timeout))

    def _hear(self, worker: Worker, reply: Reply) -> Iterator[Event]:
        task = worker.task
        seconds = time.monotonic() - worker.began
        if isinstance(reply, Ready):
            worker.ready = True
            self._scheduler.import_seconds[worker.runner] = seconds
        elif task is not None and isinstance(reply, Progress):
            yield Event("progress", task, epoch=reply.epoch, loss=reply.loss)
        elif task is not None:
            worker.task = None
            if isinstance(reply, Answer):
                self._scheduler.task_seconds[worker.runner] = seconds
            yield Event("failed", task, error=reply.error) if isinstance(reply, Failed) else Event("done", task)

    def _lose(self, worker: Worker, ended: ProcessError) -> Iterator[Event]:
        self.workers.remove(worker)
        worker.channel.end()
        if not worker.ready:
            self._scheduler.died_early.add(worker.runner)
        if worker.task is not None:
            yield Event("failed", worker.task, error=f"the process {ended.how}", log=ended.log, died=ended.died)


class Pool(WorkerPool):
    """Runs tasks on child processes, whose logs are kept in a folder; see `WorkerPool`.

    A runner of `interpreters` works in the interpreter given for it, checked by `compare.workers.interpreters`.
    All runners compute on one device.
    """

    def __init__(
        self,
        logs: Path,
        jobs: int,
        timeout: float = 600,
        threads: int | None = None,
        interpreters: Mapping[str, str] | None = None,
        retries: int = 0,
        services: Mapping[str, str] | None = None,
        device: str = "cpu",
    ) -> None:
        super().__init__(jobs, timeout, retries, services)
        self.logs, self.device = logs, device
        self.threads = threads or max(1, (os.cpu_count() or 1) // jobs)
        self.interpreters = interpreters or {}
        self._count = 0

    def __enter__(self) -> Self:
        self.logs.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def installed(self, runner: str) -> bool:
        return runner in self.interpreters or super().installed(runner)

    def open(self, runner: str) -> Channel:
        self._count += 1
        log = self.logs / f"{runner}-{self._count}.log"
        service = self.services.get(runner, TRAINING)
        return ChildProcess(service, runner, self.threads, log, self.interpreters.get(runner), self.device)

    def wait(self) -> Iterable[Worker]:
        with selectors.DefaultSelector() as selector:
            for worker in self.workers:
                assert isinstance(worker.channel, ChildProcess)  # as `open` made it
                selector.register(worker.channel, selectors.EVENT_READ, worker)
            return [key.data for key, _ in selector.select(timeout=0.5)]


def _missing(runner: str) -> str:
    backend = backend_of(runner)
    return f"backend {backend} is not installed; python -m pip install {backend}"
