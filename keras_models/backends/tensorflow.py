"""Many training steps in one `tf.function`: the genuine layers, loss and `optimizer.apply`, each step recorded."""

import operator
import os
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_models.weights import Layout, group_norms

SingleStepFunctions = tuple[Callable[..., Any], Callable[..., Any], Callable[..., None]]


def _traced_once(free: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a function of arrays a graph that is traced once, for any size of its first `free` axes.

    Tracing takes a second or two; without this the smaller last batch would take another.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        traced: list[Callable[..., Any]] = []

        def call(*arrays: Any) -> Any:
            if not traced:
                signature = keras.tree.map_structure(
                    lambda array: tf.TensorSpec([None] * free + list(array.shape[free:]), array.dtype), list(arrays)
                )
                traced.append(tf.function(function, input_signature=signature))
            return traced[0](*arrays)

        return call

    return decorate


def _free_batches(model: keras.Model) -> int:
    """How many axes batches may differ in: 1, or none with states, of which TensorFlow would broadcast a single one."""
    return 0 if model.settings.stateful else 1


def dense(gradients: list[Any]) -> list[tf.Tensor]:
    """Return gradients whole: that of an embedding comes as the rows that were looked up."""
    return [tf.convert_to_tensor(gradient) for gradient in gradients]


def compile_steps(
    model: keras.Model, parts: list[Layout], capacity: int, norms: bool
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Return a function that trains on (steps, batch, …) arrays and returns a row of figures for each step."""
    del capacity  # a tf.function takes any number of steps without compiling again
    variables = [layout.variable for layout in parts]
    values = [variable.value for variable in variables]
    norms_of = group_norms(parts)
    width = 1 + 2 * sum(len(layout.names) for layout in parts) if norms else 1

    @_traced_once(1 + _free_batches(model))
    def run(inputs: Any, targets: tf.Tensor) -> tf.Tensor:
        steps = tf.shape(targets)[0]
        rows = tf.TensorArray(values[0].dtype, size=steps, element_shape=(width,))
        for step in tf.range(steps):
            batch = keras.tree.map_structure(operator.itemgetter(step), inputs)
            with tf.GradientTape() as tape:
                outputs = model(batch, training=True)
                loss = model.compute_loss(x=batch, y=targets[step], y_pred=outputs, training=True)
            gradients = tape.gradient(loss, values)
            before = [tf.identity(value) for value in values]
            with tf.control_dependencies(before):
                model.optimizer.apply(gradients, variables)
            updates = [value - old for value, old in zip(values, before, strict=True)]
            row = [loss[None], norms_of(dense(gradients)), norms_of(updates)] if norms else [loss[None]]
            rows = rows.write(step, tf.concat(row, axis=0))
        return rows.stack()

    def run_steps(inputs: Any, targets: np.ndarray) -> np.ndarray:
        return run(*keras.tree.map_structure(tf.constant, (inputs, targets))).numpy().astype(np.float64)

    return run_steps


def compile_single_step(model: keras.Model, layer_outputs: Callable[[Any], dict[str, Any]]) -> SingleStepFunctions:
    """Return functions to the layers' outputs, to outputs, loss and gradients, and one that applies gradients."""
    variables = model.trainable_variables
    values = [variable.value for variable in variables]

    @_traced_once(_free_batches(model))
    def loss_and_gradients(inputs: Any, targets: tf.Tensor) -> Any:
        with tf.GradientTape() as tape:
            outputs = model(inputs, training=True)
            loss = model.compute_loss(x=inputs, y=targets, y_pred=outputs, training=True)
        return outputs, loss, tape.gradient(loss, values)

    @tf.function
    def apply_gradients(gradients: list[Any]) -> None:
        model.optimizer.apply(gradients, variables)

    return _traced_once(_free_batches(model))(layer_outputs), loss_and_gradients, apply_gradients


def device_of(model: keras.Model) -> str:
    """Return what TensorFlow computes on: "cpu" or "cuda"."""
    del model  # TensorFlow takes a GPU wherever it sees one
    return "cuda" if tf.config.list_physical_devices("GPU") else "cpu"


def execution(model: keras.Model, inputs: Any) -> dict[str, Any]:
    """Say which recurrent kernel a training step runs, read off the graph, and the flags that change its result."""
    graph = (
        tf.function(lambda x: model(x, training=True))
        .get_concrete_function(keras.tree.map_structure(tf.constant, inputs))
        .graph
    )
    definition = graph.as_graph_def()
    nodes = [*definition.node, *(node for function in definition.library.function for node in function.node_def)]
    operations = {node.op for node in nodes}
    if any("CudnnRNN" in operation for operation in operations):
        kernel = "cudnn"
    else:
        kernel = "while-loop" if operations & {"While", "StatelessWhile"} else "unrolled"
    device = device_of(model)
    on_gpu = device == "cuda"
    return {
        "kernel": kernel,
        "tf32": on_gpu and bool(tf.config.experimental.tensor_float_32_execution_enabled()),
        "deterministic": not on_gpu or os.environ.get("TF_DETERMINISTIC_OPS") in ("1", "true"),
        "device": device,
    }
