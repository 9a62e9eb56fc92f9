"""The processes in which a pair's two sides run; kept warm from one pair to the next."""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from compare.errors import InputError
from compare.workers.backends import REFERENCE_RUNNER, keras_runner
from compare.workers.process import ChildProcess, ProcessError
from compare.workers.protocol import Answer, Failed, Reply, Request

SERVICE = "compare.explain.pair_side:PairSide"
THREADS = 1

# How many of a process's last lines are in the message of its end.
LINES_TOLD = 3


class SideError(RuntimeError):
    """A side could not do what it was asked: its code raised, or (`died`) it ended or is itself at fault."""

    def __init__(self, message: str, line: int | None = None, died: bool = False) -> None:
        super().__init__(message)
        self.line, self.died = line, died


class SideProcess:
    """One side's process, which is asked for one thing after the other."""

    def __init__(self, runner: str, timeout: float) -> None:
        self.runner, self.timeout = runner, timeout
        self.process = ChildProcess(SERVICE, runner, THREADS)
        # Replies that are to come: one when the framework is imported, then one for every request.
        self._owed = 1

    def ask(
        self, action: str, tensors: Mapping[str, np.ndarray] | None = None, **options: Any
    ) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Send a request and wait for its answer; raises SideError, and InputError for a mistake in the pair file."""
        self.send(action, tensors, **options)
        return self.receive()

    def send(self, action: str, tensors: Mapping[str, np.ndarray] | None = None, **options: Any) -> None:
        """Send a request; `receive` returns its answer."""
        while self._owed:  # an answer that nobody waited for, since the other side had failed
            self._reply()
        self._owed += 1
        self.process.send(Request(action, options, dict(tensors or {})))

    def receive(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Wait for the answer to what was sent."""
        reply = self._reply()
        if isinstance(reply, Failed):
            if reply.kind == "refused":
                raise InputError(reply.error)
            raise SideError(reply.error, reply.line, died=reply.kind == "defect")
        assert isinstance(reply, Answer)  # a side has no progress to tell
        return reply.facts, reply.tensors

    def _reply(self) -> Reply:
        try:
            reply = self.process.receive(self.timeout)
        except ProcessError as ended:
            told = " ".join(ended.log.splitlines()[-LINES_TOLD:]) if ended.died else ""
            raise SideError(f"the process of {self.runner} {ended.how}{told and ': '}{told}", died=True) from None
        self._owed -= 1
        return reply


class Sides:
    """The two processes of a pair: the Keras side's on one backend and the PyTorch side's."""

    def __init__(self, backend: str, timeout: float = 600) -> None:
        self.backend, self.timeout = backend, timeout
        self._processes: dict[str, SideProcess] = {}

    def __enter__(self) -> Self:
        for runner in (self.keras_runner, REFERENCE_RUNNER):
            self._processes[runner] = SideProcess(runner, self.timeout)
        return self

    def __exit__(self, *_: object) -> None:
        for side in self._processes.values():
            side.process.end()

    def _living(self, runner: str) -> SideProcess:
        side = self._processes[runner]
        if not side.process.alive:
            side.process.end()
            side = self._processes[runner] = SideProcess(runner, self.timeout)
        return side

    @property
    def keras_runner(self) -> str:
        """The name of the Keras side's runner."""
        return keras_runner(self.backend)

    @property
    def keras(self) -> SideProcess:
        """The Keras side's process."""
        return self._living(self.keras_runner)

    @property
    def torch(self) -> SideProcess:
        """The PyTorch side's process."""
        return self._living(REFERENCE_RUNNER)
