"""What tests of the models' options run inside the process of a framework; a side comes first, as in `probes`."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from model_options import Example
from probes import new_model, package

LEARNING_RATE = 0.05


def one_step(side: str, example: Example, compiled: bool = True) -> dict[str, np.ndarray]:
    """Take a training step of an example: forward/…, loss, gradient/… and carried/… as `OneStep` records them.

    On TensorFlow and JAX the step can be left uncompiled, which saves most of the time of a single one.
    """
    with _compiled(side, compiled):
        model = new_model(side, example.keywords, example.weights)
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
        return take(both.read_slots(model, optimizer), example.carried, 0, inputs_of(example), example.targets)


def predictions(side: str, example: Example, compiled: bool = True) -> np.ndarray:
    """What a model with an example's weights and running figures predicts; of a stateful one from zero states."""
    with _compiled(side, compiled):
        model = new_model(side, example.keywords, example.weights)
        package(side).load_carried(model, example.carried)
        return package(side).predict(model, inputs_of(example))


def inputs_of(example: Example) -> Any:
    """The inputs as the models take them: an array where the sequence is all."""
    return example.inputs if len(example.inputs) > 1 else example.inputs["sequence"]


@contextmanager
def _compiled(side: str, compiled: bool) -> Iterator[None]:
    if side == "keras-jax" and not compiled:
        import jax

        with jax.disable_jit():
            yield
    elif side == "keras-tensorflow" and not compiled:
        import tensorflow as tf

        tf.config.run_functions_eagerly(True)
        try:
            yield
        finally:
            tf.config.run_functions_eagerly(False)
    else:
        yield
