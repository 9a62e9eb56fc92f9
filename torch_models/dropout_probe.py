"""What the model's own dropout does, seen from outside; `keras_models/dropout_probe.py` is its mirror."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from torch_models.recurrent import Recurrent
from torch_models.training import Arrays, to_tensors
from torch_models.weights import directions

# Rows that each dropout is given: of ones, enough to tell a rate of 0.2 from one of 0.21.
ROWS = 256


@torch.no_grad()
def dropout_probe(model: Recurrent, inputs: Arrays) -> dict[str, Any]:
    """Return which parts are random in training, and of each dropout the share of zeros and what ones become.

    Inputs are a batch. Keys: "random", names of `stages`; "places", by place {"zeros", "numbers", "scale"}.
    """
    settings = model.settings
    model.train()
    tensors = to_tensors(model, _many_rows(inputs, settings.stateful))
    once, again = dict(model.stages(tensors)), dict(model.stages(tensors))
    places = {}
    for index, layer in enumerate(model.layers):
        if settings.dropout:
            places[f"dropout{index}"] = model._drop(torch.ones(ROWS, settings.width), {}, index)
        for direction, single in directions(layer):
            widths = {"input_dropout": single.weight_ih_l0.shape[1], "recurrent_dropout": settings.units}
            for kind, width in widths.items():
                masks = model._cell_masks(kind, torch.ones(ROWS, 1, width), getattr(settings, kind), {})
                if masks is not None:
                    places[f"layer{index}.{direction}.{kind}"] = masks
    return {
        "random": [name for name in once if not torch.equal(once[name], again[name])],
        "places": {
            name: {"zeros": int((values == 0).sum()), "numbers": values.numel(), "scale": float(values.max())}
            for name, values in places.items()
        },
    }


def _many_rows(inputs: Arrays, stateful: bool) -> Arrays:
    """Repeat a batch, since two draws for few rows may be alike; a stateful model takes its own number alone."""
    if stateful:
        return inputs
    if isinstance(inputs, Mapping):
        return {name: _many_rows(array, stateful) for name, array in inputs.items()}
    return np.repeat(inputs, -(-ROWS // len(inputs)), axis=0)
