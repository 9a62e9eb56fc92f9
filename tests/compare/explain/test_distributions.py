"""What initial weights are drawn from is told by their numbers, at any size."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compare.explain.distributions import CODES, distribution

sizes = st.integers(8, 40)


@settings(max_examples=20)
@given(sizes, sizes, st.integers(0, 2**31))
def test_draws_of_both_frameworks_are_told_apart(units: int, inputs: int, seed: int) -> None:
    """Keras's kernels, recurrent kernels, embeddings and biases and PyTorch's default are each named."""
    random = np.random.default_rng(seed)
    shape = (4 * units, inputs)
    limit = np.sqrt(6 / (4 * units + inputs))
    drawn = {
        "glorot uniform": random.uniform(-limit, limit, shape),
        "orthogonal": np.linalg.qr(random.standard_normal((4 * units, units)))[0],
        "uniform ±0.05": random.uniform(-0.05, 0.05, (inputs, units)),
        "zeros": np.zeros(units),
        "ones": np.ones(units),
        "zeros, the forget gate's ones": np.repeat([0.0, 1.0, 0.0, 0.0], units),
    }
    assert {name: distribution(values) for name, values in drawn.items()} == {name: name for name in drawn}
    assert drawn.keys() <= CODES.keys()
    default = random.uniform(-1, 1, (4 * units, units)) / np.sqrt(units)
    assert distribution(default) not in CODES


@pytest.mark.parametrize("scale", [0.3, 3.0])
def test_another_scale_is_another_distribution(scale: float) -> None:
    """A uniform draw that is wider or narrower than any default has its own limit; a normal draw its deviation."""
    random = np.random.default_rng(1)
    limit = scale * np.sqrt(6 / 30)
    told = distribution(random.uniform(-limit, limit, (20, 10)))
    assert told.startswith("uniform ±")
    assert float(told.removeprefix("uniform ±")) == pytest.approx(limit, rel=0.05)
    assert distribution(scale * random.standard_normal((20, 10))).startswith("normal, ")
