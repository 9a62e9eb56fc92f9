"""Services of a child process that need no framework, some of which misbehave."""

import os
import signal
import sys
import tempfile
import threading

from compare.workers.protocol import Answer, Failed, Progress, Request


class Probe:
    """Does what a test asks for."""

    def __init__(self, runner: str) -> None:
        if runner == "broken":
            raise ImportError("planted: no such library")
        self.runner = runner

    def __call__(self, request: Request, report) -> Answer | Failed:
        """Answer by the action of this name."""
        return getattr(self, request.action)(request, report)

    def double(self, request: Request, report) -> Answer:
        """Return every array twice as large, and the options with the runner."""
        report(Progress(1, 0.5))
        return Answer({**request.options, "runner": self.runner}, {k: 2 * v for k, v in request.tensors.items()})

    def raises(self, request: Request, report) -> Answer:
        """Raise what a framework may raise, in colours."""
        raise RuntimeError("\x1b[31mplanted\x1b[0m: it cannot be done")

    def refuses(self, request: Request, report) -> Failed:
        """Find fault with a line of a file."""
        return Failed("planted: line 3 is wrong", "refused", 3)

    def prints(self, request: Request, report) -> Answer:
        """Print in all the ways in which a framework may."""
        print("printed by Python")
        os.write(1, b"printed by C\n")
        os.write(2, b"an error\n")
        return Answer()

    def leaves_a_file(self, request: Request, report) -> Answer:
        """Say which temporary file is left."""
        with tempfile.NamedTemporaryFile(delete=False) as file:
            return Answer({"file": file.name, "process": os.getpid()})

    def dies(self, request: Request, report) -> Answer:
        """Be killed by a signal, or exit where there is none."""
        if request.options["signal"] is None:
            os._exit(7)
        os.kill(os.getpid(), signal.Signals[request.options["signal"]])
        return Answer()

    def hangs(self, request: Request, report) -> Answer:
        """Never come back."""
        threading.Event().wait()
        return Answer()

    def babbles(self, request: Request, report) -> Answer:
        """Answer with a line that is given."""
        sys.modules["__main__"].encode = lambda reply, file: request.options["line"].encode() + b"\n"  # type: ignore[attr-defined]
        return Answer()
