"""What a session writes down: arrays that are copies; torch_observer/recording.py is its mirror."""

from typing import Any

import keras
import numpy as np


def copied(value: Any) -> np.ndarray:
    """The numbers of a tensor or variable now, half precision as float32."""
    array = np.array(keras.ops.convert_to_numpy(value))
    return array.astype(np.float32) if array.dtype.name in ("bfloat16", "float16") else array
