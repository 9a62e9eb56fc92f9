"""A pool whose workers are Ray actors, on other machines or on this one."""

import contextlib
import importlib.util
import os
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from compare.errors import InputError
from compare.workers.backends import BACKENDS, backend_of, version, worker_variables
from compare.workers.child import load_service, reply_to
from compare.workers.pool import TRAINING, WorkerPool
from compare.workers.process import ProcessError
from compare.workers.protocol import Answer, Failed, Ready, Reply, Request
from compare.workers.scheduling import Channel, Worker
from compare.workers.tasks import Task, task_of
from compare.workers.temporary_folder import TemporaryFolder

# Marks of a trace and of a verdict that are whole: written after everything else.
LAST = ("end.json", "verdict.json")

CONNECT_SECONDS = 10.0
LOOPBACK = ("127.0.0.1:", "localhost:")


class Actor:
    """What runs in an actor's process: a service, as in a child process, with files that come and go as bytes."""

    def __init__(self, service: str, runner: str) -> None:
        self.runner = runner
        self.service = load_service(service, runner)

    def version(self) -> str | None:
        """Return the version of what the runner computes with, here."""
        return version_of(self.runner)

    def perform(self, task: Task, files: dict[str, bytes]) -> tuple[Answer | Failed, dict[str, bytes]]:
        """Do a task, whose folders are relative, with these files; return the reply and the files written."""
        with TemporaryFolder() as base:
            write_files(base, files)
            reply = reply_to(self.service, moved(task, base.joinpath).request(), lambda progress: None)
            return reply, read_files(base / task.out, "**/*")


def version_of(runner: str) -> str | None:
    """Return the version of what a runner computes with; None for one of no framework, such as a judge."""
    return version(backend_of(runner)) if backend_of(runner) in BACKENDS else None


def moved(task: Task, move: Callable[[Path], Path]) -> Task:
    """Return a task with its folders elsewhere."""
    reference = None if task.reference is None else move(task.reference)
    return replace(task, experiment=move(task.experiment), out=move(task.out), reference=reference)


def read_files(folder: Path, pattern: str) -> dict[str, bytes]:
    """Read files below a folder, by their path within it."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.glob(pattern) if path.is_file()}


def write_files(folder: Path, files: dict[str, bytes]) -> None:
    """Write files below a folder, those last which mark it whole."""
    for name in sorted(files, key=lambda name: name in LAST):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(files[name])


class RayChannel:
    """An actor as the pool sees it."""

    alive = True  # as far as is known: where an actor is lost, what it was asked for fails

    def __init__(self, ray: Any, service: str, runner: str, threads: int) -> None:
        self.ray, self.runner = ray, runner
        self.heard = time.monotonic()
        self.out = Path()
        actor = ray.remote(Actor).options(
            num_cpus=0,  # the pool limits how many work at a time; those kept warm take no core
            scheduling_strategy="SPREAD",
            runtime_env={"env_vars": worker_variables(runner, threads, device="cpu")},
        )
        self.actor = actor.remote(service, runner)
        # What is still to come: the version first, then what came of each task.
        self.owed = deque([self.actor.version.remote()])
        self.ready = False

    def send(self, request: Request) -> None:
        """Send a task with the files that it needs: all of its case for a judge, else its experiment and its states."""
        self.heard = time.monotonic()
        task = task_of(request)
        case = task.experiment.parent
        files = {f"{case.name}/experiment/{name}": data for name, data in read_files(task.experiment, "*").items()}
        if task.backends:
            files = {f"{case.name}/{name}": data for name, data in read_files(case, "**/*").items()}
        elif task.needs is not None:
            states = read_files(task.needs, "states/*")
            files |= {f"{case.name}/{task.needs.name}/{name}": data for name, data in states.items()}
        self.out = task.out
        self.owed.append(self.actor.perform.remote(moved(task, lambda path: path.relative_to(case.parent)), files))

    def read(self) -> list[Reply]:
        """Take what has arrived; raises InputError where a node has another version than is here."""
        try:
            arrived = self.ray.get(self.owed.popleft())
        except self.ray.exceptions.RayError as lost:
            raise ProcessError(f"ended: {str(lost).strip().splitlines()[0]}", "", died=True) from None
        if not self.ready:
            here = version_of(self.runner)
            if arrived != here:
                raise InputError(f"a node of the cluster has {backend_of(self.runner)} {arrived}, here it is {here}")
            self.ready = True
            return [Ready()]
        reply, files = arrived
        write_files(self.out, files)
        return [reply]

    def end_silent(self, timeout: float) -> ProcessError:
        """End the actor; what it printed is in Ray's logs, on its own machine."""
        self.end()
        return ProcessError(f"said nothing for {timeout:g} s and was ended", "", died=False)

    def end(self) -> None:
        """End the actor."""
        self.ray.kill(self.actor)


class RayPool(WorkerPool):
    """Runs tasks on Ray's cluster at an address, or on one that is started here and heard by this machine alone.

    Nothing is heard of a training before its end, so that `timeout` is for all of it.
    Raises InputError where a cluster does not let it in, or a node has another version of a framework.
    """

    def __init__(
        self, address: str | None, jobs: int, timeout: float, threads: int, retries: int, services: Mapping[str, str]
    ) -> None:
        super().__init__(jobs, timeout, retries, services)
        self.address, self.threads = address, threads
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
        self.ray.shutdown()
        self._redirected.__exit__(None, None, None)

    def open(self, runner: str) -> Channel:
        return RayChannel(self.ray, self.services.get(runner, TRAINING), runner, self.threads)

    def wait(self) -> Iterable[Worker]:
        owing: dict[Any, Worker] = {}
        for worker in self.workers:
            assert isinstance(worker.channel, RayChannel)  # as `open` made it
            if worker.channel.owed:
                owing[worker.channel.owed[0]] = worker
        return [owing[arrived] for arrived in self.ray.wait(list(owing), timeout=0.5)[0]] if owing else []


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
