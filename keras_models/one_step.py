"""One training step taken apart, from a given state; `torch_models/one_step.py` is its mirror."""

import importlib
from collections.abc import Mapping
from functools import partial
from typing import Any

import keras
import numpy as np

from keras_models.optimizers import clip_gradients, load_slots, read_slots
from keras_models.weights import layouts, to_canonical


class OneStep:
    """Takes single steps with a model that was compiled with a loss and an optimizer."""

    def __init__(self, model: keras.Model) -> None:
        backend = importlib.import_module(f"keras_models.training_{keras.backend.backend()}")
        self.model = model
        functions = backend.compile_one_step(model, partial(layer_outputs, model))
        self.layer_outputs, self.loss_and_gradients, self.apply_gradients = functions

    def __call__(
        self, slots: Mapping[str, np.ndarray], iterations: int, inputs: np.ndarray, targets: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Train one step on a batch and return everything computed on the way, by phase and canonical name.

        The model already holds the weights to start from. Keys: inputs, targets, weights/…, forward/<layer> (batch,
        time, units), forward/head, loss, learning_rate,
        gradient/…, clip/…, update/…, slot/….
        """
        model, optimizer = self.model, self.model.optimizer
        load_slots(model, optimizer, dict(slots), iterations)
        found = layouts(model)
        before = to_canonical(model)
        x, y = (keras.ops.convert_to_tensor(np.ascontiguousarray(array)) for array in (inputs, targets))
        record = {"inputs": _numpy(x), "targets": _numpy(y)} | {
            f"weights/{name}": part for name, part in before.items()
        }

        record |= {f"forward/{name}": _numpy(sequence) for name, sequence in self.layer_outputs(x).items()}
        outputs, error, gradients = self.loss_and_gradients(x, y)
        record["forward/head"] = _numpy(outputs)
        record["loss"] = _numpy(error)
        record["learning_rate"] = np.float64(_numpy(keras.ops.convert_to_tensor(optimizer.learning_rate)))

        for phase, values in {"gradient": gradients, "clip": clip_gradients(optimizer, gradients)}.items():
            for layout, value in zip(found, values, strict=True):
                record |= {f"{phase}/{name}": part for name, part in layout.split(_numpy(value)).items()}
        self.apply_gradients(gradients)
        record |= {f"update/{name}": part - before[name] for name, part in to_canonical(model).items()}
        return record | {f"slot/{name}": part for name, part in read_slots(model, optimizer).items()}


def layer_outputs(model: keras.Model, inputs: Any) -> dict[str, Any]:
    """Return each recurrent layer's outputs at every timestep, computed by the model's own layers."""
    found = {}
    sequence = inputs
    for layer in model.layers:
        if not isinstance(layer, keras.layers.RNN):
            break
        asked, layer.return_sequences = layer.return_sequences, True
        try:
            sequence = layer(sequence)
        finally:
            layer.return_sequences = asked
        found[layer.name] = sequence
    return found


def _numpy(value: Any) -> np.ndarray:
    # Only backend-native tensors and arrays come here; a copy, since torch and JAX may hand out their own memory.
    return np.array(keras.ops.convert_to_numpy(value))
