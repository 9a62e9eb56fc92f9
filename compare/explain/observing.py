"""A pair's two sides at work: Keras trains, PyTorch is investigated against it, and is started again where it dies."""

from typing import Any

from compare.errors import InputError
from compare.explain.pair_file import Pair
from compare.explain.pair_side import line_of
from compare.explain.processes import SideError, SideProcess, Sides

MOST_RESTARTS = 4


class Observation:
    """Both sides of a pair observed: `trace` is what Keras's steps made, `result` what the investigation has found.

    Raises InputError, with the file's own line, for a mistake in the pair file; SideError where a process died.
    """

    def __init__(self, sides: Sides, pair: Pair, other: Pair | None = None) -> None:
        """Observe a pair; `other` is the file of the side that trains first, where it is not the pair's own."""
        self.sides, self.pair = sides, pair
        self._deaths: list[str] = []
        self._mapped = False
        keras, torch = sides.keras, sides.torch
        for side, file in ((keras, (other or pair).file), (torch, pair.file)):
            side.send("open", file=str(file))
        self.data = self._answer(keras, "keras_side")["data"]
        self._answer(torch, "torch_side")
        keras.send("trace")
        self.keras = keras
        self.trace = self._answer(keras, "keras_side")
        self.result = self._investigate(torch)

    def _answer(self, side: SideProcess, function: str) -> Any:
        try:
            return side.receive()
        except SideError as error:
            if error.died:
                raise
            # What a side says of one of the file's options begins with its name.
            function = next((name for name in ("torch_step", "scheduler") if f" {name}()" in str(error)), function)
            line = error.line or line_of(self.pair.file.read_text("utf-8"), function)
            raise InputError(f"{self.pair.file}:{line}: {function}(): {error}{self._shapes()}") from None

    def _shapes(self) -> str:
        if not hasattr(self, "data"):
            return ""
        inputs, targets = (_shapes(tree) for tree in self.data[:2])
        return f" (data() gives inputs {inputs} and targets {targets})"

    def _investigate(self, torch: SideProcess) -> dict[str, Any]:
        for _ in range(MOST_RESTARTS):
            try:
                return self._finished(torch)
            except SideError:
                if not torch.trial or torch.process.alive:
                    raise
                # What was tried killed the process: it is left out from now on.
                self._deaths.append(torch.trial)
                torch = self.sides.torch
                torch.send("open", file=str(self.pair.file))
                self._answer(torch, "torch_side")
        return self._finished(torch)

    def _finished(self, torch: SideProcess) -> dict[str, Any]:
        torch.send("investigate", data=self.data, trace=self.trace, excluded=self._deaths)
        answer = self._answer(torch, "torch_side")
        while "need" in answer:
            torch.send("go_on", answer=self._needed(**answer["need"]))
            answer = self._answer(torch, "torch_side")
        return dict(answer["done"])

    def _needed(self, action: str, **options: Any) -> Any:
        if action == "trace":
            self.keras.send("trace", **options)
            self.trace = self._answer(self.keras, "keras_side")
            return self.trace
        side = self.sides.keras_on_torch
        if side is not self.keras:
            options["steps"] = self.trace["steps"]
            if not self._mapped:
                side.send("open", file=str(self.pair.file))
                self._answer(side, "keras_side")
                self._mapped = True
        side.send(action, **options)
        return self._answer(side, "keras_side")

    def states(self, step: int) -> dict[str, Any]:
        """Both models' own variables before a step."""
        return {**self.keras.ask("state", step=step), **self.sides.torch.ask("state", step=step)}


def _shapes(tree: Any) -> str:
    if isinstance(tree, dict):
        return "{" + ", ".join(f"{name}: {_shapes(value)}" for name, value in tree.items()) + "}"
    if isinstance(tree, list):
        return "[" + ", ".join(map(_shapes, tree)) + "]"
    return str(tree.shape)
