"""In which precision Keras really computes."""

from functools import cache

import keras
import numpy as np

# Where Keras's dtype promotion has been seen to turn float64 into float32 on some backend.
PROBES = {
    "matmul": lambda x: keras.ops.matmul(x, x),
    "tanh": lambda x: keras.ops.tanh(x),
    "sigmoid": lambda x: keras.ops.sigmoid(x),
    "mean": lambda x: keras.ops.mean(x),
    "MeanSquaredError": lambda x: keras.losses.MeanSquaredError()(x, x),
}


@cache
def narrowed_operations(dtype: str) -> list[str]:
    """Name the operations that return something narrower than `dtype` for inputs of it; none if all keep it."""
    value = keras.ops.convert_to_tensor(np.full((2, 2), 0.5, dtype=dtype))
    return [name for name, probe in PROBES.items() if keras.backend.standardize_dtype(probe(value).dtype) != dtype]
