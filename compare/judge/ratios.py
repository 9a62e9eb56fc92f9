"""The one place where an error is held against its tolerance, so that no number that is none passes."""

from typing import Any

import numpy as np


def tolerance_ratios(error: Any, tolerance: Any) -> np.ndarray:
    """Return error / tolerance: never NaN, 0 for no error, infinite where there is no tolerance or no number.

    An error that is infinite, or NaN, is beyond every tolerance, an infinite one too.
    """
    error, tolerance = np.asarray(error, np.float64), np.asarray(tolerance, np.float64)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        ratios = np.where(error == 0, 0.0, error / tolerance)
    return np.where(np.isnan(ratios) | np.isnan(tolerance) | ~np.isfinite(error), np.inf, ratios)


def tolerance_ratio(error: float, tolerance: float) -> float:
    """Return the same of one error."""
    return float(tolerance_ratios(error, tolerance))
