"""Constants, and formulas that are rounded as one operation, on plain and on rounded arrays."""

from collections.abc import Callable
from typing import Any

from compare.reference.rounding import Array, errors_or_none, narrow, plain, rounding_of, times


def rounded_like(array: Any, value: Any, least_ulp: float = 0.0) -> Any:
    """A constant as implementations hold it: rounded where an array's operations are, at least by `least_ulp`."""
    rounding = rounding_of([array])
    if rounding is None:
        return value
    return rounding.result(plain(value), errors_or_none(value), max(1.0, least_ulp / rounding.ulp))


def unrounded_like(array: Any, value: Any) -> Any:
    """A constant that implementations hold exactly, whose operations are rounded where an array's are."""
    rounding = rounding_of([array])
    return value if rounding is None else rounding.array(value)


def elementwise(function: Callable[..., Array], *operands: Any, ulps: float = 1.0) -> Any:
    """Apply a formula of plain numbers, whose result is accurate to so many ulps."""
    rounding, value = rounding_of(operands), function(*map(plain, operands))
    return value if rounding is None else rounding.result(value, rounding.changes(function, value, operands), ulps)


def library_function(
    function: Callable[[Array], Array], x: Any, derivative: Callable[[Array, Array], Array] | None = None
) -> Any:
    """Apply a formula y of plain numbers that libraries approximate as one function; errors go through y'(x, y)."""
    rounding, value = rounding_of([x]), function(plain(x))
    if rounding is None:
        return value
    if derivative is None:
        return rounding.library_result(value, rounding.changes(function, value, [x]))
    return rounding.library_result(value, times(x.errors, narrow(derivative(plain(x), value))))
