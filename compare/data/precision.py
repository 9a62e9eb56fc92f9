"""Numbers of a user's data in the precision that is computed in."""

import numpy as np

from compare.errors import InputError


def check_range(values: np.ndarray, dtype: str, what: str) -> None:
    """Raise InputError for numbers that a dtype does not hold, or of which the squares are beyond float64."""
    largest = min(float(np.finfo(dtype).max), 1e150)
    wrong = np.argwhere(~(np.abs(values) <= largest))
    if len(wrong):
        place = tuple(int(index) for index in wrong[0])
        raise InputError(f"{what}, row {place[0] + 1}: {values[place]:.3g} is beyond {dtype}, {largest:.3g} at most")
