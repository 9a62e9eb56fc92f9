"""The user's Keras model at work on any backend: what every step makes of the weights; it only looks.

Dropout is left out here and noted: it is compared by where it stands and what it drops.
"""

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras.src import backend as keras_backend

from compare.explain.batches import Tree, arrays_of, each
from compare.explain.keras_observer.description import clipping_of, loss_of
from compare.explain.keras_observer.update_rule import rule_of

# Constant initial values (zero biases, gammas of one) are moved so far, so that nothing is equal by accident.
MOVED = 0.3
BUDGET = 45.0
FEWEST_STEPS = 3


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
        self.called: list[str] = []
        with self.watched():
            self.model(each(keras.ops.convert_to_tensor, inputs))  # builds it, and shows the order of its layers
        for layer in self.layers():
            if getattr(layer, "stateful", False) and hasattr(layer, "reset_state"):
                layer.reset_state()
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

    def layers(self) -> list[Any]:
        """All layers, those inside others too."""
        return list(self.model._flatten_layers())

    def _in_order(self) -> list[Any]:
        """The variables of numbers, in the order in which their layers are first called."""
        order: dict[int, int] = {}
        for number, layer in enumerate(self.called):
            order.setdefault(layer, number)  # type: ignore[call-overload]  # layers are noted by id
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
            called.append(id(layer))  # type: ignore[arg-type]
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
            shape = tuple(inputs.shape) if noise_shape is None else tuple(
                size if asked is None else asked for size, asked in zip(inputs.shape, noise_shape, strict=True)
            )  # fmt: skip
            try:
                value = numbers(inputs)
            except Exception:
                value = None
            self.calls.append({"rate": float(rate), "shape": shape, "value": value, "where": self.where()})
            return inputs

        keras_backend.random.dropout = dropout
        return self

    def __exit__(self, *_: Any) -> None:
        keras_backend.random.dropout = self._original


def disturbed(weights: Mapping[str, np.ndarray], trainable: Sequence[str]) -> dict[str, np.ndarray]:
    """Weights none of which is constant: what is equal by accident (zero biases) hides differences."""
    draw = np.random.default_rng(1)
    found = {}
    for path, value in weights.items():
        moved = value
        if (value.size and np.ptp(value) == 0) or _unit_forget(value):
            if path.endswith("variance"):
                moved = value * draw.uniform(0.5, 1.5, value.shape)
            elif path in trainable or "moving" in path:
                moved = value + draw.normal(0.0, MOVED, value.shape)
        found[path] = moved.astype(np.float32)
    return found


def _unit_forget(value: np.ndarray) -> bool:
    return value.ndim == 1 and set(np.unique(value).tolist()) <= {0.0, 1.0}


def trace(
    make: Callable[[], Any], seed: int, inputs: Tree, targets: Tree, sample_weights: Any, class_weight: Any,
    batches: Sequence[Sequence[int]], zeroed: Sequence[str] = (), choices: Mapping[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Train a fresh model on the batches from disturbed weights, in BUDGET seconds; `zeroed` variables stay zero."""
    began = time.monotonic()
    rows = lambda tree, batch: each(lambda a: a[batch], tree)  # noqa: E731
    held = Model(make, seed, rows(inputs, batches[0]))
    for name, value in (choices or {}).items():
        CHOICES[name](held.model, value)
    model, optimizer = held.model, held.optimizer
    initial = held.weights()
    trainable = [
        path for path, v in held.variables.items() if v.trainable and any(v is t for t in model.trainable_variables)
    ]
    start = disturbed(initial, trainable)
    start |= {path: np.zeros_like(start[path]) for path in zeroed}
    held.assign(start)
    gradients: dict[str, np.ndarray] = {}
    original = optimizer.apply

    def applied(grads: Any, trainable_variables: Any = None) -> Any:
        variables = model.trainable_variables if trainable_variables is None else trainable_variables
        for gradient, variable in zip(grads, variables, strict=True):
            path = _path(held, variable)
            if path is not None and gradient is not None:
                gradients[path] = numbers(gradient)
        return original(grads, trainable_variables)

    optimizer.apply = applied
    steps: list[dict[str, Any]] = []
    failure = None
    dropouts: list[dict[str, Any]] = []
    for number, batch in enumerate(batches):
        gradients.clear()
        before = held.weights()
        x, y = rows(inputs, batch), rows(targets, batch)
        model.reset_metrics()
        penalty = _penalty(model)
        rate = float(np.ravel(numbers(keras.ops.convert_to_tensor(optimizer.learning_rate)))[0])
        options: dict[str, Any] = {}
        if sample_weights is not None:
            options["sample_weight"] = rows(sample_weights, batch)
        if class_weight is not None:
            options["class_weight"] = class_weight
        with Dropouts() as dropped:
            try:
                loss = model.train_on_batch(x, y, **options)
            except RuntimeError as error:
                if number == 0:
                    raise
                failure = f"step {number}: {str(error)[:200]}"
                break
        dropouts = dropouts or dropped.calls
        for path in zeroed:
            held.variables[path].assign(np.zeros_like(start[path]))
        steps.append(
            {
                "batch": list(batch), "before": before, "after": held.weights(), "gradients": dict(gradients),
                "loss": float(np.ravel(loss[0] if isinstance(loss, list | tuple) else loss)[0]), "penalty": penalty,
                "learning_rate": rate,
            }
        )  # fmt: skip
        if time.monotonic() - began > BUDGET and number + 1 >= FEWEST_STEPS:
            break
    evaluation = _evaluate(held, rows(inputs, batches[0]), rows(targets, batches[0]))
    return {
        "backend": keras.backend.backend(), "version": keras.__version__, "initial": initial, "start": start,
        "variables": {path: tuple(v.shape) for path, v in held.variables.items()}, "trainable": trainable,
        "penalties": {path: _regularizer(v) for path, v in held.variables.items() if _regularizer(v)},
        "layers": _layers(held), "optimizer": type(optimizer).__name__, "rule": rule_of(optimizer),
        "clip": clipping_of(optimizer), "loss": loss_of(model), "steps": steps, "failure": failure,
        "dropouts": dropouts, "evaluation": evaluation,
        "scheduled": callable(getattr(optimizer, "_learning_rate", None)),
        "stateful": any(getattr(layer, "stateful", False) for layer in held.layers()),
        "masked": any(getattr(layer, "supports_masking", False) and (type(layer).__name__ == "Masking" or getattr(layer, "mask_zero", False)) for layer in held.layers()),
    }  # fmt: skip


def _path(held: Model, variable: Any) -> str | None:
    return held.paths.get(id(variable)) or next(
        (p for p, v in held.variables.items() if v.path == getattr(variable, "path", None)), None
    )


def _penalty(model: Any) -> float:
    try:
        return float(sum(float(np.ravel(numbers(loss))[0]) for loss in model.losses))
    except Exception:
        return 0.0


def _regularizer(variable: Any) -> dict[str, float]:
    regularizer = getattr(variable, "regularizer", None)
    if regularizer is None:
        return {}
    config = regularizer.get_config()
    return {name: float(config[name]) for name in ("l1", "l2") if name in config}


def _layers(held: Model) -> list[dict[str, Any]]:
    """What is set in each layer that a program may have otherwise."""
    found = []
    for layer in held.layers():
        entry: dict[str, Any] = {"name": layer.name, "class": type(layer).__name__, "trainable": bool(layer.trainable)}
        for source in (layer, getattr(layer, "cell", None)):
            for name in (
                "activation",
                "recurrent_activation",
                "epsilon",
                "momentum",
                "reset_after",
                "stateful",
                "rate",
                "units",
                "merge_mode",
                "go_backwards",
                "return_sequences",
                "dropout",
                "recurrent_dropout",
            ):
                value = getattr(source, name, None)
                if value is not None and source is not None:
                    entry[name] = (
                        value if isinstance(value, int | float | bool | str) else getattr(value, "__name__", str(value))
                    )
        owned = [*layer._trainable_variables, *layer._non_trainable_variables]
        entry["variables"] = [held.paths[id(v)] for v in owned if id(v) in held.paths]
        found.append(entry)
    return found


def _evaluate(held: Model, x: Tree, y: Tree) -> dict[str, Any]:
    weights = held.weights()
    held.model.reset_metrics()
    with Dropouts() as dropped:
        try:
            loss = held.model.test_on_batch(x, y)
        except RuntimeError:
            return {}
    return {
        "weights": weights, "loss": float(np.ravel(loss[0] if isinstance(loss, list | tuple) else loss)[0]),
        "dropouts": len(dropped.calls), "penalty": _penalty(held.model),
    }  # fmt: skip


def _from_logits(model: Any, value: bool) -> None:
    loss = model.loss
    loss = keras.losses.get(loss) if isinstance(loss, str) else loss
    if not isinstance(loss, keras.losses.Loss):
        name = str(loss_of(model)["name"])
        loss = getattr(
            keras.losses,
            "".join(part.capitalize() for part in name.replace("crossentropy", "_crossentropy").split("_")),
        )()
    new = type(loss).from_config({**loss.get_config(), "from_logits": value})
    model.compile(optimizer=model.optimizer, loss=new, run_eagerly=True)


def _activation(model: Any, changes: Mapping[str, str]) -> None:
    for layer in model._flatten_layers():
        for attribute, name in changes.items():
            for held in (layer, getattr(layer, "cell", None)):
                if held is not None and hasattr(held, attribute) and hasattr(layer, "cell"):
                    setattr(held, attribute, keras.activations.get(name))


CHOICES: dict[str, Any] = {"from_logits": _from_logits, "activation": _activation}


def numbers(value: Any) -> np.ndarray:
    """A tensor's or variable's numbers, half precision as float32."""
    found = np.array(keras.ops.convert_to_numpy(value))
    return found.astype(np.float32) if found.dtype.name in ("bfloat16", "float16") else found


__all__ = ["Dropouts", "Model", "arrays_of", "numbers", "trace"]
