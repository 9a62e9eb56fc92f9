"""A model's forward pass and loss without what Keras does around the call of every layer and of the loss."""

import inspect
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import keras

# Their `call` needs nothing of what `__call__` prepares, as long as there is no mask.
PLAIN = (keras.layers.SimpleRNN, keras.layers.LSTM, keras.layers.GRU, keras.layers.Dense, keras.layers.Dropout)


def direct_call(model: keras.Model) -> Callable[[Any], Any] | None:
    """Return a function from a batch to the model's outputs in training: each layer's own `call`, one after the other.

    Where nothing is compiled, Keras's checks and conversions around the calls take half a millisecond even of a model
    of two layers. None where they have something to do: for anything but a chain of `PLAIN` layers of one precision,
    and where there are hooks or activity regularizers.
    """
    layers = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    dtype = model.inputs[0].dtype
    if not (_is_chain(model, layers) and all(_is_plain(layer, dtype) for layer in (model, *layers))):
        return None
    takes_training = ["training" in inspect.signature(layer.call).parameters for layer in layers]
    steps = [(layer, {"training": True} if takes else {}) for layer, takes in zip(layers, takes_training, strict=True)]

    def forward(inputs: Any) -> Any:
        if keras.backend.standardize_dtype(inputs.dtype) != dtype:
            return model(inputs, training=True)
        outputs = inputs
        for layer, arguments in steps:
            outputs = layer.call(outputs, **arguments)
        return outputs

    return forward


def direct_loss(model: keras.Model) -> Callable[[Any, Any], Any]:
    """Return a function from targets and outputs to the loss: the compiled `Loss` itself where nothing else counts.

    For a chain of `direct_call` without regularizers that is what `compute_loss` returns after twice as long; elsewhere
    the function is `compute_loss`.
    """
    loss, compiled = model.loss, model._compile_loss
    if (
        isinstance(loss, keras.losses.Loss)
        and type(model).compute_loss is keras.Model.compute_loss
        and compiled._user_loss_weights is None
        and compiled.dtype == loss.dtype
        and not model.losses
        and direct_call(model) is not None
    ):
        return loss
    return lambda targets, outputs: model.compute_loss(y=targets, y_pred=outputs, training=True)


def _is_chain(model: keras.Model, layers: list[keras.layers.Layer]) -> bool:
    """Whether the model hands its one input from one layer to the next and does nothing else."""
    if not (type(model).__module__.startswith("keras.") and layers and all(isinstance(x, PLAIN) for x in layers)):
        return False
    if type(model) is keras.Sequential:
        return True
    try:
        follows = [before.output is after.input for before, after in pairwise(layers)]
        ends = [layers[0].input is model.inputs[0], layers[-1].output is model.outputs[0]]
    except (AttributeError, ValueError):  # a layer that is called more than once, or on more than one tensor
        return False
    return len(model.inputs) == len(model.outputs) == 1 and all(follows + ends)


def _is_plain(layer: keras.layers.Layer, dtype: str) -> bool:
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return (
        layer.compute_dtype == layer.variable_dtype == dtype
        and layer.activity_regularizer is None
        and layer.quantization_mode is None
        and layer._remat_mode is None
        and not any(getattr(layer, name, None) for name in hooks)
    )
