"""What the Keras side of a pair file does when asked; torch_observer/side.py is its mirror."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from compare.explain.keras_observer import tf32
from compare.explain.keras_observer.follower import follow
from compare.explain.keras_observer.model import Model, Program
from compare.explain.keras_observer.trace import trace
from compare.explain.pair_data import TracedSide
from compare.workers.protocol import Doing

# What a Keras side can be asked for.
ACTIONS = ("trace", "operations", "state", "investigate")


class Side(TracedSide):
    """Keeps a user's `keras_side` and data; every training starts from the beginning with a model of its own."""

    def _program(self) -> Program:
        file = self.user_file
        return Program(file.execute()["keras_side"], file.seed, *self.data, file.namespace.get("class_weight"))

    def trace(self, report: Callable[[Doing], None], zeroed: Sequence[str] = (), exact: bool = False) -> dict[str, Any]:
        """Train the model and say what every step made; `exact` computes float32 products with all bits."""
        with tf32.without() if exact else contextlib.nullcontext():
            traced = trace(self._program(), self.batches, zeroed, lambda what: report(Doing(what)))
        self.steps = traced["steps"]
        return traced

    def investigate(
        self, report: Callable[[Doing], None], data: Any, trace: Mapping[str, Any], excluded: Sequence[str]
    ) -> dict[str, Any]:
        """Compare the model with the same model's trace of another process."""
        return {"done": follow(self._program(), trace, lambda what: report(Doing(what)))}

    def operations(
        self, report: Callable[[Doing], None], step: int, steps: Sequence[Mapping[str, Any]] | None = None
    ) -> list[dict[str, Any]]:
        """Every operation of a step, on PyTorch; `steps` are those of another process."""
        from compare.explain.keras_observer.operations import operations

        report(Doing(f"every operation of Keras's step {step} is recorded"))
        return operations(self._program(), self.steps if steps is None else steps, step)

    def state(self, report: Callable[[Doing], None], step: int) -> dict[str, np.ndarray]:
        """All variables of the model before a step, by their number."""
        program = self._program()
        model = Model(program.make, program.seed, program.rows(self.batches[step])[0])
        model.assign(self.steps[step]["before"])
        return {f"keras/{number}": np.array(variable) for number, variable in enumerate(model.model.weights)}
