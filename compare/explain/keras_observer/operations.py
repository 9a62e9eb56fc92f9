"""The user's Keras model on PyTorch, every operation of a step's forward pass and loss: the map that values are sought in."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import torch

from compare.explain.alignment import Value
from compare.explain.batches import Tree, each, named
from compare.explain.keras_observer.trace import Dropouts, Model
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
            kept = lambda tree: [array(t) for t in keras.tree.flatten(tree) if isinstance(t, torch.Tensor)]  # noqa: E731
            watcher.calls.append(
                {
                    "name": layer.name,
                    "class": type(layer).__name__,
                    "inputs": kept((args, kwargs)),
                    "outputs": kept(result),
                }
            )
            return result

        keras.layers.Layer.__call__ = call
        try:
            yield
        finally:
            keras.layers.Layer.__call__ = original


def operations(
    make: Callable[[], Any], seed: int, inputs: Tree, targets: Tree, sample_weights: Any, class_weight: Any,
    steps: Sequence[Mapping[str, Any]], wanted: int,
) -> list[dict[str, Any]]:  # fmt: skip
    """The `Value`s of step `wanted`, from the weights that the training had before it; states go on from step to step."""
    rows = lambda tree, batch: each(lambda a: a[batch], tree)  # noqa: E731
    held = Model(make, seed, rows(inputs, steps[0]["batch"]))
    stateful = any(getattr(layer, "stateful", False) for layer in held.layers())
    layers, recorder = LayerCalls(), None
    for number in range(0 if stateful else wanted, wanted + 1):
        step = steps[number]
        held.assign(step["before"])
        options: dict[str, Any] = {}
        if sample_weights is not None:
            options["sample_weight"] = rows(sample_weights, step["batch"])
        if class_weight is not None:
            options["class_weight"] = class_weight
        layers = LayerCalls()
        leaves = {path: variable.value for path, variable in held.variables.items()}
        recorder = Recorder(leaves, where=layers.path, stacks=True)
        with Dropouts() as dropped, layers.watched(), recorder:
            dropped.where = layers.path
            try:
                held.model.train_on_batch(rows(inputs, step["batch"]), rows(targets, step["batch"]), **options)
            except RuntimeError:  # a stateful layer's second backward pass on PyTorch: Keras's own defect
                if recorder.loss is None:
                    raise
    assert recorder is not None
    step = steps[wanted]
    values = [Value(name, a, 0) for name, a in named("x", rows(inputs, step["batch"]))]
    values += [Value(name, a, 1) for name, a in named("y", rows(targets, step["batch"]))]
    values += list(_values(layers.calls, recorder))
    return [vars(value) for value in values]


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
