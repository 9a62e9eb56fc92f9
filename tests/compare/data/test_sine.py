"""The built-in series."""

import numpy as np

from compare.data.sine import sine


def test_without_noise_it_is_the_sine() -> None:
    """Without noise the series is sin(x) at evenly spaced x from 0 to 50."""
    series = sine(points=101, noise=0, seed=0)
    np.testing.assert_allclose(series.target, np.sin(np.arange(101) * 0.5), atol=1e-13)
    assert np.array_equal(series.features[:, 0], series.target)


def test_noise_is_gaussian_and_seeded() -> None:
    """The noise has the standard deviation asked for, follows from the seed, and leaves the sine as it is."""
    first, again, other = (sine(points=4000, noise=0.1, seed=seed).target for seed in (1, 1, 2))
    noise = first - sine(points=4000, noise=0, seed=1).target
    assert abs(noise.mean()) < 0.01
    assert abs(noise.std() - 0.1) < 0.01
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
