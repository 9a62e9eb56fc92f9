"""What tests of `keras_models.layers` run inside the process of a Keras backend."""

from typing import Any

import numpy as np


def shared_dropout(side: str, rate: float, values: np.ndarray) -> dict[str, np.ndarray]:
    """What Keras's Dropout makes of values, and SharedDropout with the mask that Keras drew."""
    import keras

    from keras_models.layers import SharedDropout

    own = keras.layers.Dropout(rate, seed=4)
    expected = _numpy(own(values, training=True))
    mask = (expected != 0).astype(values.dtype)
    layer = SharedDropout(rate)
    return {
        "mask": mask,
        "expected": expected,
        "obtained": _numpy(layer([values, mask], training=True)),
        "in inference": _numpy(layer([values, mask], training=False)),
    }


def shared_cell_masks(
    side: str, cell: str, bidirectional: bool, rates: dict[str, float], values: np.ndarray
) -> dict[str, Any]:
    """What a Keras layer with dropout in its cells makes of values, and SharedCellMasks with the masks it drew."""
    import keras

    from keras_models.layers import CELLS, SharedCellMasks, directions

    layer = CELLS[cell](3, seed=2, return_sequences=True, **rates)
    if bidirectional:
        layer = keras.layers.Bidirectional(layer)
    layer.build(values.shape)
    drawn: dict[str, Any] = {}
    for direction, single in directions(layer):
        for name, method in (
            ("input_dropout", "get_dropout_mask"),
            ("recurrent_dropout", "get_recurrent_dropout_mask"),
        ):
            _spy(single.cell, method, f"{direction}.{name}", drawn)
    expected = _numpy(layer(values, training=True))
    masks = {name: np.stack([_numpy(gate) for gate in gates], axis=1) for name, gates in drawn.items()}
    for _, single in directions(layer):
        for method in ("get_dropout_mask", "get_recurrent_dropout_mask"):
            delattr(single.cell, method)
    inputs = {name: keras.ops.convert_to_tensor((mask != 0).astype(values.dtype)) for name, mask in masks.items()}
    shared = SharedCellMasks(layer)
    return {
        "masks": masks,
        "expected": expected,
        "obtained": _numpy(shared(values, inputs, training=True)),
        "again": _numpy(shared(values, inputs, training=True)),
        "in inference": _numpy(shared(values, inputs, training=False)),
        "without dropout": _numpy(layer(values, training=False)),
    }


def _spy(cell: Any, method: str, location: str, drawn: dict[str, Any]) -> None:
    original = getattr(cell, method)

    def spy(step_input: Any) -> Any:
        mask = original(step_input)
        if mask is not None:
            drawn[location] = mask if isinstance(mask, list) else [mask]
        return mask

    setattr(cell, method, spy)


def _numpy(value: Any) -> np.ndarray:
    import keras

    return np.array(keras.ops.convert_to_numpy(value))
