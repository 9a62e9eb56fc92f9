"""The processes in which a pair's two sides run; kept warm from one pair to the next."""

from collections.abc import Callable
from typing import Any, Self

from compare.errors import InputError
from compare.explain.nested import packed, unpacked
from compare.workers.backends import REFERENCE_RUNNER, keras_runner
from compare.workers.process import ChildProcess, ProcessError
from compare.workers.protocol import Answer, Doing, Failed, Reply, Request

SERVICE = "compare.explain.pair_side:PairSide"
THREADS = 1

# How many of a process's last lines are in the message of its end.
LINES_TOLD = 3

# How many seconds more than its budget a trial may be silent before its process is ended: compiled code hears no alarm.
GRACE = 20.0


class SideError(RuntimeError):
    """A side could not do what it was asked: its code raised, or (`died`) it ended or is itself at fault."""

    def __init__(self, message: str, line: int | None = None, died: bool = False) -> None:
        super().__init__(message)
        self.line, self.died = line, died


class SideProcess:
    """One side's process, which is asked for one thing after the other; `on_doing` hears what it is at."""

    def __init__(self, runner: str, timeout: float, on_doing: Callable[[str], None], service: str = SERVICE) -> None:
        self.runner, self.timeout, self.on_doing = runner, timeout, on_doing
        self.process = ChildProcess(service, runner, THREADS)
        self.doing = Doing("")
        # Replies that are to come: one when the framework is imported, then one for every request.
        self._owed = 1

    def ask(self, action: str, **options: Any) -> Any:
        """Send a request and wait for its answer; raises SideError, and InputError for a mistake in the pair file."""
        self.send(action, **options)
        return self.receive()

    def send(self, action: str, **options: Any) -> None:
        """Send a request; `receive` returns its answer."""
        while self._owed:  # an answer that nobody waited for, since the other side had failed
            self._reply()
        self._owed += 1
        self.process.send(Request(action, *packed(options)))

    def receive(self) -> Any:
        """Wait for the answer to what was sent."""
        reply = self._reply()
        if isinstance(reply, Failed):
            if reply.kind == "refused":
                raise InputError(reply.error)
            raise SideError(reply.error, reply.line, died=reply.kind == "defect")
        assert isinstance(reply, Answer)
        return unpacked(reply.facts["tree"], reply.tensors)

    @property
    def trial(self) -> str:
        """The counterfactual that it is at, or died in; empty where it is at none."""
        return self.doing.what if self.doing.seconds is not None else ""

    def _reply(self) -> Reply:
        while True:
            limit = self.timeout if self.doing.seconds is None else self.doing.seconds + GRACE
            try:
                reply = self.process.receive(limit)
            except ProcessError as ended:
                told = " ".join(ended.log.splitlines()[-LINES_TOLD:]) if ended.died else ""
                raise SideError(f"the process of {self.runner} {ended.how}{told and ': '}{told}", died=True) from None
            if not isinstance(reply, Doing):
                self._owed -= 1
                return reply
            self.doing = reply
            if reply.what:
                self.on_doing(reply.what)


class Sides:
    """The processes of a pair: the Keras side's on a backend, the PyTorch side's, and where needed Keras's on torch."""

    def __init__(self, backend: str, timeout: float = 600) -> None:
        self.backend, self.timeout = backend, timeout
        self.on_doing: Callable[[str], None] = lambda what: None
        self._processes: dict[str, SideProcess] = {}

    def __enter__(self) -> Self:
        for runner in (self.keras_runner, REFERENCE_RUNNER):
            self._start(runner)
        return self

    def __exit__(self, *_: object) -> None:
        for side in self._processes.values():
            side.process.end()

    def _start(self, runner: str) -> SideProcess:
        self._processes[runner] = SideProcess(runner, self.timeout, lambda what: self.on_doing(what))
        return self._processes[runner]

    def _living(self, runner: str) -> SideProcess:
        side = self._processes.get(runner)
        if side is not None and side.process.alive:
            return side
        if side is not None:
            side.process.end()
        return self._start(runner)

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

    @property
    def keras_on_torch(self) -> SideProcess:
        """The process in which every operation of Keras's is observed, on whatever backend it trains."""
        return self._living(keras_runner("torch"))
