"""What the Keras side of a pair file does when asked; torch_observer/side.py is its mirror."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from compare.errors import InputError
from compare.explain.batches import arrays_of, each, schedule
from compare.explain.keras_observer import tf32
from compare.explain.keras_observer.model import Model, Program
from compare.explain.keras_observer.trace import trace
from compare.workers.protocol import Doing

# What a Keras side can be asked for.
ACTIONS = ("trace", "operations", "state")

NAMES = ("inputs", "targets", "sample weights")


class Side:
    """Keeps a user's `keras_side` and data; every training starts from the beginning with a model of its own."""

    def __init__(self, user_file: Any) -> None:
        self.user_file = user_file
        options = user_file.namespace
        self.data = checked_data(user_file.location("data"), options["data"]())
        count = len(arrays_of(self.data[0])[0])
        self.batches = schedule(
            count, int(options.get("batch_size", 32)), int(options.get("epochs", 1)), options.get("seed")
        )
        self.steps: Sequence[Mapping[str, Any]] = []

    def opened(self) -> dict[str, Any]:
        """What both sides train on."""
        return {"data": self.data}

    def _program(self) -> Program:
        file = self.user_file
        return Program(file.execute()["keras_side"], file.seed, *self.data, file.namespace.get("class_weight"))

    def trace(self, report: Callable[[Doing], None], zeroed: Sequence[str] = (), exact: bool = False) -> dict[str, Any]:
        """Train the model and say what every step made; `exact` computes float32 products with all bits."""
        with tf32.without() if exact else contextlib.nullcontext():
            traced = trace(self._program(), self.batches, zeroed, lambda what: report(Doing(what)))
        self.steps = traced["steps"]
        return traced

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


def checked_data(location: str, data: Any) -> tuple[Any, Any, Any]:
    """What data() returned as (inputs, targets, sample weights or None); raises InputError."""
    location = f"{location}: data()"
    if not isinstance(data, tuple | list) or len(data) not in (2, 3):
        raise InputError(f"{location} returned {type(data).__name__}; return inputs, targets as NumPy arrays")
    counts: dict[int, str] = {}
    for name, tree in zip(NAMES, data, strict=False):
        for array in _leaves(tree):
            _check_array(location, name, array)
            counts.setdefault(len(array), name)
    if len(counts) > 1:
        rows = " and ".join(f"{count} {name}" for count, name in counts.items())
        raise InputError(f"{location} returned {rows}; give each input its target")
    inputs, targets, *rest = (each(_plain, tree) for tree in data)
    return inputs, targets, rest[0] if rest else None


def _leaves(tree: Any) -> list[Any]:
    if isinstance(tree, list | tuple) and not all(isinstance(item, np.ndarray | list | tuple | dict) for item in tree):
        return [tree]  # a list of numbers is meant to be an array, and is none
    return arrays_of(tree)


def _check_array(location: str, name: str, array: Any) -> None:
    if not isinstance(array, np.ndarray):
        raise InputError(f"{location} returned {name} as {type(array).__name__}; return a NumPy array")
    if array.dtype.kind not in "fiub":
        raise InputError(f"{location} returned {name} of dtype {array.dtype}; numbers are needed")
    if array.ndim < 1 or not array.size:
        raise InputError(f"{location} returned {name} of shape {array.shape}; there is nothing to train on")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InputError(f"{location} returned {name} with NaN or infinite values")


def _plain(array: np.ndarray) -> np.ndarray:
    """The array in a type that both frameworks take, float32 or int64."""
    array = np.ascontiguousarray(array)
    if array.dtype.kind == "f":
        return array.astype(np.float32)
    return array.astype(np.int64) if array.dtype.kind in "iu" else array
