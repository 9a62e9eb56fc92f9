"""The user's Keras model at work on any backend: what every step makes of the weights; it only looks.

Dropout is left out here and noted: it is compared by where it stands and what it drops.
"""

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras.src import backend as keras_backend

from compare.explain.batches import Tree, each
from compare.explain.keras_observer import tf32
from compare.explain.keras_observer.description import clipping_of, loss_of
from compare.explain.keras_observer.update_rule import rule_of

# Constant initial values (zero biases, gammas of one) are moved so far, so that nothing is equal by accident.
MOVED = 0.3
BUDGET = 45.0
FEWEST_STEPS = 3
SPARSE = (
    "Keras on TensorFlow updates tokens that are repeated in a batch as no other backend does, a defect of its own "
    "(repeated-tokens-on-tensorflow); here their gradients are added before the update, as on the others"
)


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
            except Exception:  # a model that needs numbers
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
            except Exception:
                value = None
            self.calls.append({"rate": float(rate), "shape": shape, "value": value, "where": self.where()})
            return inputs

        keras_backend.random.dropout = dropout
        return self

    def __exit__(self, *_: Any) -> None:
        keras_backend.random.dropout = self._original


def _specification(array: np.ndarray) -> keras.KerasTensor:
    return keras.KerasTensor(array.shape, str(array.dtype))


def disturbed(weights: Mapping[str, np.ndarray], trainable: Sequence[str]) -> dict[str, np.ndarray]:
    """Weights none of which is constant: what is equal by accident (zero biases) hides differences."""
    draw = np.random.default_rng(1)
    disturbed_weights = {}
    for path, value in weights.items():
        moved = value
        if (value.size and np.ptp(value) == 0) or _unit_forget(value):
            if path.endswith("variance"):
                moved = value * draw.uniform(0.5, 1.5, value.shape)
            elif path in trainable or "moving" in path:
                moved = value + draw.normal(0.0, MOVED, value.shape)
        disturbed_weights[path] = moved.astype(np.float32)
    return disturbed_weights


def _unit_forget(value: np.ndarray) -> bool:
    return value.ndim == 1 and set(np.unique(value).tolist()) <= {0.0, 1.0}


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


def trace(
    program: Program, batches: Sequence[Sequence[int]], zeroed: Sequence[str], report: Callable[[str], None]
) -> dict[str, Any]:
    """Train a fresh model on the batches from disturbed weights, in BUDGET seconds; `zeroed` variables stay zero."""
    began = time.monotonic()
    model = Model(program.make, program.seed, program.rows(batches[0])[0])
    initial, trainable = model.weights(), model.trainable
    start = disturbed(initial, trainable) | {path: np.zeros_like(initial[path]) for path in zeroed}
    model.assign(start)
    take_step = Stepper(model)
    steps: list[dict[str, Any]] = []
    failure = None
    dropouts: list[dict[str, Any]] = []
    for number, batch in enumerate(batches):
        report(f"Keras on {keras.backend.backend()} trains: step {number + 1} of {len(batches)}")
        before = model.weights()
        x, y, options = program.rows(batch)
        model.model.reset_metrics()
        penalty, rate = _penalty(model.model), _scalar(model.optimizer.learning_rate)
        with Dropouts() as dropped:
            try:
                loss, gradients = take_step(x, y, options)
            except RuntimeError as error:
                if number == 0:
                    raise
                failure = f"step {number}: {str(error)[:200]}"
                break
        dropouts = dropouts or dropped.calls
        model.assign({path: np.zeros_like(start[path]) for path in zeroed})
        steps.append(
            {
                "batch": list(batch),
                "before": before,
                "after": model.weights(),
                "gradients": gradients,
                "loss": loss,
                "penalty": penalty,
                "learning_rate": rate,
            }
        )
        if time.monotonic() - began > BUDGET and number + 1 >= FEWEST_STEPS:
            break
    evaluation = _evaluate(model, program, batches[0])
    if any(call["value"] is None for call in dropouts):  # compiled, a step shows no numbers
        model.assign(start)
        dropouts = _dropout_calls(model, program, batches[0])
    return {
        "initial": initial,
        "trainable": trainable,
        "steps": steps,
        "failure": failure,
        "dropouts": dropouts,
        "evaluation": evaluation,
        "notes": [SPARSE] if take_step.sparse else [],
        **_description(model),
    }


class Stepper:
    """Takes training steps: as Keras does, eagerly; on JAX compiled, but for a user's own `train_step`."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.gradients: dict[str, np.ndarray] = {}
        self.sparse = False
        self.compiled: Any = None
        if keras.backend.backend() == "jax":
            from compare.explain.keras_observer.jax_step import JaxStep, is_own

            self.compiled = JaxStep(model.model) if is_own(model.model) else None
        if self.compiled is None:
            self._watch()

    def __call__(self, x: Tree, y: Tree, options: Mapping[str, Any]) -> tuple[float, dict[str, np.ndarray]]:
        """The loss and the gradients by path."""
        self.gradients.clear()
        if self.compiled is None:
            loss = _first(self.model.model.train_on_batch(x, y, **options))
        else:
            loss, gradients = self.compiled(x, y, **options)
            self._note(gradients, self.model.model.trainable_variables)
        return loss, dict(self.gradients)

    def _note(self, gradients: Sequence[Any], variables: Sequence[Any]) -> None:
        for gradient, variable in zip(gradients, variables, strict=True):
            path = self.model.path(variable)
            if path is not None and gradient is not None:
                self.gradients[path] = numbers(gradient)

    def _dense(self, gradient: Any) -> Any:
        """A gradient of rows as a whole: of repeated tokens Keras on TensorFlow squares every row by itself."""
        if not hasattr(gradient, "indices"):
            return gradient
        self.sparse = True
        return keras.ops.convert_to_tensor(np.array(keras.ops.convert_to_numpy(gradient)))

    def _watch(self) -> None:
        """Note the gradients whenever the optimizer is given some."""
        original = self.model.optimizer.apply

        def apply(grads: Any, trainable_variables: Any = None) -> Any:
            trained = self.model.model.trainable_variables if trainable_variables is None else trainable_variables
            grads = [self._dense(gradient) for gradient in grads]
            self._note(grads, trained)
            return original(grads, trainable_variables)

        self.model.optimizer.apply = apply


def _dropout_calls(model: Model, program: Program, batch: Sequence[int]) -> list[dict[str, Any]]:
    """What a forward pass of a training drops, with the numbers that it is given."""
    with Dropouts() as dropped:
        model.model(each(keras.ops.convert_to_tensor, program.rows(batch)[0]), training=True)
    return dropped.calls


def _description(model: Model) -> dict[str, Any]:
    """What the model, its loss and its optimizer are."""
    penalties = {path: _regularizer(variable) for path, variable in model.variables.items()}
    return {
        "backend": keras.backend.backend(),
        "version": keras.__version__,
        "variables": {path: list(variable.shape) for path, variable in model.variables.items()},
        "penalties": {path: penalty for path, penalty in penalties.items() if penalty},
        "layers": [_layer(model, layer) for layer in model.layers()],
        "optimizer": type(model.optimizer).__name__,
        "rule": rule_of(model.optimizer),
        "clip": clipping_of(model.optimizer),
        "loss": loss_of(model.model),
        "tf32": tf32.in_use(),
        "masked": any(
            type(layer).__name__ == "Masking" or getattr(layer, "mask_zero", False) for layer in model.layers()
        ),
    }


def _penalty(model: Any) -> float:
    try:
        return float(sum(_scalar(loss) for loss in model.losses))
    except Exception:
        return 0.0


def _regularizer(variable: Any) -> dict[str, float]:
    regularizer = getattr(variable, "regularizer", None)
    if regularizer is None:
        return {}
    config = regularizer.get_config()
    return {name: float(config[name]) for name in ("l1", "l2") if name in config}


# What is set in a layer, or in its cell, that a program may have otherwise.
SETTINGS = (
    "activation",
    "recurrent_activation",
    "epsilon",
    "momentum",
    "reset_after",
)


def _layer(model: Model, layer: Any) -> dict[str, Any]:
    owned = [*layer._trainable_variables, *layer._non_trainable_variables]
    description: dict[str, Any] = {
        "class": type(layer).__name__,
        "variables": [model.paths[id(variable)] for variable in owned if id(variable) in model.paths],
    }
    for owner in (layer, getattr(layer, "cell", None)):
        for name in SETTINGS:
            value = getattr(owner, name, None)
            if value is not None:
                plain = isinstance(value, int | float | bool | str)
                description[name] = value if plain else getattr(value, "__name__", str(value))
    return description


def _evaluate(model: Model, program: Program, batch: Sequence[int]) -> dict[str, Any]:
    """The loss of a batch as for a prediction, after the training; empty where Keras cannot compute it."""
    weights = model.weights()
    x, y, _ = program.rows(batch)
    model.model.reset_metrics()
    model.reset_states()  # as a program that has just been started
    with Dropouts() as dropped:
        try:
            loss = model.model.test_on_batch(x, y)
        except RuntimeError:
            return {}
    return {
        "weights": weights,
        "loss": _first(loss),
        "dropouts": len(dropped.calls),
        "penalty": _penalty(model.model),
    }


def _first(loss: Any) -> float:
    """The loss of what train_on_batch returns: a number, or a list of it and of metrics."""
    return float(np.ravel(loss[0] if isinstance(loss, list | tuple) else loss)[0])


def _scalar(value: Any) -> float:
    return float(np.ravel(numbers(keras.ops.convert_to_tensor(value)))[0])


def numbers(value: Any) -> np.ndarray:
    """A tensor's or variable's numbers, half precision as float32."""
    array = np.array(keras.ops.convert_to_numpy(value))
    return array.astype(np.float32) if array.dtype.name in ("bfloat16", "float16") else array
