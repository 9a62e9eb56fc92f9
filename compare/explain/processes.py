"""The processes in which a pair's two sides run; kept warm from one pair to the next."""

import contextlib
import itertools
import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

from compare.errors import InputError
from compare.storage import read_tensors, write_tensors
from compare.workers.backends import REFERENCE_RUNNER, keras_runner, worker_environment

THREADS = 1


class SideError(RuntimeError):
    """A side could not do what it was asked: its code raised, or (`died`) it ended or is itself at fault."""

    def __init__(self, words: str, line: int | None = None, died: bool = False) -> None:
        super().__init__(words)
        self.line, self.died = line, died


class SideProcess:
    """One side's process and its files."""

    def __init__(self, runner: str, folder: Path, timeout: float) -> None:
        self.runner, self.folder, self.timeout = runner, folder, timeout
        self.log = folder / f"{runner}.log"
        self._numbers = itertools.count()
        self._rest = b""
        # Lines that are to come: one when the framework is imported, then one for every request.
        self._owed = 1
        with self.log.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "compare.explain.child", runner],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                # What TensorFlow leaves where its process is killed goes with the folder.
                env=worker_environment(runner, THREADS) | {"TMPDIR": str(folder)},
                start_new_session=True,
            )

    def ask(
        self, do: str, tensors: Mapping[str, np.ndarray] | None = None, **options: Any
    ) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Send a request and wait for its answer; raises SideError, and InputError for a mistake in the pair file."""
        self.send(do, tensors, **options)
        return self.receive()

    def send(self, do: str, tensors: Mapping[str, np.ndarray] | None = None, **options: Any) -> None:
        """Send a request; `receive` returns its answer."""
        while self._owed:  # an answer that nobody waited for, since the other side had failed
            self._line()
        self._owed += 1
        number = next(self._numbers)
        request: dict[str, Any] = {
            "do": do,
            "answer": str(self.folder / f"{self.runner}-answer.safetensors"),
            **options,
        }
        if tensors:
            request["tensors"] = str(self.folder / f"{self.runner}-request-{number % 2}.safetensors")
            write_tensors(Path(request["tensors"]), tensors)
        assert self.process.stdin is not None  # it is a pipe
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write((json.dumps(request) + "\n").encode())
            self.process.stdin.flush()

    def receive(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Wait for the answer to what was sent."""
        answer = self._line()
        if "error" in answer:
            if answer["kind"] == "pair":
                raise InputError(answer["error"])
            raise SideError(answer["error"], answer["line"], died=answer["kind"] == "defect")
        tensors = read_tensors(self.folder / f"{self.runner}-answer.safetensors") if answer["tensors"] else {}
        return answer["facts"], tensors or {}

    def _line(self) -> dict[str, Any]:
        assert self.process.stdout is not None  # it is a pipe
        ends = time.monotonic() + self.timeout
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._rest:
                if not selector.select(timeout=max(0.0, ends - time.monotonic())):
                    self.end()
                    raise SideError(f"{self.runner} said nothing for {self.timeout:g} s and was ended", died=True)
                content = os.read(self.process.stdout.fileno(), 65536)
                if not content:
                    code = self.process.wait()
                    tail = " ".join(self.log.read_text("utf-8", errors="replace").splitlines()[-3:])
                    raise SideError(f"the process of {self.runner} ended with code {code}: {tail}", died=True)
                self._rest += content
        line, _, self._rest = self._rest.partition(b"\n")
        self._owed -= 1
        return json.loads(line)

    def end(self) -> None:
        """Kill the process."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


class Sides:
    """The two processes of a pair: the Keras side's on one backend and the PyTorch side's."""

    def __init__(self, backend: str, timeout: float = 600) -> None:
        self.backend, self.timeout = backend, timeout
        self._processes: dict[str, SideProcess] = {}

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="rnn-parity-")
        for runner in (self.keras_runner, REFERENCE_RUNNER):
            self._start(runner)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes.values():
            process.end()
        self._folder.cleanup()

    def _start(self, runner: str) -> None:
        self._processes[runner] = SideProcess(runner, Path(self._folder.name), self.timeout)

    def _living(self, runner: str) -> SideProcess:
        if self._processes[runner].process.poll() is not None:
            self._processes[runner].end()
            self._start(runner)
        return self._processes[runner]

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
