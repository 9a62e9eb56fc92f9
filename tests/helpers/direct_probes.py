"""What tests of `keras_models.backends.direct` run inside the process of Keras on torch; each takes a side first."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np


def _chain(*layers: Any, **options: Any) -> Any:
    import keras

    return keras.Sequential([keras.Input((5, 3), **options), *layers])


def models() -> dict[str, Callable[[], Any]]:
    """Models by name, each made of Keras's layers; those whose name starts with "not" are no plain chain."""
    import keras

    layers = keras.layers

    def branched() -> Any:
        inputs = keras.Input((5, 3))
        hidden = layers.GRU(4)(inputs)
        return keras.Model(inputs, layers.Dense(1)(layers.add([hidden, layers.SimpleRNN(4)(inputs)])))

    def two_outputs() -> Any:
        inputs = keras.Input((5, 3))
        hidden = layers.Dense(4)(inputs)
        return keras.Model(inputs, [hidden, layers.Dense(1)(hidden)])

    def used_twice() -> Any:
        inputs = keras.Input((5, 3))
        dense = layers.Dense(3)
        return keras.Model(inputs, dense(dense(inputs)))

    def functional() -> Any:
        inputs = keras.Input((5, 3))
        return keras.Model(inputs, layers.Dense(2)(layers.LSTM(4)(inputs)))

    class Derived(keras.Sequential):
        """A model with a step of its own."""

        def call(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:
            return 2 * super().call(inputs, training=training, mask=mask)

    def hooked() -> Any:
        model = _chain(layers.GRU(4))
        model.layers[0].register_forward_hook(lambda layer, arguments, outputs: 2 * outputs)
        return model

    return {
        "one-layer": lambda: _chain(layers.SimpleRNN(4)),
        "stack": lambda: _chain(layers.LSTM(4, return_sequences=True), layers.GRU(4), layers.Dense(1)),
        "dropout": lambda: _chain(layers.GRU(4, dropout=0.5, seed=1), layers.Dropout(0.5, seed=2), layers.Dense(1)),
        "functional": functional,
        "regularized": lambda: _chain(layers.LSTM(4, kernel_regularizer="l2"), layers.Dense(1)),
        "not-a-chain": branched,
        "not-one-output": two_outputs,
        "not-used-once": used_twice,
        "not-a-model-of-keras": lambda: Derived([keras.Input((5, 3)), layers.Dense(2)]),
        "not-without-hooks": hooked,
        "not-without-masks": lambda: _chain(layers.Masking(), layers.GRU(4)),
        "not-without-activity-regularizer": lambda: _chain(layers.Dense(4, activity_regularizer="l2")),
        "not-one-precision": lambda: _chain(layers.GRU(4, dtype="mixed_bfloat16")),
        "not-of-the-inputs-precision": lambda: _chain(layers.GRU(4), dtype="float64"),
    }


def beside_model(side: str, name: str) -> tuple[bool, list[np.ndarray], list[np.ndarray]]:
    """Whether a model is called directly; two calls' outputs and the losses added to them, so and as Keras does it."""
    import keras
    import torch

    from keras_models.backends.direct import direct_call

    inputs = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    obtained, is_direct = [], False
    for direct in (True, False):
        model = models()[name]()
        for index, variable in enumerate(model.trainable_variables):
            variable.assign(np.random.default_rng(index).normal(0, 0.5, tuple(variable.shape)))
        forward = direct_call(model) if direct else None
        is_direct = is_direct or forward is not None
        run = forward or partial(model, training=True)
        outputs = [run(inputs) for _ in range(2)]
        obtained.append([np.array(x.detach().float()) for x in keras.tree.flatten([outputs, model.losses])])
    return is_direct, *obtained


def other_dtype(side: str) -> str:
    """The dtype of what a float32 model gives for float64 inputs."""
    import torch

    from keras_models.backends.direct import direct_call

    forward = direct_call(models()["stack"]())
    return str(forward(torch.randn(2, 5, 3, dtype=torch.float64)).dtype)


LOSSES = {
    "the-loss": {"loss": "MeanSquaredError"},
    "not-a-weighted-loss": {"loss": "MeanSquaredError", "loss_weights": 0.5},
    "not-a-function": {"loss": "mse"},
    "not-with-a-regularizer": {"loss": "MeanSquaredError"},
    "not-an-own-compute-loss": {"loss": "MeanSquaredError"},
    "not-another-precision": {"loss": "MeanSquaredError"},
}


def beside_compute_loss(side: str, name: str) -> tuple[bool, list[np.ndarray], list[np.ndarray]]:
    """Whether a model's loss is called directly; loss and gradient by the outputs, so and as Keras computes them."""
    import keras
    import torch

    from keras_models.backends.direct import direct_loss

    class Halved(keras.Sequential):
        """A model with a loss of its own."""

        def compute_loss(self, *arguments: Any, **keywords: Any) -> Any:
            return super().compute_loss(*arguments, **keywords) / 2

    regularizer = "l2" if "regularizer" in name else None
    kind = Halved if "own" in name else keras.Sequential
    model = kind([keras.Input((5, 3)), keras.layers.GRU(4, kernel_regularizer=regularizer), keras.layers.Dense(2)])
    loss, options = LOSSES[name]["loss"], {key: value for key, value in LOSSES[name].items() if key != "loss"}
    dtype = "float64" if "precision" in name else None
    model.compile(loss=getattr(keras.losses, loss)(dtype=dtype) if hasattr(keras.losses, loss) else loss, **options)
    generator = torch.Generator().manual_seed(0)
    targets, outputs = (torch.randn(4, 2, generator=generator) for _ in range(2))
    obtained, direct = [], direct_loss(model)
    for loss_of in (direct, lambda y, y_pred: model.compute_loss(y=y, y_pred=y_pred, training=True)):
        given = outputs.clone().requires_grad_()
        value = loss_of(targets, given)
        (gradient,) = torch.autograd.grad(value, given)
        obtained.append([value.detach().numpy(), gradient.numpy()])
    return direct is model.loss, *obtained
