"""A pair explained by its values: both sides' processes started, asked, restarted where one dies, and what they found told."""

import select
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from compare.errors import InputError
from compare.explain.observing_child import Channel
from compare.explain.pair_file import Pair
from compare.explain.processes import SideError
from compare.judge.verdict import Cause, Comparison, Difference
from compare.known.catalogue import catalogue
from compare.workers.backends import REFERENCE_RUNNER, keras_runner, worker_environment

MOST_RESTARTS = 4
PHASES = ("start", "forward", "loss", "gradient", "clip", "update", "evaluation")


class SideChild:
    """One side's process."""

    def __init__(self, runner: str, file: Path, folder: Path, timeout: float) -> None:
        self.runner, self.file, self.timeout = runner, file, timeout
        self.log = folder / f"{runner}.log"
        with self.log.open("ab") as errors:
            self.process = subprocess.Popen(  # noqa: S603 - this interpreter and this project
                [sys.executable, "-m", "compare.explain.observing_child", runner, str(file)], stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=errors, env=worker_environment(runner, 1) | {"TMPDIR": str(folder)}, start_new_session=True,
            )  # fmt: skip
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.channel = Channel(self.process.stdout, self.process.stdin)  # type: ignore[arg-type]
        self.ready = False

    def send(self, do: str, **options: Any) -> None:
        """Ask for something."""
        if not self.ready:
            self._checked(self._receive())
            self.ready = True
        try:
            self.channel.send({"do": do, "options": options})
        except BrokenPipeError:
            raise self._ended() from None

    def receive(self) -> Any:
        """What was asked for, or a {"need": …}; raises InputError and SideError."""
        return self._checked(self._receive())

    def _receive(self) -> Any:
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], self.timeout)[0]:
            self.end()
            raise SideError(f"{self.runner} said nothing for {self.timeout:g} s and was ended", died=True)
        try:
            return self.channel.receive()
        except EOFError:
            raise self._ended() from None

    def _ended(self) -> SideError:
        code = self.process.wait()
        tail = " ".join(self.log.read_text("utf-8", errors="replace").splitlines()[-3:])
        return SideError(f"the process of {self.runner} ended with code {code}: {tail}", died=True)

    def _checked(self, message: Any) -> Any:
        if isinstance(message, dict) and "error" in message:
            if message["kind"] == "input":
                raise InputError(message["error"])
            if message["kind"] == "defect":
                raise SideError(message["error"], died=True)
            function = "torch_side" if self.runner == REFERENCE_RUNNER else "keras_side"
            function = next(
                (name for name in ("torch_step", "scheduler") if f" {name}()" in message["error"]), function
            )
            line = message.get("line") or line_of(self.file, function)
            raise InputError(f"{self.file}:{line}: {function}(): {message['error']}")
        return message

    def end(self) -> None:
        """Kill the process."""
        self.process.kill()
        self.process.wait()


def line_of(file: Path, function: str) -> int:
    """The line in which a function of the pair file begins."""
    for number, line in enumerate(file.read_text("utf-8").splitlines(), 1):
        if line.startswith(f"def {function}"):
            return number
    return 1


class Observation:
    """Both sides of a pair at work."""

    def __init__(self, pair: Pair, backend: str, timeout: float = 600) -> None:
        self.pair, self.backend, self.timeout = pair, backend, timeout
        self.folder = tempfile.TemporaryDirectory(prefix="rnn-parity-")
        path = Path(self.folder.name)
        self.keras = SideChild(keras_runner(backend), pair.file, path, timeout)
        self.torch = SideChild(REFERENCE_RUNNER, pair.file, path, timeout)
        self.map: SideChild | None = None
        self.died: list[str] = []

    def close(self) -> None:
        """End the processes."""
        for child in (self.keras, self.torch, self.map):
            if child is not None:
                child.end()
        self.folder.cleanup()

    def run(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return what was found, and Keras's trace."""
        self.keras.send("read")
        self.data = self.keras.receive()["done"]["data"]
        self.keras.send("trace")
        self.trace = self.keras.receive()["done"]
        journal = Path(self.folder.name) / "trying"
        for _ in range(MOST_RESTARTS + 1):
            try:
                return self._investigate(journal), self.trace
            except SideError as error:
                if not error.died or self.torch.process.poll() is None or not journal.exists():
                    raise
                # What was being tried killed the process: it is left out, and the side is started again.
                self.died.append(journal.read_text("utf-8"))
                self.torch = SideChild(REFERENCE_RUNNER, self.pair.file, Path(self.folder.name), self.timeout)
        raise SideError(f"the process of {REFERENCE_RUNNER} died {MOST_RESTARTS + 1} times", died=True)

    def _investigate(self, journal: Path) -> dict[str, Any]:
        self.torch.send("investigate", data=self.data, trace=self.trace, journal=str(journal), excluded=list(self.died))
        while True:
            message = self.torch.receive()
            if "done" in message:
                return dict(message["done"])
            self.torch.channel.send(self._answer(message["need"], message["options"]))

    def _answer(self, need: str, options: dict[str, Any]) -> Any:
        if need == "trace":
            self.keras.send("trace", **options)
            self.trace = self.keras.receive()["done"]
            return self.trace
        if self.backend == "torch":
            self.keras.send("operations", **options)
            return self.keras.receive()["done"]
        if self.map is None:
            self.map = SideChild(keras_runner("torch"), self.pair.file, Path(self.folder.name), self.timeout)
            self.map.send("read")
            self.map.receive()
        self.map.send("operations", **options, steps=self.trace["steps"])
        return self.map.receive()["done"]


def explain_values(pair: Pair, backend: str, timeout: float = 600) -> Comparison:
    """Observe both sides of a pair, and say where they first differ, in which line, and why.

    Raises InputError, with the file's own line, for a mistake in the pair file.
    """
    observation = Observation(pair, backend, timeout)
    try:
        found, trace = observation.run()
    except SideError as error:
        return Comparison(pair.name, keras_runner(backend), REFERENCE_RUNNER, "float32", "failed", error=str(error))
    finally:
        observation.close()
    return _comparison(pair, backend, found, trace, observation)


def _comparison(
    pair: Pair, backend: str, found: dict[str, Any], trace: dict[str, Any], observation: Observation
) -> Comparison:
    causes = sorted(found["causes"], key=lambda cause: _order(cause))
    differences = []
    for entry in found["differences"]:
        same = [
            d for d in found["differences"] if d["step"] == entry["step"] and d["phase"] in ("loss", "gradient", "clip")
        ]
        words = entry["message"] or _ratio_words(entry, not same)
        differences.append(
            Difference(
                "differs",
                entry["step"],
                entry["phase"],
                words,
                entry["tensor"],
                _finite(entry["error"]),
                _finite(entry["tolerance"]),
            )
        )
    forward = next((cause for cause in causes if cause["phase"] in ("forward", "loss") and cause["source"]), None)
    if forward is not None and differences:
        first = Difference(
            "differs", forward["step"], forward["phase"], forward["found"], forward["tensor"],
            _finite(forward["error_before"]), None, source=forward["source"],
        )  # fmt: skip
        differences.insert(0, first)
    notes = [f"{found['steps']} steps were compared, each from Keras's weights", *found["notes"]]
    notes += [f"not tried, since the process died in it: {text}" for text in observation.died]
    if trace["failure"]:
        notes.append(f"Keras's training ended early: {trace['failure']}")
    return Comparison(
        case=pair.name, runner=keras_runner(backend), reference=REFERENCE_RUNNER, dtype="float32",
        status="differs" if differences else "agrees", checks=found["checks"], steps=found["steps"],
        max_relative_loss_difference=found["loss_difference"], trajectory_tolerance_ratio=found["largest"],
        differences=differences, notes=notes, versions={"keras": trace["version"], "torch": found["torch"]},
        causes=[_cause(cause) for cause in causes], unexplained=found["unexplained"] is not None,
    )  # fmt: skip


def _order(cause: dict[str, Any]) -> tuple[int, int]:
    return cause["step"], PHASES.index(cause["phase"])


def _finite(value: float | None) -> float | None:
    return value if value is not None and abs(value) != float("inf") and value == value else None


def _ratio_words(entry: dict[str, Any], before_agrees: bool) -> str:
    if entry["ratio"] is not None and abs(entry["ratio"] - 1) > 0.005:
        if entry["phase"] == "update":
            head = "The gradients agree. " if before_agrees else ""
            times = f"{entry['ratio']:.2f}" if 0.01 < abs(entry["ratio"]) < 1000 else f"{entry['ratio']:.3g}"
            return f"{head}PyTorch moved this tensor {times} times as far."
        return f"PyTorch's is {entry['ratio']:.3g} times Keras's."
    return "The two sides differ by more than rounding."


def _cause(cause: dict[str, Any]) -> Cause:
    known = catalogue().get(cause["name"])
    return Cause(
        name=cause["name"], confirmed=cause["confirmed"], message=known.message if known is not None else "", fix=cause["fix"],
        error_before=_finite(cause["error_before"]), error_after=_finite(cause["error_after"]), step=cause["step"], phase=cause["phase"],
        tensor=cause["tensor"], observation=cause["found"], proof=known.proof if known is not None else "", source=cause["source"],
    )  # fmt: skip
