"""How far a sum may err that is taken in an order which only the implementation knows.

Each of the n additions errs by an ulp of a partial sum, which grows as the root of the terms' squares where they have
either sign, and evenly where they have one: together sqrt(n * (sum of squares + square of the sum / 3)) ulps.
Source: Higham and Mary 2019, "A new approach to probabilistic rounding error analysis".
"""

import numpy as np

Array = np.ndarray

# Terms that differ by less, in ulps of the largest, leave the same remainder where they are added to a longer sum.
ALIKE_ULPS = 8.0

SMALLEST = float(np.finfo(np.float32).smallest_normal)


def deviation_of_product(total: Array, left: Array, right: Array, terms: float) -> Array:
    """How far the sums of a product of matrices may err in ulps: sqrt(terms * (sum of squares + square of sum / 3)).

    The factors are scaled, since squares of small numbers are beyond float32.
    """
    scales = [float(max(factor.max(initial=0.0), -factor.min(initial=0.0))) or 1.0 for factor in (left, right)]
    squares = np.square(left / np.float32(scales[0])) @ np.square(right / np.float32(scales[1]))
    return _root_of(total, squares, scales[0] * scales[1], terms)


def deviation_of_sum(total: Array, array: Array, axes: tuple[int, ...], terms: float, keepdims: bool = False) -> Array:
    """How far sums over axes of so many terms may err in ulps."""
    scale = float(np.abs(array).max(initial=0.0)) or 1.0
    squares = np.sum(np.square(array / scale), axis=axes, keepdims=keepdims)
    return _root_of(total, squares, scale, terms)


def _root_of(total: Array, squares: Array, scale: float, terms: float) -> Array:
    # The scale of a product of small numbers is beyond float32 too.
    real = np.float32 if SMALLEST < scale < 1 / SMALLEST else np.float64
    spread_of_sum = np.square(np.asarray(total, real) / np.asarray(scale, real))
    spread_of_sum /= 3
    spread_of_sum += squares
    return np.asarray(np.sqrt(spread_of_sum * np.asarray(terms, real)) * np.asarray(scale, real), np.float32)


def lost_in_sum(rows: Array, total: Array, ulp: float) -> Array:
    """How much of sums of rows (rows, width) is of terms too small to change them, in ulps.

    A term below half a last bit of the partial sum to which it is added is lost as a whole, and so are all others of
    its kind: their errors are themselves, so that they add up instead of averaging out. Gradients that fade through
    time are such terms where the sum begins at the last timestep, as PyTorch's of a bias does. The partial sum is taken
    to be as large as the sum, or as the root of the terms' squares where these cancel each other.
    """
    terms = np.asarray(rows, np.float32)
    partial_sum = np.maximum(np.abs(total), np.sqrt(np.sum(np.square(rows), axis=0)))
    small = np.abs(terms) < np.asarray(ulp * partial_sum, np.float32)
    return np.asarray(np.sum(terms, axis=0, where=small, dtype=np.float64) / ulp, np.float32)


def times_each_comes(rows: Array, ulp: float) -> float:
    """How many of the rows (rows, width) that are not all zeros are alike, in the mean; one projection tells it."""
    with np.errstate(invalid="ignore", over="ignore"):  # of a training that diverges
        seen = rows @ np.cos(np.arange(rows.shape[-1]))
        seen = seen[seen != 0]
        grains = np.round(seen / (ALIKE_ULPS * ulp * np.abs(seen).max(initial=0.0)))
    return len(seen) / len(np.unique(grains)) if len(seen) else 1.0
