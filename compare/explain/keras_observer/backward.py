"""Loss and gradients of a user's own model on each backend."""

from typing import Any

import keras
import numpy as np


def loss_and_gradients(session: Any, inputs: np.ndarray, targets: np.ndarray) -> tuple[Any, list[Any], dict[str, Any]]:
    """Compute a training step's loss, the gradients of the trainable variables and what the layers gave on the way.

    What the forward pass updates (statistics, states, seeds) is updated.
    """
    return BACKENDS[keras.backend.backend()](session, inputs, targets)


def _loss(session: Any, x: Any, y: Any) -> tuple[Any, Any]:
    prediction = session.forward(x, training=True)
    loss = session.model.compute_loss(x=x, y=y, y_pred=prediction, training=True)
    return loss, prediction


def _with_tensorflow(session: Any, inputs: np.ndarray, targets: np.ndarray) -> Any:
    import tensorflow as tf

    x, y = tf.convert_to_tensor(inputs), tf.convert_to_tensor(targets)
    with tf.GradientTape() as tape:
        loss, prediction = _loss(session, x, y)
    variables = session.model.trainable_variables
    slopes = tape.gradient(loss, [variable.value for variable in variables])
    gradients = [
        tf.zeros_like(v.value) if g is None else tf.convert_to_tensor(g) for v, g in zip(variables, slopes, strict=True)
    ]
    return loss, gradients, {**session.observed.seen, "prediction": prediction}


def _with_torch(session: Any, inputs: np.ndarray, targets: np.ndarray) -> Any:
    variables = session.model.trainable_variables
    for variable in variables:
        variable.value.grad = None
    loss, prediction = _loss(session, keras.ops.convert_to_tensor(inputs), keras.ops.convert_to_tensor(targets))
    loss.backward()
    gradients = [keras.ops.zeros_like(v.value) if v.value.grad is None else v.value.grad for v in variables]
    return loss, gradients, {**session.observed.seen, "prediction": prediction}


def _with_jax(session: Any, inputs: np.ndarray, targets: np.ndarray) -> Any:
    import jax

    model = session.model
    groups = (model.trainable_variables, model.non_trainable_variables)
    if session.compiled is None:

        def compute(trained: Any, others: Any, x: Any, y: Any) -> Any:
            mapping = [*zip(groups[0], trained, strict=True), *zip(groups[1], others, strict=True)]
            with keras.StatelessScope(state_mapping=mapping) as scope:
                loss, prediction = _loss(session, x, y)
            left = [scope.get_current_value(variable) for variable in groups[1]]
            left = [old if new is None else new for old, new in zip(others, left, strict=True)]
            return loss, ({**session.observed.seen, "prediction": prediction}, left)

        session.compiled = jax.jit(jax.value_and_grad(compute, has_aux=True))
    values = [[variable.value for variable in group] for group in groups]
    (loss, (seen, left)), gradients = session.compiled(*values, inputs, targets)
    for variable, value in zip(groups[1], left, strict=True):
        variable.assign(value)
    return loss, gradients, seen


BACKENDS = {"tensorflow": _with_tensorflow, "torch": _with_torch, "jax": _with_jax}
