"""Losses by name, Keras's own; `torch_models/losses.py` is the mirror."""

import keras

LOSSES = {
    "mse": keras.losses.MeanSquaredError,
    "mae": keras.losses.MeanAbsoluteError,
    "huber": keras.losses.Huber,
    "sparse_categorical_crossentropy": keras.losses.SparseCategoricalCrossentropy,
}


def build_loss(name: str) -> keras.losses.Loss:
    """Build a loss by name; crossentropy takes logits. Raises ValueError for an unknown one."""
    if name not in LOSSES:
        raise ValueError(f"loss {name!r} is unknown; accepted: {', '.join(LOSSES)}")
    return LOSSES[name](**({"from_logits": True} if "crossentropy" in name else {}))
