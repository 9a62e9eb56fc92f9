"""Rounding, as a random perturbation carried through the reference.

The reference computes in float64. To learn what an implementation in a narrower working precision may do, it is
computed again with every operation's result perturbed as rounding would: a relative error of up to one unit roundoff u
after each operation, and after a sum of n products an error of sqrt(n) * u times the Euclidean norm of the products,
since the sum is taken in an order that only the implementation knows. How far such a computation strays from the exact
one is what rounding does to exactly this state and batch: the sequence length, the width, and the conditioning of
1 - beta^t all act on it as they act on the implementation.

Sources: Parker 1997, "Monte Carlo arithmetic" (the method); Higham and Mary 2019, "A new approach to probabilistic
rounding error analysis" (sqrt(n) * u, rather than n * u, for sums of n terms).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray

# Error of the frameworks' vectorised functions: Eigen's and XLA's tanh and logistic are within 2 to 4 units.
FUNCTION_UNITS = 4.0


@dataclass(frozen=True)
class Rounding:
    """Perturbs values by at most `unit` relative, at random; `generator` None computes exactly."""

    unit: float = 0.0
    generator: np.random.Generator | None = None

    def __call__(self, value: Any, units: float = 1.0) -> Any:
        """Round the result of one operation; `units` for one that is only accurate to so many unit roundoffs."""
        if self.generator is None:
            return value
        return value * (1 + units * self.unit * self.generator.uniform(-1, 1, np.shape(value)))

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
        terms = np.sqrt(np.square(left) @ np.square(right))
        return value + self._of_sum(terms, right.shape[-2])

    def sum(self, value: Array, axis: Any = None) -> Array:
        """Sum over axes, rounded in an unknown order."""
        total = np.sum(value, axis=axis)
        if self.generator is None:
            return total
        terms = np.sqrt(np.sum(np.square(value), axis=axis))
        return total + self._of_sum(terms, value.size // max(np.size(total), 1))

    def sum_rows(self, values: Array, rows: Array, count: int) -> Array:
        """Add values (…, width) to the rows (…) of a table (count, width) of zeros, rounded in an unknown order."""
        total = np.zeros((count, values.shape[-1]))
        np.add.at(total, rows, values)
        if self.generator is None:
            return total
        squares = np.zeros_like(total)
        np.add.at(squares, rows, np.square(values))
        times = np.bincount(rows.ravel(), minlength=count)[:, None]
        return total + self._of_sum(np.sqrt(squares), times)

    def _of_sum(self, terms: Array, length: int | Array) -> Array:
        assert self.generator is not None  # the callers have checked it
        return np.sqrt(length) * self.unit * terms * self.generator.uniform(-1, 1, np.shape(terms))


EXACT = Rounding()


def working(precision: str, seed: int) -> Rounding:
    """Round as a working precision ("float32", "float64") does, with seeded random errors."""
    return Rounding(float(np.finfo(precision).eps) / 2, np.random.default_rng([seed, 5]))
