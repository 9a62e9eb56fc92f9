"""The classic tutorial series."""

import numpy as np

from compare.data.series import Series


def sine(points: int, noise: float, seed: int) -> Series:
    """Draw sin(x) at evenly spaced x on [0, 50] with Gaussian noise of the given standard deviation."""
    generator = np.random.default_rng([seed, 0])
    values = np.sin(np.linspace(0, 50, points)) + generator.normal(0, noise, points)
    return Series(values[:, None], values, ("sine",), "sine")
