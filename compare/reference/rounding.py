"""Rounding, as a random perturbation carried through the reference.

The reference computes in float64. To learn what an implementation in a narrower working precision may do, it is
computed again with every operation's result perturbed as rounding would: a relative error of half to one unit roundoff
u after each operation, and after a sum of n terms, taken in an order that only the implementation knows, an error of
u * sqrt(n * (sum of squares + square of the sum / 3)): each of the n additions errs by u times a partial sum, which
grows as the root of the terms' squares where they have either sign, and evenly where they have one. How far such a
computation strays from the exact one is what rounding does to exactly this state and batch: the sequence length, the
width, and the conditioning of 1 - beta^t all act on it as they act on the implementation.

Over examples that are alike errors add up instead of averaging out. One operation rounds equal numbers equally, and so
do the perturbations; a sum in which terms come m times each, but for their last bits, errs by
sqrt(m) times as much.

Sources: Parker 1997, "Monte Carlo arithmetic" (the method); Higham and Mary 2019, "A new approach to probabilistic
rounding error analysis" (sqrt(n) * u, rather than n * u, for sums of n terms). The mixing of bits is that of
MurmurHash3 (Appleby 2011).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray

# Error of the frameworks' vectorised functions: Eigen's and XLA's tanh and logistic are within 2 to 4 units.
FUNCTION_UNITS = 4.0

# Terms that differ by less, in units of the largest, leave the same remainder where they are added to a longer sum.
ALIKE_UNITS = 8.0


@dataclass(frozen=True)
class Rounding:
    """Perturbs values by at most `unit` relative, at random; `generator` None computes exactly."""

    unit: float = 0.0
    generator: np.random.Generator | None = None

    def __call__(self, value: Any, units: float = 1.0) -> Any:
        """Round the result of one operation; `units` for one that is only accurate to so many unit roundoffs."""
        if self.generator is None:
            return value
        # Added, since near one float64 itself has half as many numbers above as below.
        return value + value * (np.float32(units * self.unit) * self._errors(value))

    def function(self, value: Array) -> Array:
        """Round the result of a library's function, such as tanh.

        Such functions are accurate to a few units, and their polynomials err alike for like arguments: over a batch of
        like samples their errors add up instead of averaging out, so one error is shared by the whole array. It has its
        full size, up or down: of a few that were drawn at random all might be small.
        """
        if self.generator is None:
            return value
        shared = FUNCTION_UNITS * self.unit * self.generator.choice((-1, 1))
        return self(value, FUNCTION_UNITS) * (1 + shared)

    def matmul(self, left: Array, right: Array) -> Array:
        """Multiply matrices, the sums rounded in an unknown order."""
        value = left @ right
        if self.generator is None:
            return value
        return value + self._of_sum(value, np.square(left) @ np.square(right), right.shape[-2])

    def sum(self, value: Array, axis: Any = None) -> Array:
        """Sum over axes, rounded in an unknown order."""
        total = np.sum(value, axis=axis)
        if self.generator is None:
            return total
        return total + self._of_sum(total, np.sum(np.square(value), axis=axis), value.size // max(np.size(total), 1))

    def sum_over_examples(self, right: Array, left: Array | None = None) -> Array:
        """Sum rows (rows, width), or left.T @ right: the rows are of examples and timesteps, and may be alike."""
        total = right.sum(axis=0) if left is None else left.T @ right
        if self.generator is None:
            return total
        squares = np.square(right).sum(axis=0) if left is None else np.square(left).T @ np.square(right)
        return total + self._of_sum(total, squares, len(right) * _times_each_comes(right, self.unit))

    def sum_rows(self, values: Array, rows: Array, count: int) -> Array:
        """Add values (…, width) to the rows (…) of a table (count, width) of zeros, rounded in an unknown order."""
        total, squares = (np.zeros((count, values.shape[-1])) for _ in range(2))
        np.add.at(total, rows, values)
        if self.generator is None:
            return total
        np.add.at(squares, rows, np.square(values))
        times = np.bincount(rows.ravel(), minlength=count)[:, None]
        alike = _times_each_comes(values.reshape(-1, values.shape[-1]), self.unit)
        return total + self._of_sum(total, squares, times * alike)

    def _of_sum(self, total: Array, squares: Array, length: float | Array) -> Array:
        return np.sqrt(length * (squares + np.square(total) / 3)) * self.unit * self._errors(total)

    def _errors(self, value: Any) -> Array:
        """Draw an error for each number, up or down, the same one for numbers that are equal in float32.

        None is below a half: of a few that were drawn around zero all might be small, and would allow next to nothing
        where one number outweighs all others of its tensor.
        """
        assert self.generator is not None  # the callers have checked it
        bits = np.atleast_1d(_narrow(value)).view(np.uint32)
        bits *= np.uint32(2 * int(self.generator.integers(2**31)) + 1)
        bits ^= bits >> 16
        bits *= np.uint32(0x85EBCA6B)
        # As a float32: the sign and the digits are drawn, the exponent is that of a half.
        bits &= 0x807FFFFF
        bits |= 0x3F000000
        return bits.view(np.float32).reshape(np.shape(value))


def _narrow(value: Any) -> Array:
    with np.errstate(over="ignore"):  # what is beyond float32 shows elsewhere
        return np.array(value, np.float32)


def _times_each_comes(rows: Array, unit: float) -> float:
    """How many of the rows (rows, width) that are not all zeros are alike, in the mean; one projection tells it."""
    with np.errstate(invalid="ignore", over="ignore"):  # of a training that diverges
        seen = rows @ np.cos(np.arange(rows.shape[-1]))
        seen = seen[seen != 0]
        grains = np.round(seen / (ALIKE_UNITS * unit * np.abs(seen).max(initial=0.0)))
    return len(seen) / len(np.unique(grains)) if len(seen) else 1.0


EXACT = Rounding()


def working(precision: str, seed: int) -> Rounding:
    """Round as a working precision ("float32", "float64") does, with seeded random errors."""
    return Rounding(float(np.finfo(precision).eps) / 2, np.random.default_rng([seed, 5]))
