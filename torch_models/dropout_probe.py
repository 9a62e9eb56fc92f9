"""What the model's own dropout does, seen from outside; `keras_models/dropout_probe.py` is the mirror."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from torch_models.training import Arrays, to_tensors
from torch_models.weights import Model, device_of, directions

# Rows of ones for each dropout, enough to tell a rate of 0.2 from one of 0.21.
ROWS = 256


@torch.no_grad()
def dropout_probe(model: Model, inputs: Arrays) -> dict[str, Any]:
    """Return which parts are random in training, and of each dropout the share of zeros and what ones become.

    Inputs are a batch. Keys: "random", names of parts; "places", by location {"zeros", "numbers", "scale"}.
    """
    settings = model.settings
    model.train()
    device = device_of(model)
    tensors = to_tensors(model, _many_rows(inputs, settings.stateful))
    first, second = dict(model.stages(tensors)), dict(model.stages(tensors))
    masks = {}
    for index, layer in enumerate(model.layers):
        if settings.dropout:
            masks[f"dropout{index}"] = model._dropout({}, index, torch.ones(ROWS, settings.width, device=device))
        for direction, single in directions(layer):
            for kind, width in (
                ("input_dropout", single.weight_ih_l0.shape[1]),
                ("recurrent_dropout", settings.units),
            ):
                if getattr(settings, kind):
                    drawn = model._cell_masks({}, kind, torch.ones(ROWS, 1, width, device=device))
                    masks[f"layer{index}.{direction}.{kind}"] = drawn
    return {
        "random": [name for name in first if not torch.equal(first[name], second[name])],
        "places": {
            name: {"zeros": int((mask == 0).sum()), "numbers": mask.numel(), "scale": float(mask.max())}
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
