"""Monte Carlo arithmetic: arrays whose operations err as those of a working precision do.

The reference computes in float64. To learn what an implementation in a narrower working precision may do, each number
carries samples of its error, and every operation adds to them what rounding would: a relative error of half to one ulp
(the unit roundoff) after each operation, and after a sum of n terms, taken in an order that only the implementation
knows, an error of sqrt(n * (sum of squares + square of the sum / 3)) ulps: each of the n additions errs by an ulp of a
partial sum, which grows as the root of the terms' squares where they have either sign, and evenly where they have one.
How far such a computation is from the exact one is what rounding does to exactly this state and batch: the sequence
length, the width, and the conditioning of 1 - beta^t all act on it as they act on the implementation.

Errors are so small that they go through sums and products linearly, all samples at once beside the one exact
computation; a function of which that is not sure, as at the kink of a relu, is computed of the erring numbers too.
They are kept in ulps, so that float32 has digits enough for them in either precision.

Over examples that are alike errors add up instead of averaging out. One operation rounds equal numbers equally, and so
do the samples; a sum in which terms come m times each, but for their last bits, errs by sqrt(m) times as much.

The equations are written once, with NumPy's operators: on plain arrays they are exact.

Sources: Parker 1997, "Monte Carlo arithmetic" (the method); Higham and Mary 2019, "A new approach to probabilistic
rounding error analysis" (sqrt(n) * u, rather than n * u, for sums of n terms).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from compare.reference.random_errors import RandomErrors
from compare.reference.sum_errors import deviation_of_product, deviation_of_sum

Array = np.ndarray

# Error of the frameworks' vectorised functions: Eigen's and XLA's tanh and logistic are within 2 to 4 ulps.
FUNCTION_ULPS = 4.0

FLOAT32_ULP = float(np.finfo("float32").eps) / 2

# What has no rounding error, what IEEE 754 rounds correctly, and what a library approximates.
EXACT_UFUNCS = frozenset((np.absolute, np.sign, np.maximum, np.minimum))
ROUNDED_UFUNCS = frozenset((np.power, np.sqrt))
LIBRARY_UFUNCS = frozenset((np.exp, np.log, np.log1p))
COMPARISONS = frozenset((np.less, np.less_equal, np.greater, np.greater_equal))


class Rounding:
    """How operations err: by at most `ulp` relative, at random, in so many samples."""

    def __init__(self, ulp: float, samples: int, seed: Sequence[int]) -> None:
        self.ulp, self.samples = ulp, samples
        self._random = RandomErrors(samples, seed)

    def array(self, value: Any, errors: Array | None = None) -> Any:
        """Numbers with errors so far (samples, *shape) in ulps, or None, whose operations are to be rounded."""
        return Rounded(self, np.asarray(value, np.float64), errors)

    def arrays(self, tensors: Mapping[str, Array]) -> dict[str, Any]:
        """The same of tensors; token ids, labels and masks have no rounding."""
        return {
            name: self.array(tensor) if np.issubdtype(tensor.dtype, np.floating) else tensor
            for name, tensor in tensors.items()
        }

    def result(self, value: Any, errors: Array | None, ulps: float = 1.0) -> Any:
        """Round the result of one operation, or of one that is only accurate to so many ulps."""
        value = np.asarray(value)
        return self.array(value, _added_to(errors, self._random.errors(value, ulps * narrow(value))))

    def library_result(self, value: Any, errors: Array | None) -> Any:
        """Round the result of a library's function, such as tanh.

        Such functions are accurate to a few ulps, and their polynomials err alike for like arguments: over a batch of
        like samples their errors add up instead of averaging out, so one error is shared by the whole array. It has its
        full size, up or down: of a few that were drawn at random all might be small.
        """
        value = np.asarray(value)
        drawn = self._random.bits()
        signs = np.array([1 if drawn >> sample & 1 else -1 for sample in range(self.samples)], np.float32)
        shared = FUNCTION_ULPS * narrow(value) * signs.reshape(-1, *[1] * value.ndim)
        shared += self._random.errors(value, FUNCTION_ULPS * narrow(value))
        return self.array(value, _added_to(errors, shared))

    def sum(self, total: Any, errors: Array | None, deviation: Array) -> Any:
        """Round a sum in an unknown order, the errors of which have this deviation in ulps."""
        total = np.asarray(total)
        return self.array(total, _added_to(errors, self._random.errors(total, deviation)))

    def changes(self, function: Callable[..., Array], value: Array, operands: Sequence[Any]) -> Array | None:
        """How far the errors of its operands carry a function's value, in ulps, from the function of what they are."""
        if all(not isinstance(operand, Rounded) or operand.errors is None for operand in operands):
            return None
        # The step is float32's in either precision: float64 would lose the digits of its own.
        moved = [
            operand.value + FLOAT32_ULP * spread(operand.errors, value.ndim).astype(np.float64)
            if isinstance(operand, Rounded) and operand.errors is not None
            else plain(operand)
            for operand in operands
        ]
        return narrow((function(*moved) - value) / FLOAT32_ULP)


class Rounded(NDArrayOperatorsMixin):
    """Numbers in float64, each with its error in every sample; where they meet plain numbers the result has errors too.

    `errors` are (samples, *shape) in ulps; None where the numbers are exact.
    """

    def __init__(self, rounding: Rounding, value: Array, errors: Array | None) -> None:
        self.rounding, self.value, self.errors = rounding, value, errors

    @property
    def shape(self) -> tuple[int, ...]:
        """As of an array."""
        return self.value.shape

    @property
    def ndim(self) -> int:
        """As of an array."""
        return self.value.ndim

    @property
    def size(self) -> int:
        """As of an array."""
        return self.value.size

    @property
    def T(self) -> Any:
        """As of an array."""
        return self._moved(lambda array: array.T, lambda errors: errors.transpose(0, *range(errors.ndim - 1, 0, -1)))

    def __len__(self) -> int:
        """As of an array."""
        return len(self.value)

    def __getitem__(self, key: Any) -> Any:
        """As of an array."""
        keys = key if isinstance(key, tuple) else (key,)
        return self._moved(lambda array: array[key], lambda errors: errors[slice(None), *keys])

    def __setitem__(self, key: Any, other: Any) -> None:
        """As of an array."""
        self.value[key] = plain(other)
        if self.errors is None:
            self.errors = np.zeros((self.rounding.samples, *self.shape), np.float32)
        self.errors[slice(None), *(key if isinstance(key, tuple) else (key,))] = _errors_of(other)

    def reshape(self, *shape: Any) -> Any:
        """As of an array."""
        value = self.value.reshape(*shape)
        return self._moved(lambda _: value, lambda errors: errors.reshape(len(errors), *value.shape))

    def _moved(self, of_value: Callable[[Array], Array], of_errors: Callable[[Array], Array]) -> Any:
        errors = None if self.errors is None else of_errors(self.errors)
        return self.rounding.array(of_value(self.value), errors)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *operands: Any, **options: Any) -> Any:
        """Compute with plain numbers, then add the errors that the operation is known to have; refuse another."""
        rounding = rounding_of(operands)
        assert rounding is not None
        if method == "__call__" and not options:
            with np.errstate(over="ignore", invalid="ignore"):  # what is beyond float32 shows elsewhere
                values = [plain(operand) for operand in operands]
                value = ufunc(*values)
                if ufunc in COMPARISONS:
                    return value
                if ufunc in LINEAR:
                    return LINEAR[ufunc](rounding, value, *operands)
                if ufunc in EXACT_UFUNCS:
                    return rounding.array(value, rounding.changes(ufunc, value, operands))
                if ufunc in ROUNDED_UFUNCS:
                    return rounding.result(value, rounding.changes(ufunc, value, operands))
                if ufunc in LIBRARY_UFUNCS:
                    return rounding.library_result(value, rounding.changes(ufunc, value, operands))
        raise TypeError(f"how {ufunc.__name__} is rounded is not known")

    def __array_function__(self, function: Any, types: Any, arguments: Any, options: Any) -> Any:
        """Move numbers with their errors; refuse a function of which it is not known how."""
        if function not in FUNCTIONS:
            raise TypeError(f"how {function.__name__} is rounded is not known")
        with np.errstate(over="ignore", invalid="ignore"):
            return FUNCTIONS[function](*arguments, **options)


def plain(value: Any) -> Array:
    """The numbers alone, whose operations are exact."""
    return value.value if isinstance(value, Rounded) else np.asarray(value)


def deviations(value: Any, samples: int) -> Array:
    """How far each sample is from the exact numbers (samples, *shape)."""
    if not isinstance(value, Rounded) or value.errors is None:
        return np.zeros((samples, *value.shape), np.float32)
    return value.errors * np.float32(value.rounding.ulp)


def narrow(value: Any) -> Array:
    """The numbers in float32."""
    return np.asarray(plain(value), np.float32)


def spread(errors: Array, ndim: int) -> Array:
    """Errors (samples, *shape) with so many axes in their shape that they meet those of wider numbers."""
    return errors.reshape(len(errors), *[1] * (ndim - errors.ndim + 1), *errors.shape[1:])


def working(precision: str, samples: int, seed: int = 0) -> Rounding:
    """Round as a working precision ("float32", "float64") does, with seeded random errors."""
    return Rounding(float(np.finfo(precision).eps) / 2, samples, [seed, 5])


def _add(rounding: Rounding, value: Array, left: Any, right: Any) -> Any:
    return rounding.result(value, _added(_spread_of(left, value), _spread_of(right, value)))


def _subtract(rounding: Rounding, value: Array, left: Any, right: Any) -> Any:
    subtracted = _spread_of(right, value)
    return rounding.result(value, _added_to(_spread_of(left, value), None if subtracted is None else -subtracted))


def _multiply(rounding: Rounding, value: Array, left: Any, right: Any) -> Any:
    errors = _added_to(times(_spread_of(left, value), narrow(right)), times(_spread_of(right, value), narrow(left)))
    return rounding.array(value, errors) if _scales((left, right)) else rounding.result(value, errors)


def _divide(rounding: Rounding, value: Array, left: Any, right: Any) -> Any:
    divided = times(_spread_of(right, value), narrow(-value))
    errors = _added_to(_spread_of(left, value), divided)
    if errors is not None:
        errors = np.nan_to_num(errors / narrow(right), copy=False, posinf=0.0, neginf=0.0)
    return rounding.result(value, errors)


def _square(rounding: Rounding, value: Array, operand: Any) -> Any:
    return rounding.result(value, times(operand.errors, 2 * narrow(operand)))


def _negative(rounding: Rounding, value: Array, operand: Any) -> Any:
    return rounding.array(value, None if operand.errors is None else -operand.errors)


def _matmul(rounding: Rounding, value: Array, left: Any, right: Any) -> Any:
    return rounding.sum(
        value, errors_of_product(left, right), deviation_of_product(value, narrow(left), narrow(right), right.shape[-2])
    )


LINEAR: dict[np.ufunc, Callable[..., Any]] = {
    np.add: _add,
    np.subtract: _subtract,
    np.multiply: _multiply,
    np.divide: _divide,
    np.square: _square,
    np.negative: _negative,
    np.matmul: _matmul,
}


def _sum(array: Any, axis: Any = None, keepdims: bool = False) -> Any:
    summed = range(array.ndim) if axis is None else np.atleast_1d(axis)
    axes = tuple(int(number) % array.ndim for number in summed)
    total = np.sum(array.value, axis=axes, keepdims=keepdims)
    errors = array.errors
    if errors is not None:
        errors = errors.sum(axis=tuple(axis + 1 for axis in axes), keepdims=keepdims)
    terms = array.size // max(total.size, 1)
    return array.rounding.sum(total, errors, deviation_of_sum(total, array.value, axes, terms, keepdims))


def _max(array: Any, axis: int, keepdims: bool = False) -> Any:
    assert axis < 0, "counted from the last axis, which errors have too"
    value = np.max(array.value, axis=axis, keepdims=keepdims)
    changes = array.rounding.changes(lambda moved: np.max(moved, axis=axis, keepdims=keepdims), value, [array])
    return array.rounding.array(value, changes)


def _clip(array: Any, least: Any, most: Any) -> Any:
    return np.minimum(np.maximum(array, least), most)


def _where(condition: Array, left: Any, right: Any) -> Any:
    rounding = rounding_of((left, right))
    assert rounding is not None
    value = np.where(condition, plain(left), plain(right))
    errors = [_spread_of(operand, value) for operand in (left, right)]
    if errors[0] is None and errors[1] is None:
        return rounding.array(value)
    return rounding.array(value, np.where(condition, *(np.float32(0) if e is None else e for e in errors)))


def _joined(function: Callable[..., Array]) -> Callable[..., Any]:
    def joined(arrays: Sequence[Any], axis: int = 0) -> Any:
        rounding = rounding_of(arrays)
        assert rounding is not None
        errors = None
        if any(errors_or_none(array) is not None for array in arrays):
            shape = rounding.samples
            of_all = [
                np.zeros((shape, *array.shape), np.float32) if errors_or_none(array) is None else array.errors
                for array in arrays
            ]
            errors = function(of_all, axis=axis + 1 if axis >= 0 else axis)
        return rounding.array(function([plain(array) for array in arrays], axis=axis), errors)

    return joined


def _squeeze(array: Any, axis: tuple[int, ...]) -> Any:
    value = np.squeeze(array.value, axis)
    return array.reshape(value.shape)


def _zeros_like(array: Any, shape: Any = None) -> Any:
    return array.rounding.array(np.zeros(array.shape if shape is None else shape))


FUNCTIONS: dict[Any, Callable[..., Any]] = {
    np.sum: _sum,
    np.max: _max,
    np.clip: _clip,
    np.where: _where,
    np.concatenate: _joined(np.concatenate),
    np.stack: _joined(np.stack),
    np.squeeze: _squeeze,
    np.ravel: lambda array: array.reshape(-1),
    np.zeros_like: _zeros_like,
}


def rounding_of(operands: Sequence[Any]) -> Rounding | None:
    """Return how the operations of any of the operands are rounded; None where all are plain."""
    return next((operand.rounding for operand in operands if isinstance(operand, Rounded)), None)


def errors_or_none(operand: Any) -> Array | None:
    """Return the errors so far; None where the numbers are exact."""
    return operand.errors if isinstance(operand, Rounded) else None


def _errors_of(operand: Any) -> Any:
    errors = errors_or_none(operand)
    return 0 if errors is None else errors


def _spread_of(operand: Any, value: Array) -> Array | None:
    errors = errors_or_none(operand)
    return None if errors is None else spread(errors, value.ndim)


def _added(left: Array | None, right: Array | None) -> Array | None:
    if left is None or right is None:
        return left if right is None else right
    return left + right


def _added_to(errors: Array | None, new: Array | None) -> Array | None:
    """The sum of errors, the new ones being overwritten."""
    if errors is None or new is None or errors.shape != new.shape:
        return _added(errors, new)
    new += errors
    return new


def times(errors: Array | None, factor: Array) -> Array | None:
    """Return errors as a factor scales them."""
    return None if errors is None else errors * factor


def errors_of_product(left: Any, right: Any) -> Array | None:
    """How the errors of factors go through a product of matrices."""
    of_left, of_right = errors_or_none(left), errors_or_none(right)
    return _added_to(
        None if of_left is None else of_left @ narrow(right), None if of_right is None else narrow(left) @ of_right
    )


def _scales(operands: Sequence[Any]) -> bool:
    """Whether a factor is a power of two, by which to multiply has no rounding error."""
    return any(isinstance(factor, int | float) and abs(np.frexp(factor)[0]) == 0.5 for factor in operands)
