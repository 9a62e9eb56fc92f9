"""What the model's own dropout does, seen from outside; `torch_models/dropout_probe.py` is its mirror."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_models.layers import directions
from keras_models.single_step import layer_outputs
from keras_models.training import Arrays

# Rows that each dropout is given: of ones, enough to tell a rate of 0.2 from one of 0.21.
ROWS = 256


def dropout_probe(model: keras.Model, inputs: Arrays) -> dict[str, Any]:
    """Return which parts are random in training, and of each dropout the share of zeros and what ones become.

    Inputs are a batch. Keys: "random", names of stages; "places", by place {"zeros", "numbers", "scale"}.
    """
    settings = model.settings
    inputs = _many_rows(inputs, settings.stateful)
    once, again = _stages(model, inputs), _stages(model, inputs)
    places = {}
    for index in range(settings.layers):
        if settings.dropout:
            ones = keras.ops.ones((ROWS, settings.width))
            places[f"dropout{index}"] = [model.get_layer(f"dropout{index}")(ones, training=True)]
        for direction, single in directions(model.get_layer(f"layer{index}")):
            cell = single.cell
            ones = {"input_dropout": (ROWS, cell.kernel.shape[0]), "recurrent_dropout": (ROWS, settings.units)}
            for kind, draw in {
                "input_dropout": cell.get_dropout_mask,
                "recurrent_dropout": cell.get_recurrent_dropout_mask,
            }.items():
                if getattr(settings, kind):
                    masks = draw(keras.ops.ones(ones[kind]))
                    places[f"layer{index}.{direction}.{kind}"] = masks if isinstance(masks, list) else [masks]
            cell.reset_dropout_mask()
            cell.reset_recurrent_dropout_mask()
    arrays = {name: np.stack([_numpy(part) for part in parts]) for name, parts in places.items()}
    return {
        "random": [name for name in once if not np.array_equal(once[name], again[name])],
        "places": {
            name: {"zeros": int((values == 0).sum()), "numbers": values.size, "scale": float(values.max())}
            for name, values in arrays.items()
        },
    }


def _many_rows(inputs: Arrays, stateful: bool) -> Arrays:
    """Repeat a batch, since two draws for few rows may be alike; a stateful model takes its own number alone."""
    if stateful:
        return inputs
    if isinstance(inputs, Mapping):
        return {name: _many_rows(array, stateful) for name, array in inputs.items()}
    return np.repeat(inputs, -(-ROWS // len(inputs)), axis=0)


def _stages(model: keras.Model, inputs: Arrays) -> dict[str, np.ndarray]:
    tensors = keras.tree.map_structure(keras.ops.convert_to_tensor, inputs)
    found = {name: _numpy(values) for name, values in layer_outputs(model, tensors).items()}
    return found | {"head": _numpy(model(tensors, training=True))}


def _numpy(values: Any) -> np.ndarray:
    return np.array(keras.ops.convert_to_numpy(values))
