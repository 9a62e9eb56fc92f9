"""A single training step from a given state, all of it recorded; `torch_models/single_step.py` is the mirror."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import keras
import numpy as np

from keras_models import backends
from keras_models.layers import directions, inner
from keras_models.optimizers import clip_gradients, learning_rate, load_slots, read_slots
from keras_models.training import Arrays, prepare, to_tensors
from keras_models.weights import Model, layouts, load_non_trainable, read_non_trainable, to_canonical


class SingleStep:
    """Takes single steps with a model, a loss and an optimizer."""

    def __init__(self, model: Model, loss: keras.losses.Loss, optimizer: keras.optimizers.Optimizer) -> None:
        self.model, self.loss, self.optimizer = model, loss, optimizer
        prepare(model, loss, optimizer)
        functions = backends.load().compile_single_step(model, partial(layer_outputs, model))
        self.layer_outputs, self.loss_and_gradients, self.apply_gradients = functions

    def __call__(
        self,
        slots: Mapping[str, np.ndarray],
        non_trainable: Mapping[str, np.ndarray],
        iterations: int,
        inputs: Arrays,
        targets: np.ndarray,
    ) -> dict[str, np.ndarray]:
        """Train one step on a batch and return everything computed on the way, by phase and canonical name.

        The model already holds the weights before the step. Keys: inputs/…, targets, weights/…, forward/<layer> (batch,
        time, units), forward/head, loss, learning_rate, gradient/…, clip/…, update/…, slot/…, non_trainable/….
        """
        model, optimizer = self.model, self.optimizer
        load_slots(model, optimizer, slots, iterations)
        before = to_canonical(model)
        x, y = to_tensors(model, inputs), to_tensors(model, targets)
        arrays = x if isinstance(x, Mapping) else {"sequence": x}
        record = {"targets": _numpy(y)} | {f"weights/{name}": tensor for name, tensor in before.items()}
        record |= {f"inputs/{name}": _numpy(array) for name, array in arrays.items()}

        load_non_trainable(model, non_trainable)
        record |= {f"forward/{name}": _numpy(outputs) for name, outputs in self.layer_outputs(x).items()}
        load_non_trainable(model, non_trainable)
        outputs, error, gradients = self.loss_and_gradients(x, y)
        record |= {"forward/head": _numpy(outputs), "loss": _numpy(error)}

        record["learning_rate"] = np.float64(learning_rate(optimizer))
        parts = layouts(model)
        for phase, values in {"gradient": gradients, "clip": clip_gradients(optimizer, gradients)}.items():
            for layout, value in zip(parts, values, strict=True):
                record |= {f"{phase}/{name}": tensor for name, tensor in layout.split(_numpy(value)).items()}
        self.apply_gradients(gradients)
        record |= {f"update/{name}": tensor - before[name] for name, tensor in to_canonical(model).items()}
        record |= {f"slot/{name}": tensor for name, tensor in read_slots(model, optimizer).items()}
        return record | {f"non_trainable/{name}": tensor for name, tensor in read_non_trainable(model).items()}


def layer_outputs(model: Model, inputs: Any) -> dict[str, Any]:
    """Return each layer's outputs, recurrent layers' at every timestep, computed by the model's own layers."""
    recurrent = [
        layer for layer in model.layers if isinstance(inner(layer), keras.layers.RNN | keras.layers.Bidirectional)
    ]
    last = inner(recurrent[-1])
    names = [layer.name for layer in model.layers[: model.layers.index(recurrent[-1]) + 1] if _is_recorded(layer)]
    submodel = keras.Model(model.input, {name: model.get_layer(name).output for name in names})
    parts = [last, *(layer for _, layer in directions(last))]
    return_sequences = [layer.return_sequences for layer in parts]
    try:
        for layer in parts:
            layer.return_sequences = True
        return submodel(inputs, training=True)
    finally:
        for layer, before in zip(parts, return_sequences, strict=True):
            layer.return_sequences = before


def _is_recorded(layer: keras.layers.Layer) -> bool:
    kinds = (keras.layers.RNN, keras.layers.Bidirectional, keras.layers.Embedding)
    kinds += (keras.layers.LayerNormalization, keras.layers.BatchNormalization)
    return isinstance(inner(layer), kinds)


def _numpy(value: Any) -> np.ndarray:
    # Only backend-native tensors and arrays come here; a copy, since torch and JAX may hand out their own memory.
    return np.array(keras.ops.convert_to_numpy(value))
