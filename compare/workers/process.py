"""A child process as its parent sees it: started, spoken to, watched and ended."""

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from pathlib import Path

from compare.workers.backends import worker_environment
from compare.workers.interpreters import interpreter_environment, link_packages
from compare.workers.protocol import REPLIES, ProtocolError, Reply, Request, decode, encode
from compare.workers.temporary_folder import TemporaryFolder

# How much of a failed process's log is shown.
LOG_LINES = 12

# How long a process whose output has ended may take to end itself: Python unloads a whole framework.
SECONDS_TO_END = 10


class ProcessError(RuntimeError):
    """A child process that can be asked no more: how it ended, the end of its log, whether it `died` by itself."""

    def __init__(self, how: str, log: str, died: bool) -> None:
        super().__init__(how)
        self.how, self.log, self.died = how, log, died


class ChildProcess:
    """A process that runs a service for a runner, with a temporary folder that goes with it.

    What it prints goes to `log`, by default in that folder; `interpreter` is another Python to run it in, checked by
    `compare.workers.interpreters`. The runner computes on `device`, by default on what its framework takes by itself.
    """

    def __init__(
        self,
        service: str,
        runner: str,
        threads: int,
        log: Path | None = None,
        interpreter: str | None = None,
        device: str | None = None,
    ) -> None:
        self._temporary = TemporaryFolder()
        self.folder = self._temporary.path
        self.log = log or self.folder / "log"
        self.heard = time.monotonic()
        self._rest = b""
        self._replies: deque[Reply] = deque()
        command, environment = [sys.executable], worker_environment(runner, threads, device=device)
        if interpreter is not None:
            # Nothing of the folder that this was started in may be imported there in place of what is installed.
            command = [interpreter, "-P"]
            environment = interpreter_environment(runner, threads, link_packages(self.folder / "packages"), device)
        with contextlib.ExitStack() as not_started:
            not_started.callback(self._temporary.remove)
            with self.log.open("wb") as errors:
                self._process = subprocess.Popen(
                    [*command, "-m", "compare.workers.child", service, runner],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    # TensorFlow leaves a file for every function that it traces where its process is killed.
                    env=environment | {"TMPDIR": str(self.folder)},
                    # A Ctrl-C at the terminal reaches the parent alone, which then ends its children in order.
                    start_new_session=True,
                )
            not_started.pop_all()
        assert self._process.stdin is not None  # both are pipes
        assert self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout

    def fileno(self) -> int:
        """The descriptor on which its messages arrive, by which a selector knows it."""
        return self._stdout.fileno()

    @property
    def alive(self) -> bool:
        """Whether it can be asked for anything."""
        return self._process.poll() is None

    def send(self, request: Request) -> None:
        """Send a request; a process that has died is noticed when its output ends."""
        self.heard = time.monotonic()
        with contextlib.suppress(BrokenPipeError):
            self._stdin.write(encode(request, self.folder / "request.safetensors"))
            self._stdin.flush()

    def read(self) -> list[Reply]:
        """Read what has arrived, once something has; raises ProcessError where the process has ended or babbles."""
        content = os.read(self.fileno(), 65536)
        if not content:
            # It soon will have ended: how it did is its own answer, not that it was killed here.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=SECONDS_TO_END)
            raise self._failure(died=True)
        self.heard = time.monotonic()
        *lines, self._rest = (self._rest + content).split(b"\n")
        try:
            return [decode(line, REPLIES) for line in lines]
        except ProtocolError as error:
            raise self._failure(f"sent what is no message ({error}) and was ended") from None

    def receive(self, timeout: float | None = None) -> Reply:
        """Wait for the next message; raises ProcessError where none comes, after so many seconds of silence."""
        with selectors.DefaultSelector() as selector:
            selector.register(self, selectors.EVENT_READ)
            while not self._replies:
                if not selector.select(timeout):
                    raise self.end_silent(timeout or 0)
                self._replies += self.read()
        return self._replies.popleft()

    def end_silent(self, timeout: float) -> ProcessError:
        """End the process because it said nothing for so long, and return that as an error."""
        return self._failure(f"said nothing for {timeout:g} s and was ended")

    def _failure(self, reason: str | None = None, died: bool = False) -> ProcessError:
        log = "\n".join(self.log.read_text("utf-8", errors="replace").splitlines()[-LOG_LINES:])
        how = self.end()
        return ProcessError(reason or how, log, died)

    def end(self) -> str:
        """Kill the process if it still runs, remove its temporary folder, and say how it ended."""
        self._process.kill()
        code = self._process.wait()
        with contextlib.suppress(BrokenPipeError):  # a request that was written after the process had died
            self._stdin.close()
        self._stdout.close()
        self._temporary.remove()
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"
