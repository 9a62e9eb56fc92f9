"""Dropout masks that depend on nothing but the shape and the rate, so that both sides draw the same."""

import numpy as np


def kept(shape: tuple[int, ...], rate: float) -> np.ndarray:
    """Say which elements a dropout of this rate keeps, a boolean array of this shape."""
    index = np.arange(int(np.prod(shape)), dtype=np.uint64) + np.uint64(1)
    # The finaliser of SplitMix64: neighbouring numbers come out unrelated.
    index *= np.uint64(0x9E3779B97F4A7C15)
    index = (index ^ (index >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    index = (index ^ (index >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    uniform = (index >> np.uint64(40)).astype(np.float64) / 2**24
    return (uniform >= rate).reshape(shape)
