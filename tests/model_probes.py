"""What tests of the models' options run inside the process of a framework; a side comes first, as in `probes`."""

from typing import Any

import numpy as np
from model_options import Example
from probes import new_model, package

LEARNING_RATE = 0.05


def one_step(side: str, example: Example) -> dict[str, np.ndarray]:
    """Take a training step of an example: forward/…, loss, gradient/… and carried/… as `OneStep` records them."""
    model = new_model(side, example.keywords, example.weights)
    return _take(side, model, example)


def _take(side: str, model: Any, example: Example) -> dict[str, np.ndarray]:
    both = package(side)
    loss = both.build_loss(example.option.loss)
    if side == "torch":
        optimizer = both.build_optimizer(model.named_parameters(), "sgd", learning_rate=LEARNING_RATE)
        take = both.OneStep(model, loss, optimizer)
    else:
        import keras

        optimizer = both.build_optimizer("sgd", learning_rate=LEARNING_RATE)
        model.compile(optimizer=optimizer, loss=loss, jit_compile=keras.backend.backend() == "jax")
        optimizer.build(model.trainable_variables)
        take = both.OneStep(model)
    slots = both.read_slots(model, optimizer)
    inputs = example.inputs if len(example.inputs) > 1 else example.inputs["sequence"]
    return take(slots, example.carried, 0, inputs, example.targets)
