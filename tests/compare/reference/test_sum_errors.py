"""How far a sum may err grows with its terms, whatever their size."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compare.reference.sum_errors import deviation_of_product, deviation_of_sum

# Beyond these the numbers themselves are no numbers of float32.
EXPONENTS = st.integers(-37, 37)


@given(EXPONENTS, EXPONENTS, st.integers(0, 2**16))
def test_the_error_of_a_product_is_in_proportion(left: int, right: int, seed: int) -> None:
    """Factors that are so many times as large have sums that may err so many times as far; nothing becomes NaN.

    Products of small numbers are beyond float32, as gradients of a training that has faded are.
    """
    generator = np.random.default_rng(seed)
    a, b = generator.normal(size=(3, 5)), generator.normal(size=(5, 4))
    before = np.asarray(deviation_of_product(a @ b, a, b, 5.0), np.float64)
    scaled_a, scaled_b = a * 10.0**left, b * 10.0**right
    with np.errstate(over="ignore"):
        scaled = np.asarray(deviation_of_product(scaled_a @ scaled_b, scaled_a, scaled_b, 5.0), np.float64)
    expected = before * 10.0 ** (left + right)
    representable = (expected > 1e-37) & (expected < 1e37)
    assert not np.isnan(scaled).any()
    np.testing.assert_allclose(scaled[representable], expected[representable], rtol=1e-4)


@pytest.mark.parametrize("exponent", [-44, -40, -30, 0, 30])
def test_the_error_of_a_sum_is_in_proportion(exponent: int) -> None:
    """So has a sum over axes."""
    terms = np.random.default_rng(1).normal(size=(4, 6))
    before = deviation_of_sum(terms.sum(0), terms, (0,), 4.0)
    scaled = deviation_of_sum(terms.sum(0) * 10.0**exponent, terms * 10.0**exponent, (0,), 4.0)
    assert np.isfinite(scaled).all()
    if exponent > -37:
        np.testing.assert_allclose(scaled, before * 10.0**exponent, rtol=1e-4)
