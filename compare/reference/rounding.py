"""Monte Carlo arithmetic: arrays whose operations err as those of a working precision do.

The reference computes in float64. To learn what an implementation in a narrower working precision may do, it is
computed again with `Rounded` arrays, every operation's result being perturbed as rounding would: a relative error of
half to one ulp u (the unit roundoff) after each operation, and after a sum of n terms, taken in an order that only the
implementation knows, an error of u * sqrt(n * (sum of squares + square of the sum / 3)): each of the n additions errs
by u times a partial sum, which grows as the root of the terms' squares where they have either sign, and evenly where
they have one. How far such a computation is from the exact one is what rounding does to exactly this state and batch:
the sequence length, the width, and the conditioning of 1 - beta^t all act on it as they act on the implementation.

Over examples that are alike errors add up instead of averaging out. One operation rounds equal numbers equally, and so
do the perturbations; a sum in which terms come m times each, but for their last bits, errs by sqrt(m) times as much.

The equations are written once, with NumPy's operators: on plain arrays they are exact.

Sources: Parker 1997, "Monte Carlo arithmetic" (the method); Higham and Mary 2019, "A new approach to probabilistic
rounding error analysis" (sqrt(n) * u, rather than n * u, for sums of n terms). The mixing of bits is that of
MurmurHash3 (Appleby 2011).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray

# Error of the frameworks' vectorised functions: Eigen's and XLA's tanh and logistic are within 2 to 4 ulps.
FUNCTION_ULPS = 4.0

# Terms that differ by less, in ulps of the largest, leave the same remainder where they are added to a longer sum.
ALIKE_ULPS = 8.0

FLOAT32_ULP = float(np.finfo("float32").eps) / 2

# What has no rounding error, what IEEE 754 rounds correctly, and what a library approximates.
EXACT_UFUNCS = frozenset((np.negative, np.absolute, np.sign, np.maximum, np.minimum))
CLIP = "clip"  # what np.clip comes down to; NumPy has no public name for it
ROUNDED_UFUNCS = frozenset((np.add, np.subtract, np.multiply, np.divide, np.square, np.power, np.sqrt))
LIBRARY_UFUNCS = frozenset((np.exp, np.log, np.log1p))
# Functions that move numbers only, and those that come down to the operations above.
MOVES = frozenset((np.where, np.concatenate, np.stack, np.squeeze, np.ravel, np.sum, np.max, np.clip))
MOVES |= {np.zeros_like, np.empty_like, np.copyto}
COMPARISONS = frozenset((np.less, np.less_equal, np.greater, np.greater_equal))


class Exact:
    """Operations that do not err, as far as float64 goes."""

    def arrays(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        """Tensors as they are."""
        return dict(tensors)


@dataclass(frozen=True)
class Rounding:
    """How operations err: by at most `ulp` relative, at random."""

    ulp: float
    generator: np.random.Generator

    def array(self, value: Any) -> "Rounded":
        """Numbers, as they are, whose operations are to be rounded."""
        result = np.asarray(value, np.float64).view(Rounded)
        result.rounding = self
        return result

    def arrays(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        """The same of tensors; token ids, labels and masks have no rounding."""
        return {
            name: self.array(tensor) if np.issubdtype(tensor.dtype, np.floating) else tensor
            for name, tensor in tensors.items()
        }

    def result(self, value: Any, ulps: float = 1.0) -> "Rounded":
        """Round the result of one operation; `ulps` for one that is only accurate to so many."""
        # Added, since near one float64 itself has half as many numbers above as below.
        return self.array(value + value * (np.float32(ulps * self.ulp) * self._errors(value)))

    def library_result(self, value: Any) -> "Rounded":
        """Round the result of a library's function, such as tanh.

        Such functions are accurate to a few ulps, and their polynomials err alike for like arguments: over a batch of
        like samples their errors add up instead of averaging out, so one error is shared by the whole array. It has its
        full size, up or down: of a few that were drawn at random all might be small.
        """
        shared = FUNCTION_ULPS * self.ulp * self.generator.choice((-1, 1))
        return self.array(np.asarray(self.result(value, FUNCTION_ULPS)) * (1 + shared))

    def sum(self, total: Array, squares: Array, length: float | Array) -> "Rounded":
        """Round the sum of `length` terms in an unknown order, given that of their squares."""
        spread = np.sqrt(length * (squares + np.square(total) / 3)) * self.ulp
        return self.array(total + spread * self._errors(total))

    def _errors(self, value: Any) -> Array:
        """Draw an error for each number, up or down, the same one for numbers that are equal in float32.

        None is below a half: of a few that were drawn around zero all might be small, and would allow next to nothing
        where one number outweighs all others of its tensor.
        """
        bits = np.atleast_1d(_narrow(value)).view(np.uint32)
        bits *= np.uint32(2 * int(self.generator.integers(2**31)) + 1)
        bits ^= bits >> 16
        bits *= np.uint32(0x85EBCA6B)
        # As a float32: the sign and the digits are drawn, the exponent is that of a half.
        bits &= 0x807FFFFF
        bits |= 0x3F000000
        return bits.view(np.float32).reshape(np.shape(value))


class Rounded(np.ndarray):
    """Numbers in float64 whose operations are rounded; where they meet plain numbers the result is rounded too."""

    rounding: Rounding

    def __array_finalize__(self, parent: Any) -> None:
        """Keep the rounding in views."""
        if isinstance(parent, Rounded):
            self.rounding = parent.rounding

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        """Compute with plain numbers, then round as the operation is known to err; refuse one that is not known."""
        rounding = next(operand.rounding for operand in inputs if isinstance(operand, Rounded))
        operands = [plain(operand) if isinstance(operand, Rounded) else operand for operand in inputs]
        value = getattr(ufunc, method)(*operands, **options)
        if ufunc in COMPARISONS:
            return value
        if ufunc in EXACT_UFUNCS or ufunc.__name__ == CLIP or (ufunc is np.multiply and _scales(operands)):
            return rounding.array(value)
        if (ufunc, method) == (np.add, "reduce"):
            length = operands[0].size // max(value.size, 1)
            return rounding.sum(value, np.add.reduce(np.square(operands[0]), **options), length)
        if method == "__call__":
            if ufunc is np.matmul:
                left, right = operands
                return rounding.sum(value, np.square(left) @ np.square(right), right.shape[-2])
            if ufunc in ROUNDED_UFUNCS:
                return rounding.result(value)
            if ufunc in LIBRARY_UFUNCS:
                return rounding.library_result(value)
        raise TypeError(f"how {ufunc.__name__}.{method} is rounded is not known")

    def __array_function__(self, function: Any, types: Any, arguments: Any, options: Any) -> Any:
        """Keep the rounding where numbers are only moved; refuse a function of which that is not known."""
        if function not in MOVES:
            raise TypeError(f"how {function.__name__} is rounded is not known")
        result = super().__array_function__(function, types, arguments, options)
        return self.rounding.array(result) if isinstance(result, np.ndarray) else result


def plain(value: Any) -> Array:
    """The numbers alone, whose operations are exact."""
    return np.asarray(value)


def rounded_like(array: Array, value: Any, least_ulp: float = 0.0) -> Any:
    """A constant as implementations hold it: rounded where an array's operations are, at least by `least_ulp`."""
    rounding = _rounding_of(array)
    if rounding is None:
        return value
    held = Rounding(max(rounding.ulp, least_ulp), rounding.generator).result(plain(value))
    return rounding.array(held)


def unrounded_like(array: Array, value: Any) -> Any:
    """A constant that implementations hold exactly, whose operations are rounded where an array's are."""
    rounding = _rounding_of(array)
    return value if rounding is None else rounding.array(value)


def elementwise(function: Callable[..., Array], *operands: Array, ulps: float = 1.0) -> Array:
    """Apply a formula of plain numbers, whose result is accurate to so many ulps."""
    rounding = _rounding_of(*operands)
    value = function(*map(plain, operands))
    return value if rounding is None else rounding.result(value, ulps)


def library_function(function: Callable[..., Array], *operands: Array) -> Array:
    """Apply a formula of plain numbers that libraries approximate as one function."""
    rounding = _rounding_of(*operands)
    value = function(*map(plain, operands))
    return value if rounding is None else rounding.library_result(value)


def sum_over_examples(right: Array, left: Array | None = None) -> Array:
    """Sum rows (rows, width), or left.T @ right: the rows are of examples and timesteps, and may be alike."""
    rounding, right = _rounding_of(right), plain(right)
    if left is None:
        total, squares = right.sum(axis=0), np.square(right).sum(axis=0)
    else:
        left = plain(left)
        total = left.T @ right
    if rounding is None:
        return total
    if left is not None:
        squares = np.square(left).T @ np.square(right)
    return rounding.sum(total, squares, len(right) * _times_each_comes(right, rounding.ulp))


def sum_rows(values: Array, rows: Array, count: int) -> Array:
    """Add values (…, width) to the rows (…) of a table (count, width) of zeros, rounded in an unknown order."""
    rounding, values = _rounding_of(values), plain(values)
    total, squares = (np.zeros((count, values.shape[-1])) for _ in range(2))
    np.add.at(total, rows, values)
    if rounding is None:
        return total
    np.add.at(squares, rows, np.square(values))
    times = np.bincount(rows.ravel(), minlength=count)[:, None]
    alike = _times_each_comes(values.reshape(-1, values.shape[-1]), rounding.ulp)
    return rounding.sum(total, squares, times * alike)


EXACT = Exact()
Arithmetic = Exact | Rounding


def working(precision: str, seed: int) -> Rounding:
    """Round as a working precision ("float32", "float64") does, with seeded random errors."""
    return Rounding(float(np.finfo(precision).eps) / 2, np.random.default_rng([seed, 5]))


def _rounding_of(*operands: Array) -> Rounding | None:
    return next((operand.rounding for operand in operands if isinstance(operand, Rounded)), None)


def _scales(operands: list[Any]) -> bool:
    """Whether a factor is a power of two, by which to multiply has no rounding error."""
    return any(isinstance(factor, int | float) and abs(np.frexp(factor)[0]) == 0.5 for factor in operands)


def _narrow(value: Any) -> Array:
    with np.errstate(over="ignore"):  # what is beyond float32 shows elsewhere
        return np.array(value, np.float32)


def _times_each_comes(rows: Array, ulp: float) -> float:
    """How many of the rows (rows, width) that are not all zeros are alike, in the mean; one projection tells it."""
    with np.errstate(invalid="ignore", over="ignore"):  # of a training that diverges
        seen = rows @ np.cos(np.arange(rows.shape[-1]))
        seen = seen[seen != 0]
        grains = np.round(seen / (ALIKE_ULPS * ulp * np.abs(seen).max(initial=0.0)))
    return len(seen) / len(np.unique(grains)) if len(seen) else 1.0
