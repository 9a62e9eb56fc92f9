"""Many training steps in one `tf.function`: the genuine layers, loss and `optimizer.apply`, each step recorded."""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from keras_models.weights import Layout, group_norms


def compile_steps(
    model: keras.Model, found: list[Layout], capacity: int
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Return a function that trains on (steps, batch, …) arrays and returns a row of figures for each step."""
    del capacity  # a tf.function takes any number of steps without compiling again
    variables = [layout.variable for layout in found]
    values = [variable.value for variable in variables]
    norms = group_norms(found)

    @tf.function(reduce_retracing=True)
    def run(inputs: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        steps = tf.shape(inputs)[0]
        rows = tf.TensorArray(values[0].dtype, size=steps, element_shape=(1 + 2 * sum(len(x.names) for x in found),))
        for step in tf.range(steps):
            with tf.GradientTape() as tape:
                outputs = model(inputs[step], training=True)
                loss = model.compute_loss(x=inputs[step], y=targets[step], y_pred=outputs, training=True)
            gradients = tape.gradient(loss, values)
            before = [tf.identity(value) for value in values]
            with tf.control_dependencies(before):
                model.optimizer.apply(gradients, variables)
            updates = [value - old for value, old in zip(values, before, strict=True)]
            row = tf.concat([loss[None], norms(gradients), norms(updates)], axis=0)
            rows = rows.write(step, row)
        return rows.stack()

    def run_steps(inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        return run(tf.constant(inputs), tf.constant(targets)).numpy().astype(np.float64)

    return run_steps
