"""Fast layers in place of Keras's own: wherever one is made, or in a model that is there."""

from collections.abc import Callable
from typing import Any

import keras

from keras_models.fast.layers import FAST, Execution, Fast

STOCK = {fast: stock for stock, fast in FAST.items()}


def enable(model: keras.layers.Layer | None = None) -> None:
    """Make the recurrent layers of a model fast, or without one every such layer that is made from now on.

    A model's layers are changed where they stand: its variables, its optimizer and whatever refers to them stay.
    Without a model, `keras.layers.LSTM(…)` and the like give a fast layer, however they were imported, also where a
    saved model is loaded; layers that are there already stay as they are. Classes derived from Keras's are left alone.
    Raises TypeError for what is not a layer or model.
    """
    if model is not None:
        _exchange(model, FAST)
        return
    for stock, fast in FAST.items():
        stock.__new__ = _maker(stock, fast)


def disable(model: keras.layers.Layer | None = None) -> None:
    """Undo `enable`: for a model, or without one for the layers that are made from now on."""
    if model is not None:
        _exchange(model, STOCK)
        return
    for stock in FAST:
        if "__new__" in vars(stock):
            del stock.__new__


def executions(model: keras.layers.Layer) -> dict[str, Execution | None]:
    """Say for each fast layer of a model, by its path in it, how it was computed when it was called last.

    None: it was not called; in cuDNN `Bidirectional` computes its two layers at once without calling them.
    Raises TypeError for what is not a layer or model.
    """
    return {layer.path or layer.name: layer.execution for layer in _layers(model) if isinstance(layer, Fast)}


def _maker(stock: type, fast: type) -> Callable[..., Any]:
    def __new__(cls: type, *args: Any, **kwargs: Any) -> Any:
        return super(stock, cls).__new__(fast if cls is stock else cls, *args, **kwargs)

    return __new__


def _layers(model: keras.layers.Layer) -> list[keras.layers.Layer]:
    if not isinstance(model, keras.layers.Layer):
        raise TypeError(f"a Keras model or layer is needed, not {model!r}")
    return list(model._flatten_layers())


def _exchange(model: keras.layers.Layer, classes: dict[type, type]) -> None:
    for layer in _layers(model):
        if type(layer) in classes:
            object.__setattr__(layer, "__class__", classes[type(layer)])


_wrap = keras.layers.Bidirectional.__init__


def _wrap_and_keep_fast(
    self: keras.layers.Bidirectional,
    layer: keras.layers.Layer,
    merge_mode: str | None = "concat",
    weights: Any = None,
    backward_layer: keras.layers.Layer | None = None,
    **kwargs: Any,
) -> None:
    _wrap(self, layer, merge_mode, weights, backward_layer, **kwargs)
    if isinstance(layer, Fast):
        enable(self.forward_layer)
        if backward_layer is None:
            enable(self.backward_layer)


# Bidirectional makes its layers anew from how its layer is saved: as one of Keras's.
keras.layers.Bidirectional.__init__ = _wrap_and_keep_fast
