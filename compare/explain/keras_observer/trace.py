"""The user's Keras model at work on any backend: what every step makes of the weights; it only looks.

Dropout is left out here and noted: it is compared by where it stands and what it drops.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras.src.trainers.data_adapters import data_adapter_utils

from compare.explain.batches import Tree, each
from compare.explain.keras_observer.description import description
from compare.explain.keras_observer.model import Dropouts, Model, Program, numbers

# Constant initial values (zero biases, gammas of one) are moved so far, so that nothing is equal by accident.
MOVED = 0.3
BUDGET = 45.0
FEWEST_STEPS = 3
SPARSE = (
    "Keras on TensorFlow updates tokens that are repeated in a batch as no other backend does, a defect of its own "
    "(repeated-tokens-on-tensorflow); here their gradients are added before the update, as on the others"
)
UNKEPT = (
    "Keras on JAX keeps the states of stateful layers in no compiled training, a defect of its own "
    "(stateful-on-jax); here they go on from batch to batch, as on the other backends"
)


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


def trace(
    program: Program, batches: Sequence[Sequence[int]], zeroed: Sequence[str], report: Callable[[str], None]
) -> dict[str, Any]:
    """Train a fresh model on the batches from disturbed weights; `zeroed` variables stay zero.

    It ends early, after FEWEST_STEPS at least, where BUDGET seconds of the processor's are spent.
    """
    began = time.process_time()
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
        if time.process_time() - began > BUDGET and number + 1 >= FEWEST_STEPS:
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
        "notes": take_step.notes,
        **description(model),
    }


class Stepper:
    """Takes training steps: as Keras does, eagerly; on JAX compiled, but for a user's own `train_step`."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.gradients: dict[str, np.ndarray] = {}
        self.notes: list[str] = []
        self.compiled: Any = None
        if keras.backend.backend() == "jax":
            from compare.explain.keras_observer.jax_step import JaxStep, is_own

            self.compiled = JaxStep(model.model) if is_own(model.model) else None
            self.notes += [UNKEPT] if self.compiled is not None and self.compiled.states else []
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
        if type(gradient).__name__ != "IndexedSlices":
            return gradient
        if SPARSE not in self.notes:
            self.notes.append(SPARSE)
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


def _penalty(model: Any) -> float:
    """What the regularizers of weights add to the loss; those of activities belong to a batch, not to the weights."""
    return float(sum(_scalar(loss) for loss in model._get_regularization_losses()))


def _evaluate(model: Model, program: Program, batch: Sequence[int]) -> dict[str, Any]:
    """The loss of a batch as for a prediction, after the training; empty where Keras cannot compute it."""
    weights = model.weights()
    x, y, options = program.rows(batch)
    weights_of_examples = options.get("sample_weight")
    if program.class_weight is not None:  # evaluate takes none, but the loss of the PyTorch side has them
        weights_of_examples = data_adapter_utils.class_weight_to_sample_weights(y, program.class_weight)
    model.model.reset_metrics()
    model.reset_states()  # as a program that has just been started
    with Dropouts() as dropped:
        try:
            loss = model.model.test_on_batch(x, y, sample_weight=weights_of_examples)
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
