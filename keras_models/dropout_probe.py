"""What the model's own dropout does, seen from outside; `torch_models/dropout_probe.py` is the mirror."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_models.layers import directions
from keras_models.single_step import layer_outputs
from keras_models.training import Arrays, to_tensors
from keras_models.weights import Model

# Rows of ones for each dropout, enough to tell a rate of 0.2 from one of 0.21.
ROWS = 256


def dropout_probe(model: Model, inputs: Arrays) -> dict[str, Any]:
    """Return which parts are random in training, and of each dropout the share of zeros and what ones become.

    Inputs are a batch. Keys: "random", names of parts; "places", by location {"zeros", "numbers", "scale"}.
    """
    settings = model.settings
    tensors = to_tensors(model, _many_rows(inputs, settings.stateful))
    first, second = _stages(model, tensors), _stages(model, tensors)
    masks = {}
    for index in range(settings.layers):
        if settings.dropout:
            ones = keras.ops.ones((ROWS, settings.width))
            masks[f"dropout{index}"] = _numpy(model.get_layer(f"dropout{index}")(ones, training=True))
        for direction, single in directions(model.get_layer(f"layer{index}")):
            cell = single.cell
            for kind, width, draw in (
                ("input_dropout", cell.kernel.shape[0], cell.get_dropout_mask),
                ("recurrent_dropout", settings.units, cell.get_recurrent_dropout_mask),
            ):
                if getattr(settings, kind):
                    drawn = draw(keras.ops.ones((ROWS, width)))
                    parts = drawn if isinstance(drawn, list) else [drawn]
                    masks[f"layer{index}.{direction}.{kind}"] = np.stack([_numpy(part) for part in parts])
            cell.reset_dropout_mask()
            cell.reset_recurrent_dropout_mask()
    return {
        "random": [name for name in first if not np.array_equal(first[name], second[name])],
        "places": {
            name: {"zeros": int((mask == 0).sum()), "numbers": mask.size, "scale": float(mask.max())}
            for name, mask in masks.items()
        },
    }


def _many_rows(inputs: Arrays, stateful: bool) -> Arrays:
    """Repeat a batch, since two draws for few rows may be alike; a stateful model takes its own number alone."""
    if stateful:
        return inputs
    if isinstance(inputs, Mapping):
        return {name: _many_rows(array, stateful) for name, array in inputs.items()}
    return np.repeat(inputs, -(-ROWS // len(inputs)), axis=0)


def _stages(model: Model, tensors: Any) -> dict[str, np.ndarray]:
    stages = {name: _numpy(outputs) for name, outputs in layer_outputs(model, tensors).items()}
    return stages | {"head": _numpy(model(tensors, training=True))}


def _numpy(value: Any) -> np.ndarray:
    return np.array(keras.ops.convert_to_numpy(value))
