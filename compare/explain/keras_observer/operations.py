"""The user's Keras model on PyTorch: every operation of a step, among whose values PyTorch's are sought."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import torch

from compare.explain.alignment import Value
from compare.explain.batches import named
from compare.explain.keras_observer.model import Dropouts, Model, Program
from compare.explain.torch_observer.recorder import Recorder, array

WRAPPERS = ("Functional", "Sequential", "TimeDistributed", "InputLayer")


class LayerCalls:
    """Notes what every layer was given and gave while it is entered."""

    def __init__(self) -> None:
        self.stack: list[str] = []
        self.calls: list[dict[str, Any]] = []

    def path(self) -> str:
        """The layers that are at work, the model itself left out."""
        return "/".join(self.stack[1:])

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Look at the calls of layers."""
        original = keras.layers.Layer.__call__
        watcher = self

        def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
            watcher.stack.append(layer.name)
            try:
                result = original(layer, *args, **kwargs)
            finally:
                watcher.stack.pop()
            watcher.calls.append(
                {
                    "name": layer.name,
                    "class": type(layer).__name__,
                    "inputs": _arrays((args, kwargs)),
                    "outputs": _arrays(result),
                }
            )
            return result

        keras.layers.Layer.__call__ = call
        try:
            yield
        finally:
            keras.layers.Layer.__call__ = original


def operations(program: Program, steps: Sequence[Mapping[str, Any]], wanted: int) -> list[dict[str, Any]]:
    """The `Value`s of step `wanted`, from the weights that the training had before it; states go on between steps."""
    model = Model(program.make, program.seed, program.rows(steps[0]["batch"])[0])
    stateful = any(getattr(layer, "stateful", False) for layer in model.layers())
    for number in range(0 if stateful else wanted, wanted + 1):
        step = steps[number]
        model.assign(step["before"])
        x, y, options = program.rows(step["batch"])
        layers = LayerCalls()
        leaves = {path: variable.value for path, variable in model.variables.items()}
        recorder = Recorder(leaves, where=layers.path, stacks=True)
        with Dropouts(), layers.watched(), recorder:
            try:
                model.model.train_on_batch(x, y, **options)
            except RuntimeError:  # a stateful layer's second backward pass on PyTorch: Keras's own defect
                if recorder.loss is None:
                    raise
    values = [Value(name, array, 0) for name, array in named("x", x)]
    values += [Value(name, array, 1) for name, array in named("y", y)]
    values += list(_values(layers.calls, recorder))
    return [vars(value) for value in values]


def _arrays(tree: Any) -> list[np.ndarray]:
    return [array(tensor) for tensor in keras.tree.flatten(tree) if isinstance(tensor, torch.Tensor)]


def _values(calls: Sequence[Mapping[str, Any]], recorder: Recorder) -> Iterator[Value]:
    for call in calls:
        if call["class"] not in WRAPPERS:
            for number, value in enumerate(call["outputs"]):
                yield Value(f"{call['name']} output{number if len(call['outputs']) > 1 else ''}", value, 1)
        for value in call["inputs"]:
            yield Value(f"{call['name']} input", value, 2)
    rounds: dict[Any, list[Any]] = {}
    for operation in recorder.operations:
        for number, value in enumerate(operation.outputs):
            yield Value(f"{operation.where or 'loss'}: {operation.name}", value, 3)
            rounds.setdefault((operation.where, operation.name, operation.stack, number, value.shape), []).append(value)
    for (where, name, *_), values in rounds.items():
        if len(values) > 1 and values[0].ndim >= 1 and values[0].dtype.kind == "f" and values[0].size > 1:
            yield Value(f"{where}: {name}, all timesteps", np.stack(values, 1), 2)
