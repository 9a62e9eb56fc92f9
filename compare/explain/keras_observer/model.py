"""A fresh model of the user's with its weights under unique names, what it trains on, and its dropout left out."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras.src import backend as keras_backend

from compare.explain.batches import Tree, each


@dataclass(frozen=True)
class Program:
    """What the user's Keras side trains: its function, the seed, the data, and the weights of examples and classes."""

    make: Callable[[], Any]
    seed: int
    inputs: Tree
    targets: Tree
    sample_weights: Tree
    class_weight: Any

    def rows(self, batch: Sequence[int]) -> tuple[Tree, Tree, dict[str, Any]]:
        """A batch as `train_on_batch` takes it: inputs, targets, options."""
        inputs, targets, weights = (
            each(lambda array: array[batch], tree) for tree in (self.inputs, self.targets, self.sample_weights)
        )
        options = {"sample_weight": weights, "class_weight": self.class_weight}
        return inputs, targets, {name: value for name, value in options.items() if value is not None}


class Model:
    """One fresh model of the user's with its weights under unique names."""

    def __init__(self, make: Callable[[], Any], seed: int, inputs: Tree) -> None:
        keras.backend.clear_session()
        keras.config.disable_traceback_filtering()
        keras.utils.set_random_seed(seed)
        random.seed(seed)
        np.random.seed(seed)
        self.model = make()
        if not isinstance(self.model, keras.Model):
            raise TypeError(f"keras_side() returned {type(self.model).__name__}; return a compiled keras.Model")
        if not self.model.compiled or self.model.optimizer is None:
            raise TypeError("keras_side() returned a model that is not compiled; call model.compile(optimizer, loss)")
        self.model.run_eagerly = True
        self.called: list[int] = []
        with self.watched():
            self._build(inputs)  # which shows the order of its layers too
        self.reset_states()
        self.optimizer = self.model.optimizer
        if not self.optimizer.built:
            self.optimizer.build(self.model.trainable_variables)
        self.variables: dict[str, Any] = {}
        for variable in self._in_order():
            path, number = variable.path, 1
            while path in self.variables:
                number += 1
                path = f"{variable.path}#{number}"
            self.variables[path] = variable
        self.paths = {id(variable): path for path, variable in self.variables.items()}

    def reset_states(self) -> None:
        """Set the states of stateful layers to zero."""
        for layer in self.layers():
            if getattr(layer, "stateful", False) and hasattr(layer, "reset_state"):
                layer.reset_state()

    def _build(self, inputs: Tree) -> None:
        if keras.backend.backend() == "jax":  # which compiles every operation that is called by itself
            try:
                keras_backend.compute_output_spec(self.model, each(_specification, inputs))
            except (TypeError, ValueError, NotImplementedError, AttributeError):  # a model that needs numbers
                self.called.clear()
            else:
                return
        self.model(each(keras.ops.convert_to_tensor, inputs))

    @property
    def trainable(self) -> list[str]:
        """The paths of what is trained."""
        trained = {id(variable) for variable in self.model.trainable_variables}
        return [path for path, variable in self.variables.items() if id(variable) in trained]

    def path(self, variable: Any) -> str | None:
        """The unique path of a variable; None for one that is no number of the model's."""
        same_path = (path for path, v in self.variables.items() if v.path == getattr(variable, "path", None))
        return self.paths.get(id(variable)) or next(same_path, None)

    def layers(self) -> list[Any]:
        """All layers, those inside others too."""
        return list(self.model._flatten_layers())

    def _in_order(self) -> list[Any]:
        """The variables of numbers, in the order in which their layers are first called."""
        order: dict[int, int] = {}
        for number, layer in enumerate(self.called):
            order.setdefault(layer, number)
        place: dict[int, int] = {}
        for layer in self.layers():
            for variable in layer._trainable_variables + layer._non_trainable_variables:
                place[id(variable)] = order.get(id(layer), len(order))
        held = [
            v
            for v in self.model.weights
            if np.dtype(keras.backend.standardize_dtype(v.dtype).replace("bfloat16", "float32")).kind == "f"
        ]
        return sorted(held, key=lambda variable: place.get(id(variable), len(order)))

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Note which layers are called."""
        original = keras.layers.Layer.__call__
        called = self.called

        def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
            called.append(id(layer))
            return original(layer, *args, **kwargs)

        keras.layers.Layer.__call__ = call
        try:
            yield
        finally:
            keras.layers.Layer.__call__ = original

    def weights(self) -> dict[str, np.ndarray]:
        """Read all weights."""
        return {path: numbers(variable) for path, variable in self.variables.items()}

    def assign(self, weights: Mapping[str, np.ndarray]) -> None:
        """Set weights."""
        for path, value in weights.items():
            self.variables[path].assign(value)


class Dropouts:
    """Leaves dropout out while it is entered, and notes what it was asked for."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.where: Callable[[], str] = lambda: ""
        self._original: Any = None

    def __enter__(self) -> "Dropouts":
        self._original = keras_backend.random.dropout

        def dropout(inputs: Any, rate: float, noise_shape: Any = None, seed: Any = None) -> Any:
            shape = (
                tuple(inputs.shape)
                if noise_shape is None
                else tuple(
                    size if asked is None else asked for size, asked in zip(inputs.shape, noise_shape, strict=True)
                )
            )
            try:
                value = numbers(inputs)
            except (TypeError, NotImplementedError):  # a compiled step has tracers of JAX's, TensorFlow's graph symbols
                value = None
            self.calls.append({"rate": float(rate), "shape": shape, "value": value, "where": self.where()})
            return inputs

        keras_backend.random.dropout = dropout
        return self

    def __exit__(self, *_: Any) -> None:
        keras_backend.random.dropout = self._original


def _specification(array: np.ndarray) -> keras.KerasTensor:
    return keras.KerasTensor(array.shape, str(array.dtype))


def numbers(value: Any) -> np.ndarray:
    """A tensor's or variable's numbers, half precision as float32."""
    array = np.array(keras.ops.convert_to_numpy(value))
    return array.astype(np.float32) if array.dtype.name in ("bfloat16", "float16") else array
