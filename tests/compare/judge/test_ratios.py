"""No comparison of floats lets a number through that is none."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compare.judge.ratios import tolerance_ratio, tolerance_ratios
from compare.judge.step_errors import StepError
from compare.judge.verdict import TensorErrors

ANY = st.one_of(st.sampled_from([0.0, math.inf, math.nan, 5e-324, 1.7e308]), st.floats(min_value=0))


@given(error=ANY, tolerance=ANY)
def test_a_ratio_is_a_number_and_passes_only_what_is_within(error: float, tolerance: float) -> None:
    """A ratio is never NaN, and at most 1 exactly where a finite error is no larger than its tolerance."""
    obtained = tolerance_ratio(error, tolerance)
    assert not math.isnan(obtained)
    within = math.isfinite(error) and not math.isnan(tolerance) and error <= tolerance
    assert (obtained <= 1) == within


@given(errors=st.lists(st.tuples(ANY, ANY), min_size=1, max_size=5))
def test_arrays_have_the_ratios_of_their_numbers(errors: list[tuple[float, float]]) -> None:
    """The ratios of arrays are those of their numbers."""
    obtained = tolerance_ratios(*np.array(errors).T)
    assert obtained.tolist() == [tolerance_ratio(*pair) for pair in errors]


@given(error=ANY, tolerance=ANY)
def test_a_steps_error_has_such_a_ratio(error: float, tolerance: float) -> None:
    """What the single-step check and the table of tensors hold against a tolerance has the same ratio."""
    ratio = tolerance_ratio(error, tolerance)
    assert StepError(0, "loss", "", error, tolerance).tolerance_ratio == ratio
    assert TensorErrors("loss", "", {"torch": (0, error, tolerance)}).tolerance_ratio == ratio


@pytest.mark.parametrize("worse", [math.inf, math.nan], ids=str)
def test_the_largest_error_is_kept(worse: float) -> None:
    """An error that is no number replaces one that is, and is not replaced."""
    errors = TensorErrors("loss", "", {})
    for error in (1.0, worse, 2.0):
        errors.update("torch", 0, error, worse if error == worse else 4.0)
    assert errors.tolerance_ratio == math.inf
