"""Optimizers for the Keras side by name; `torch_models/optimizers.py` is its mirror."""

import keras

OPTIMIZERS = {"adam": keras.optimizers.Adam}


def build_optimizer(name: str = "adam", learning_rate: float = 1e-3) -> keras.optimizers.Optimizer:
    """Build an optimizer by name, with Keras's own defaults for all but the learning rate.

    Raises ValueError for an unknown name.
    """
    if name not in OPTIMIZERS:
        raise ValueError(f"optimizer={name!r} is unknown; accepted: {', '.join(OPTIMIZERS)}")
    return OPTIMIZERS[name](learning_rate=learning_rate)
