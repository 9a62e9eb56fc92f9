"""Free-running forecasts: each prediction is the next input; `torch_models/forecast.py` is the mirror."""

from typing import Any

import keras
import numpy as np

from keras_models.layers import inner
from keras_models.weights import Model


def forecast(model: Model, history: np.ndarray, future: int) -> np.ndarray:
    """Return the next `future` values (batch, future) after a history (batch, time, 1).

    The states of all layers go on from timestep to timestep; nothing is read twice.
    Raises ValueError for a model that does not predict its own one input from a plain stack of layers.
    """
    settings = model.settings
    if settings.features != 1 or settings.outputs != 1 or settings.bidirectional or settings.head == "every_output":
        raise ValueError("a forecast needs a model of one feature and one output that runs forward in time")
    if settings.embedding or settings.normalization or settings.go_backwards:
        raise ValueError("a forecast needs a plain stack of recurrent layers and a head")
    layers = [inner(model.get_layer(f"layer{index}")) for index in range(settings.layers)]
    states = [layer.get_initial_state(batch_size=len(history)) for layer in layers]

    def step(value: Any) -> Any:
        for index, layer in enumerate(layers):
            value, states[index] = layer.cell(value, states[index])
        return model.get_layer("head")(value)

    inputs = keras.ops.convert_to_tensor(np.ascontiguousarray(history.swapaxes(0, 1)))
    for time in range(history.shape[1]):
        value = step(inputs[time])
    values = [value]
    for _ in range(future - 1):
        values.append(step(values[-1]))
    return np.array(keras.ops.convert_to_numpy(keras.ops.concatenate(values, axis=1)))
