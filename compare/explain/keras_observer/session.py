"""A user's compiled model, trained step by step while everything on the way is recorded or changed."""

import contextlib
import random
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from keras.src import backend as keras_backend

from compare.explain.keras_observer import tf32
from compare.explain.keras_observer.backward import loss_and_gradients
from compare.explain.keras_observer.masks import kept
from compare.explain.keras_observer.parts import CELLS, Part, parts_of

_current: list["Session"] = []
_original: dict[str, Any] = {}


class Session:
    """One training from the start, with its own model; `compare/explain/torch_observer/session.py` is its mirror.

    `make` returns a compiled keras.Model; `dropout` is "shared" for masks that both sides draw alike, "rows" for those
    of one row in all of them, or "off".
    """

    def __init__(self, make: Callable[[], Any], seed: int, inputs: np.ndarray, dropout: str = "shared") -> None:
        _install()
        self.dropout = dropout
        self.seen: dict[str, Any] = {}
        self.called: list[str] = []
        self.dropout_calls: list[dict[str, Any]] = []
        self.drop_mask = self.reset_state = self.no_tf32 = False
        self.zeroed: set[tuple[str, str]] = set()
        # Keras draws the seeds of what was given none from here.
        random.seed(seed)
        np.random.seed(seed)
        self.model = make()
        if not self.model.built:
            self.model(keras.ops.convert_to_tensor(inputs))
        self.optimizer = self.model.optimizer
        if not self.optimizer.built:
            self.optimizer.build(self.model.trainable_variables)
        self.parts = {part.key: part for part in parts_of(self.model)}
        for part in self.parts.values():
            self._watch(part)
        self.function: Any = None
        held = {id(v): v for v in (*self.model.variables, *self.optimizer.variables)}
        self._first_values = [(variable, _numpy(variable)) for variable in held.values()]

    def restart(self) -> None:
        """Put every variable back to what it was at first."""
        for variable, value in self._first_values:
            variable.assign(value)

    def load(self, weights: Mapping[str, np.ndarray]) -> None:
        """Load weights, named by part and tensor."""
        for key, part in self.parts.items():
            for name, variable in part.tensors.items():
                if f"{key}/{name}" in weights:
                    value = weights[f"{key}/{name}"]
                    variable.assign(np.zeros_like(value) if (key, name) in self.zeroed else value)

    def weights(self) -> dict[str, np.ndarray]:
        """Read all weights."""
        return {
            f"{key}/{name}": _numpy(variable)
            for key, part in self.parts.items()
            for name, variable in part.tensors.items()
        }

    def _watch(self, part: Part) -> None:
        layer = part.layer
        if part.kind in CELLS.values():
            if part.wrapper is not None:
                layer.use_cudnn = False  # a fused bidirectional call would go past the two layers
            original = layer.inner_loop

            def inner_loop(sequences: Any, initial_state: Any, mask: Any, training: bool = False) -> Any:
                mask = None if self.drop_mask else mask
                self._saw("in", part.key, sequences)
                if mask is not None:
                    self.seen[f"mask/{part.key}"] = mask
                asked, layer.return_sequences = layer.return_sequences, True
                try:
                    last, outputs, states = original(sequences, initial_state, mask, training)
                finally:
                    layer.return_sequences = asked
                in_time = keras.ops.flip(outputs, axis=1) if layer.go_backwards else outputs
                self.seen[f"out/{part.key}"] = in_time
                return last, outputs, states

            layer.inner_loop = inner_loop
        elif part.kind == "dense":
            owner = part.wrapper or layer
            call = owner.call

            def dense(x: Any, *arguments: Any, **options: Any) -> Any:
                activation, layer.activation = layer.activation, keras.activations.linear
                self._saw("in", part.key, x)
                try:
                    y = call(x, *arguments, **options)
                finally:
                    layer.activation = activation
                self.seen[f"out/{part.key}"] = y
                return y if activation is None else activation(y)

            owner.call = dense
        else:
            other_call = layer.call

            def other(x: Any, *arguments: Any, **options: Any) -> Any:
                self._saw("in", part.key, x)
                y = other_call(x, *arguments, **options)
                self.seen[f"out/{part.key}"] = y
                return y

            layer.call = other

    def _saw(self, what: str, key: str, value: Any) -> None:
        if key not in self.called:
            self.called.append(key)
        self.seen[f"{what}/{key}"] = value

    def forward(self, x: Any, training: bool) -> Any:
        """Compute the model's outputs; what its layers are given and give is in `seen` afterwards."""
        self.seen, self.called, self.dropout_calls = {}, [], []
        _current.append(self)
        try:
            return self.model(x, training=training)
        finally:
            _current.pop()

    def saw_dropout(self, x: Any, rate: float, noise_shape: Any) -> Any:
        """Drop alike on both sides, or not at all."""
        shape = tuple(x.shape) if noise_shape is None else tuple(
            size if asked is None else asked for size, asked in zip(x.shape, noise_shape, strict=True)
        )  # fmt: skip
        after = self.called[-1] if self.called else None
        self.dropout_calls.append({"after": after, "rate": float(rate), "shape": list(shape), "active": True})
        if self.dropout == "off":
            return x
        shape = (1, *shape[1:]) if self.dropout == "rows" else shape
        mask = keras.ops.convert_to_tensor(kept(shape, rate).astype("float32"))
        return x * keras.ops.cast(mask, x.dtype) / (1 - rate)

    def step(self, x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
        """Take one training step and return its record."""
        if self.reset_state:
            for layer in self.model._flatten_layers():
                if getattr(layer, "stateful", False) and hasattr(layer, "reset_state"):
                    layer.reset_state()
        with self._products():
            loss, gradients, seen = loss_and_gradients(self, x, y)
        variables = self.model.trainable_variables
        locations = {id(variable): location for location, variable in self._variables().items()}
        zeroed = {f"{key}/{name}" for key, name in self.zeroed}
        gradients = [
            keras.ops.zeros_like(gradient) if locations.get(id(variable)) in zeroed else gradient
            for variable, gradient in zip(variables, gradients, strict=True)
        ]
        record = {name: _numpy(value) for name, value in seen.items()}
        record["loss"] = _numpy(loss)
        record["learning_rate"] = np.float64(_numpy(keras.ops.convert_to_tensor(self.optimizer.learning_rate)))
        for phase, values in (("gradient", gradients), ("clip", self.optimizer._clip_gradients(gradients))):
            for variable, value in zip(variables, values, strict=True):
                if id(variable) in locations and value is not None:
                    record[f"{phase}/{locations[id(variable)]}"] = _numpy(value)
        self.optimizer.apply(gradients, variables)
        return record | {f"weights/{location}": value for location, value in self.weights().items()}

    def evaluate(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Compute the layers' outputs as for a prediction."""
        with self._products():
            prediction = self.forward(keras.ops.convert_to_tensor(x), training=False)
        self.seen["prediction"] = prediction
        return {f"evaluation/{name}": _numpy(value) for name, value in self.seen.items()}

    def _products(self) -> contextlib.AbstractContextManager[None]:
        return tf32.without() if self.no_tf32 else contextlib.nullcontext()

    def _variables(self) -> dict[str, Any]:
        return {f"{key}/{name}": v for key, part in self.parts.items() for name, v in part.tensors.items()}


def _install() -> None:
    """Put a watched dropout in the place of Keras's, once; without a session at work it does as before."""
    if _original:
        return
    _original["dropout"] = keras_backend.random.dropout

    def dropout(inputs: Any, rate: float, noise_shape: Any = None, seed: Any = None) -> Any:
        if _current:
            return _current[-1].saw_dropout(inputs, rate, noise_shape)
        return _original["dropout"](inputs, rate, noise_shape=noise_shape, seed=seed)

    keras_backend.random.dropout = dropout


def _numpy(value: Any) -> np.ndarray:
    array = np.array(keras.ops.convert_to_numpy(value))
    return array.astype(np.float32) if array.dtype.name in ("bfloat16", "float16") else array
