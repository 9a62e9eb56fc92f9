"""Free-running forecasts: each prediction is the next input; `keras_models/forecast.py` is the mirror."""

import numpy as np
import torch

from torch_models.layers import State, run
from torch_models.weights import Model, device_of


@torch.no_grad()
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
    model.eval()
    states: list[State | None] = [None] * settings.layers

    def step(value: torch.Tensor) -> torch.Tensor:
        for index, layer in enumerate(model.layers):
            outputs, states[index] = run(layer, value[:, None], states[index])
            value = outputs[:, 0]
        return model.head(value)

    inputs = torch.from_numpy(np.ascontiguousarray(history)).to(device_of(model))
    for time in range(history.shape[1]):
        value = step(inputs[:, time])
    values = [value]
    for _ in range(future - 1):
        values.append(step(values[-1]))
    model.train()
    return torch.cat(values, dim=1).cpu().numpy()
