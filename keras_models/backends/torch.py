"""Training steps on Keras's torch backend: the genuine layers, loss and `optimizer.apply`, each step recorded."""

import operator
from collections.abc import Callable
from functools import partial
from typing import Any

import keras
import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from keras_models.backends.direct import direct_call, direct_loss
from keras_models.weights import Layout, group_norms, load_non_trainable, read_non_trainable

SingleStepFunctions = tuple[Callable[..., Any], Callable[..., Any], Callable[..., None]]


def compile_steps(
    model: keras.Model, parts: list[Layout], capacity: int, norms: bool
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Return a function that trains on (steps, batch, …) arrays and returns a row of figures for each step."""
    del capacity  # nothing is compiled
    variables = [layout.variable for layout in parts]
    values = [variable.value for variable in variables]
    norms_of = group_norms(parts)
    forward, loss_of = direct_call(model) or partial(model, training=True), direct_loss(model)

    def to_device(array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(values[0].device)

    def run_steps(inputs: Any, targets: np.ndarray) -> np.ndarray:
        rows = []
        tensors, labels = keras.tree.map_structure(to_device, (inputs, targets))
        for step, y in enumerate(labels):
            x = keras.tree.map_structure(operator.itemgetter(step), tensors)
            loss = loss_of(y, forward(x))
            gradients = torch.autograd.grad(loss, values)
            with torch.no_grad():
                before = [value.detach().clone() for value in values if norms]
                model.optimizer.apply(list(gradients), variables)
                row = [loss.detach()[None]]
                if norms:
                    updates = [value.detach() - old for value, old in zip(values, before, strict=True)]
                    row += [norms_of(gradients), norms_of(updates)]
                rows.append(torch.cat(row))
        return torch.stack(rows).cpu().numpy().astype(np.float64)

    return run_steps


def compile_single_step(model: keras.Model, layer_outputs: Callable[[Any], dict[str, Any]]) -> SingleStepFunctions:
    """Return functions to the layers' outputs, to outputs, loss and gradients, and one that applies gradients."""
    variables = model.trainable_variables
    values = [variable.value for variable in variables]

    def loss_and_gradients(inputs: Any, targets: torch.Tensor) -> Any:
        outputs = model(inputs, training=True)
        loss = model.compute_loss(x=inputs, y=targets, y_pred=outputs, training=True)
        return outputs, loss, list(torch.autograd.grad(loss, values))

    def apply_gradients(gradients: list[Any]) -> None:
        with torch.no_grad():
            model.optimizer.apply(gradients, variables)

    @torch.no_grad()
    def outputs_of_layers(inputs: Any) -> dict[str, torch.Tensor]:
        return layer_outputs(inputs)

    return outputs_of_layers, loss_and_gradients, apply_gradients


# The operations by which a kernel is known; looked for in this order.
MARKS = {"cudnn": "_cudnn_rnn", "onednn": "mkldnn_rnn_layer", "fused": "_thnn_fused"}


class _Operations(TorchDispatchMode):
    """Collects the names of the operations dispatched within it, by the layer that was entered last."""

    def __init__(self) -> None:
        super().__init__()
        self.names: dict[str, set[str]] = {}
        self.layer = ""

    def enter(self, layer: keras.layers.Layer, _: Any) -> None:
        """Take what follows to be a layer's; to be called before each layer."""
        self.layer = layer.path
        self.names.setdefault(self.layer, set())

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.setdefault(self.layer, set()).add(str(function))
        return function(*args, **(kwargs or {}))


def device_of(model: keras.Model) -> str:
    """Return what torch computes on: "cpu" or "cuda"."""
    return model.trainable_variables[0].value.device.type


def execution(model: keras.Model, inputs: Any) -> dict[str, Any]:
    """Say which recurrent kernels a training step runs, and the flags that change its result.

    "kernel" joins all layers' kernels by "+". "python-loop" is Keras's own loop over timesteps, "bptt" the loop of
    `keras_models.fast`; "fallbacks" has why a layer of it did not run there.
    """
    non_trainable = read_non_trainable(model)
    operations = _Operations()
    recurrent = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.RNN)]
    hooks = [layer.register_forward_pre_hook(operations.enter) for layer in recurrent]
    with operations:
        outputs = model(inputs, training=True)
    for hook in hooks:
        hook.remove()
    load_non_trainable(model, non_trainable)  # to look is not to take a step
    # A layer of `keras_models.fast` knows how it was computed.
    executions = {layer.path: layer.execution for layer in recurrent if hasattr(layer, "execution")}
    # In cuDNN Bidirectional computes its layers without calling them.
    everything = set().union(*operations.names.values())
    kernels = {
        layer.path: _kernel(operations.names.get(layer.path, everything), executions.get(layer.path))
        for layer in recurrent
    }
    return {
        "kernel": "+".join(sorted(set(kernels.values()))),
        "kernels": kernels,
        "fallbacks": {path: ran.reason for path, ran in executions.items() if ran is not None and ran.reason},
        "tf32": outputs.device.type == "cuda" and bool(torch.backends.cudnn.allow_tf32),
        "deterministic": outputs.device.type == "cpu" or torch.are_deterministic_algorithms_enabled(),
        "device": outputs.device.type,
    }


def _kernel(operations: set[str], execution: Any) -> str:
    """Tell a layer's kernel from its operations; only that a loop is not Keras's has to be believed."""
    loop = "bptt" if execution is not None and execution.kernel == "bptt" else "python-loop"
    return next((name for name, mark in MARKS.items() if any(mark in operation for operation in operations)), loop)
