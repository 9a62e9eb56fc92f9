"""Sums over examples and timesteps, as of the gradient of a weight, on plain and on rounded arrays."""

from typing import Any

import numpy as np

from compare.reference.rounding import Array, errors_of_product, narrow, plain, rounding_of
from compare.reference.sum_errors import deviation_of_product, deviation_of_sum, lost_in_sum, times_each_comes


def sum_over_examples(right: Any, left: Any = None) -> Any:
    """Sum rows (rows, width), or left.T @ right: the rows are of examples and timesteps, and may be alike."""
    rounding = rounding_of([right])
    total = plain(right).sum(axis=0) if left is None else plain(left).T @ plain(right)
    if rounding is None:
        return total
    terms = len(right) * times_each_comes(plain(right), rounding.ulp)
    if left is None:
        errors = None if right.errors is None else right.errors.sum(axis=1)
        deviation = deviation_of_sum(total, plain(right), (0,), terms)
        lost = lost_in_sum(plain(right), total, rounding.ulp)
        return rounding.sum(total, errors, np.hypot(deviation, lost))
    transposed = left.T
    return rounding.sum(
        total,
        errors_of_product(transposed, right),
        deviation_of_product(total, narrow(transposed), narrow(right), terms),
    )


def sum_rows(values: Any, rows: Array, count: int) -> Any:
    """Add values (…, width) to the rows (…) of a table (count, width) of zeros, rounded in an unknown order."""
    rounding, width = rounding_of([values]), values.shape[-1]

    def added(numbers: Array) -> Array:
        table = np.zeros((count, width), numbers.dtype)
        np.add.at(table, rows, numbers)
        return table

    total = added(plain(values))
    if rounding is None:
        return total
    times = np.bincount(rows.ravel(), minlength=count)[:, None]
    alike = times_each_comes(plain(values).reshape(-1, width), rounding.ulp)
    errors = None if values.errors is None else np.stack([added(sample) for sample in values.errors])
    deviation = np.sqrt(times * alike * (added(np.square(plain(values))) + np.square(total) / 3))
    return rounding.sum(total, errors, narrow(deviation))
