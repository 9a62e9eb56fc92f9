"""One training step taken apart, from a given state; `torch_models/single_step.py` is its mirror."""

import importlib
from collections.abc import Mapping
from functools import partial
from typing import Any

import keras
import numpy as np

from keras_models.layers import directions, inner
from keras_models.optimizers import clip_gradients, load_slots, read_slots
from keras_models.training import Arrays
from keras_models.weights import layouts, load_non_trainable, read_non_trainable, to_canonical


class SingleStep:
    """Takes single steps with a model that was compiled with a loss and an optimizer."""

    def __init__(self, model: keras.Model) -> None:
        backend = importlib.import_module(f"keras_models.training_{keras.backend.backend()}")
        self.model = model
        functions = backend.compile_single_step(model, partial(layer_outputs, model))
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

        The model already holds the weights to start from. Keys: inputs/…, targets, weights/…, forward/<layer> (batch,
        time, units), forward/head, loss, learning_rate, gradient/…, clip/…, update/…, slot/…, non_trainable/….
        """
        model, optimizer = self.model, self.model.optimizer
        load_slots(model, optimizer, dict(slots), iterations)
        found = layouts(model)
        before = to_canonical(model)
        x, y = keras.tree.map_structure(
            lambda array: keras.ops.convert_to_tensor(np.ascontiguousarray(array)), (inputs, targets)
        )
        record = {"targets": _numpy(y)} | {f"weights/{name}": part for name, part in before.items()}
        given = x if isinstance(x, Mapping) else {"sequence": x}
        record |= {f"inputs/{name}": _numpy(array) for name, array in given.items()}

        load_non_trainable(model, dict(non_trainable))
        record |= {f"forward/{name}": _numpy(sequence) for name, sequence in self.layer_outputs(x).items()}
        load_non_trainable(model, dict(non_trainable))
        outputs, error, gradients = self.loss_and_gradients(x, y)
        record["forward/head"] = _numpy(outputs)
        record["loss"] = _numpy(error)
        record["learning_rate"] = np.float64(_numpy(keras.ops.convert_to_tensor(optimizer.learning_rate)))

        for phase, values in {"gradient": gradients, "clip": clip_gradients(optimizer, gradients)}.items():
            for layout, value in zip(found, values, strict=True):
                record |= {f"{phase}/{name}": part for name, part in layout.split(_numpy(value)).items()}
        self.apply_gradients(gradients)
        record |= {f"update/{name}": part - before[name] for name, part in to_canonical(model).items()}
        record |= {f"slot/{name}": part for name, part in read_slots(model, optimizer).items()}
        return record | {f"non_trainable/{name}": part for name, part in read_non_trainable(model).items()}


def layer_outputs(model: keras.Model, inputs: Any) -> dict[str, Any]:
    """Return each layer's outputs, recurrent layers' at every timestep, computed by the model's own layers."""
    recurrent = [
        layer for layer in model.layers if isinstance(inner(layer), keras.layers.RNN | keras.layers.Bidirectional)
    ]
    last = inner(recurrent[-1])
    names = [layer.name for layer in model.layers[: model.layers.index(recurrent[-1]) + 1] if _is_recorded(layer)]
    part = keras.Model(model.input, {name: model.get_layer(name).output for name in names})
    parts = [last, *(layer for _, layer in directions(last))]
    asked = [layer.return_sequences for layer in parts]
    try:
        for layer in parts:
            layer.return_sequences = True
        return part(inputs, training=True)
    finally:
        for layer, before in zip(parts, asked, strict=True):
            layer.return_sequences = before


def _is_recorded(layer: keras.layers.Layer) -> bool:
    kinds = (keras.layers.RNN, keras.layers.Bidirectional, keras.layers.Embedding)
    kinds += (keras.layers.LayerNormalization, keras.layers.BatchNormalization)
    return isinstance(inner(layer), kinds)


def _numpy(value: Any) -> np.ndarray:
    # Only backend-native tensors and arrays come here; a copy, since torch and JAX may hand out their own memory.
    return np.array(keras.ops.convert_to_numpy(value))
