"""The classic tutorial series."""

import numpy as np

from compare.config.streams import Stream, random_stream
from compare.data.series import Series


def sine(points: int, noise: float, seed: int) -> Series:
    """Draw sin(x) at evenly spaced x on [0, 50] with Gaussian noise of the given standard deviation."""
    generator = random_stream(seed, Stream.DATA)
    values = np.sin(np.linspace(0, 50, points)) + generator.normal(0, noise, points)
    return Series(values[:, None], values, ("sine",), "sine")
