"""A pool whose workers are Ray actors, on other machines or on this one."""

import contextlib
import importlib.util
import os
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from compare.errors import InputError
from compare.workers.backends import backend_of, version, worker_variables
from compare.workers.pool import JUDGE, Event, Pool, Task

# Marks of a trace and of a verdict that are whole: written after everything else.
LAST = ("end.json", "verdict.json")

CONNECT_SECONDS = 10.0
LOOPBACK = ("127.0.0.1:", "localhost:")


class Actor:
    """What runs in an actor's process: the same as in a worker's, with files that come and go as bytes."""

    def __init__(self, runner: str) -> None:
        from compare.workers.training import load_runner

        self.runner = runner
        self.serve = load_runner(runner)

    def version(self) -> str | None:
        """Return the version of what the runner computes with, here."""
        return None if self.runner == JUDGE else version(backend_of(self.runner))

    def perform(self, task: Task, given: dict[str, bytes]) -> tuple[str | None, dict[str, bytes]]:
        """Do a task, whose folders are relative, with the files given; return its error, if any, and what it wrote."""
        error = None
        with tempfile.TemporaryDirectory() as folder:
            base = Path(folder)
            write_files(base, given)
            try:
                self.serve(task.message(base), self.runner, lambda event: None)
            except Exception as raised:  # as in a worker: whatever a framework raises is the result
                traceback.print_exc()
                error = f"{type(raised).__name__}: {raised}"
            return error, read_files(base / task.out, "**/*")


def read_files(folder: Path, pattern: str) -> dict[str, bytes]:
    """Read files below a folder, by their path within it."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.glob(pattern) if path.is_file()}


def write_files(folder: Path, files: dict[str, bytes]) -> None:
    """Write files below a folder, those last which mark it whole."""
    for name in sorted(files, key=lambda name: name in LAST):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(files[name])


class RayWorker:
    """An actor as the pool sees it."""

    def __init__(self, ray: Any, runner: str, threads: int) -> None:
        self.ray = ray
        self.runner = runner
        self.task: Task | None = None
        self.ready = False
        self.alive = True
        self.ended = ""
        self.heard = time.monotonic()
        actor = ray.remote(Actor).options(
            num_cpus=0,  # the pool limits how many work at a time; those kept warm take no core
            scheduling_strategy="SPREAD",
            runtime_env={"env_vars": worker_variables(runner, threads)},
        )
        self.actor = actor.remote(runner)
        self.answer = self.actor.version.remote()

    def give(self, task: Task) -> None:
        """Take a task, and send it as soon as the actor is ready."""
        self.task = task
        if self.ready:
            self.send(task)

    def send(self, task: Task) -> None:
        """Send a task with the files that it needs: all of its case for the judge, else its start and its states."""
        self.heard = time.monotonic()
        case = task.experiment.parent
        files = {f"{case.name}/experiment/{name}": data for name, data in read_files(task.experiment, "*").items()}
        if task.runner == JUDGE:
            files = {f"{case.name}/{name}": data for name, data in read_files(case, "**/*").items()}
        elif task.needs is not None:
            states = read_files(task.needs, "states/*")
            files |= {f"{case.name}/{task.needs.name}/{name}": data for name, data in states.items()}
        base = case.parent
        sent = replace(
            task,
            experiment=task.experiment.relative_to(base),
            out=task.out.relative_to(base),
            reference=None if task.reference is None else task.reference.relative_to(base),
            after=(),
        )
        self.answer = self.actor.perform.remote(sent, files)

    def log_tail(self) -> str:
        """Nothing: what an actor prints is in Ray's logs, on its own machine."""
        return ""


class RayPool(Pool):
    """Runs tasks on Ray's cluster at an address, or on one that is started here and heard by this machine alone.

    Nothing is heard of a training before its end, so that `timeout` is for all of it.
    Raises InputError where a cluster does not let it in, or a node has another version of a framework.
    """

    def __init__(self, address: str | None, jobs: int, timeout: float, threads: int, retries: int) -> None:
        super().__init__(Path(), jobs, timeout, threads, retries=retries)
        self.address = address
        # Ray tells of a lost worker on standard output, where results alone belong.
        self._redirected = contextlib.redirect_stdout(sys.stderr)

    def __enter__(self) -> Self:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # Ray's own tokens for a GPU would hide it from workers that reserve none.
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        if self.address is None or self.address.startswith(LOOPBACK):
            # So Ray calls its one switch for "on this machine alone"; else it would listen on every network.
            os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        import ray

        self.ray: Any = ray
        started_here = {"num_cpus": self.jobs, "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        try:
            self.ray.init(self.address or "local", **options, **({} if self.address else started_here))
        except (ConnectionError, RuntimeError, ValueError) as error:
            line = str(error).strip().splitlines()[0]
            raise InputError(f"--address {self.address}: no Ray cluster can be used there: {line}") from None
        self._redirected.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._selector.close()
        self.ray.shutdown()
        self._redirected.__exit__(None, None, None)

    def _start(self, runner: str) -> Any:
        worker: Any = RayWorker(self.ray, runner, self.threads)
        self._workers.append(worker)
        return worker

    def _listen(self) -> Iterator[Event]:
        workers: list[Any] = self._busy()
        answers = {worker.answer: worker for worker in workers}
        for answer in self.ray.wait(list(answers), timeout=0.5)[0] if answers else ():
            yield from self._take(answers[answer])
        yield from self._end_the_silent()

    def _take(self, worker: Any) -> Iterator[Event]:
        try:
            answer = self.ray.get(worker.answer)
        except self.ray.exceptions.RayError as lost:
            worker.ended = f"ended: {str(lost).strip().splitlines()[0]}"
            yield from self._fail(worker, None)
            return
        if not worker.ready:
            self._check(worker, answer)
            worker.ready = True
            if worker.task is not None:
                worker.send(worker.task)
            return
        error, files = answer
        task, worker.task = worker.task, None
        write_files(task.out, files)
        yield Event("done", task) if error is None else Event("failed", task, error=error)

    def _check(self, worker: Any, found: str | None) -> None:
        here = None if worker.runner == JUDGE else version(backend_of(worker.runner))
        if found != here:
            raise InputError(f"a node of the cluster has {backend_of(worker.runner)} {found}, here it is {here}")

    def _drop(self, worker: Any) -> str:
        self._workers.remove(worker)
        self.ray.kill(worker.actor)
        return worker.ended


def check_ray(address: str | None) -> None:
    """Raise InputError where Ray is missing, or nothing answers at an address; Ray itself would wait for minutes."""
    if importlib.util.find_spec("ray") is None:
        raise InputError("--on ray needs Ray, which is not installed; python -m pip install 'rnn-parity[ray]'")
    if address is None or address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise InputError(f"--address {address} is not HOST:PORT, ray://HOST:PORT or auto")
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise InputError(f"--address {address}: no Ray cluster answers there: {error}") from None
