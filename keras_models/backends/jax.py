"""Many training steps in one `lax` loop: the genuine layers, loss and optimizer, each step recorded."""

import operator
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np

from keras_models.weights import Layout, group_norms

SingleStepFunctions = tuple[Callable[..., Any], Callable[..., Any], Callable[..., None]]


def compile_steps(
    model: keras.Model, parts: list[Layout], capacity: int, norms: bool
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Return a function that trains on (steps, batch, …) arrays and returns a row of figures for each step.

    It is compiled once for every batch size, whatever the number of steps up to `capacity`.
    """
    width = 1 + 2 * sum(len(layout.names) for layout in parts) if norms else 1
    norms_of = group_norms(parts)
    gradient_of_loss = jax.value_and_grad(model.compute_loss_and_updates, has_aux=True)

    @jax.jit
    def run(state: Any, steps: Any, inputs: Any, targets: jax.Array) -> tuple[Any, jax.Array]:
        def single_step(step: Any, carry: Any) -> Any:
            (trainable, non_trainable, optimizer_variables), rows = carry
            (loss, aux), gradients = gradient_of_loss(
                trainable,
                non_trainable,
                [],
                keras.tree.map_structure(operator.itemgetter(step), inputs),
                targets[step],
                None,
                training=True,
                optimizer_variables=optimizer_variables,
            )
            non_trainable = aux[2]
            updated, optimizer_variables = model.optimizer.stateless_apply(optimizer_variables, gradients, trainable)
            updates = [new - old for new, old in zip(updated, trainable, strict=True)]
            row = [loss[None], norms_of(gradients), norms_of(updates)] if norms else [loss[None]]
            return (updated, non_trainable, optimizer_variables), rows.at[step].set(jnp.concatenate(row))

        rows = jnp.zeros((len(targets), width), dtype=state[0][0].dtype)
        return jax.lax.fori_loop(0, steps, single_step, (state, rows))

    groups = (model.trainable_variables, model.non_trainable_variables, model.optimizer.variables)

    def run_steps(inputs: Any, targets: np.ndarray) -> np.ndarray:
        steps = len(targets)
        if 1 < steps < capacity:

            def pad(array: np.ndarray) -> np.ndarray:
                return np.pad(array, [(0, capacity - steps)] + [(0, 0)] * (array.ndim - 1))

            inputs, targets = keras.tree.map_structure(pad, inputs), pad(targets)
        state = tuple([variable.value for variable in group] for group in groups)
        state, rows = run(state, steps, inputs, targets)
        for group, values in zip(groups, state, strict=True):
            for variable, value in zip(group, values, strict=True):
                variable.assign(value)
        return np.asarray(rows[:steps], dtype=np.float64)

    return run_steps


def compile_single_step(model: keras.Model, layer_outputs: Callable[[Any], dict[str, Any]]) -> SingleStepFunctions:
    """Return functions to the layers' outputs, to outputs, loss and gradients, and one that applies gradients."""
    groups = (model.trainable_variables, model.non_trainable_variables, model.optimizer.variables)

    def loss_and_outputs(trainable: Any, state: Any, inputs: Any, targets: Any) -> Any:
        non_trainable, optimizer_variables = state
        loss, aux = model.compute_loss_and_updates(
            trainable,
            non_trainable,
            [],
            inputs,
            targets,
            None,
            training=True,
            optimizer_variables=optimizer_variables,
        )
        return loss, (aux[1], aux[2])

    gradient_of_loss = jax.jit(jax.value_and_grad(loss_and_outputs, has_aux=True))
    apply = jax.jit(model.optimizer.stateless_apply)

    def loss_and_gradients(inputs: Any, targets: jax.Array) -> Any:
        trainable, *state = ([variable.value for variable in group] for group in groups)
        (loss, (outputs, non_trainable)), gradients = gradient_of_loss(trainable, state, inputs, targets)
        for variable, value in zip(groups[1], non_trainable, strict=True):
            variable.assign(value)
        return outputs, loss, gradients

    def apply_gradients(gradients: list[Any]) -> None:
        trainable, _, slots = ([variable.value for variable in group] for group in groups)
        for variables, values in zip((groups[0], groups[2]), apply(slots, gradients, trainable), strict=True):
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)

    @jax.jit
    def stateless_outputs(values: Any, inputs: Any) -> dict[str, jax.Array]:
        # Within the scope the layers compute with the arguments; else this state would be compiled in.
        with keras.StatelessScope(list(zip([*groups[0], *groups[1]], values, strict=True))):
            return layer_outputs(inputs)

    def outputs_of_layers(inputs: Any) -> dict[str, jax.Array]:
        return stateless_outputs([variable.value for variable in [*groups[0], *groups[1]]], inputs)

    return outputs_of_layers, loss_and_gradients, apply_gradients


def device_of(model: keras.Model) -> str:
    """Return what JAX computes on: "cpu" or "cuda"."""
    del model  # all arrays go to the first device
    platform = jax.devices()[0].platform
    return "cuda" if platform == "gpu" else platform


def execution(model: keras.Model, inputs: Any) -> dict[str, Any]:
    """Say which recurrent kernel a training step runs, read off the traced program, and the flags of its result."""

    def outputs(values: Any) -> Any:
        with keras.StatelessScope():  # the states are not to be changed by looking
            return model(values, training=True)

    program = str(jax.make_jaxpr(outputs)(inputs))
    marks = {"cudnn": "cudnn", "scan": "scan["}
    kernel = next((name for name, mark in marks.items() if mark in program), "unrolled")
    device = device_of(model)
    precision = jax.config.jax_default_matmul_precision
    return {
        "kernel": kernel,
        # On a GPU JAX's default matmul precision uses TF32; on a CPU there is none.
        "tf32": device == "cuda" and precision in (None, "default", "tensorfloat32", "high"),
        "deterministic": device == "cpu" or "xla_gpu_deterministic_ops=true" in os.environ.get("XLA_FLAGS", ""),
        "device": device,
    }
