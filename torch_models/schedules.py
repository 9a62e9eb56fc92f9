"""Learning rates by the number of steps done, computed as `keras.optimizers.schedules` computes them."""

import bisect
import ctypes
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

SCHEDULES = ("constant", "exponential", "cosine", "piecewise")


def scheduled_learning_rate(
    options: Mapping[str, Any], iterations: int, working: type[np.floating] = np.float32
) -> float:
    """Return the learning rate of the step before which `iterations` steps were done.

    Options: lr, schedule, decay_steps, decay_rate, boundaries and values, those that the schedule needs.
    Keras on TensorFlow computes schedules in float32 even where the model is float64: `ops.convert_to_tensor` of a
    Python float is float32 there. In its graphs x / c for a constant c is x * (1 / c), and constants are multiplied
    first; both change the last bit of a float32, so it is done here too.
    Source: `ExponentialDecay`, `CosineDecay` (Loshchilov and Hutter 2016) and `PiecewiseConstantDecay` of
    `keras/src/optimizers/schedules/learning_rate_schedule.py`.
    """
    schedule = options["schedule"]
    if schedule == "constant":
        return float(options["lr"])
    if schedule == "piecewise":
        return float(working(options["values"][bisect.bisect_left(options["boundaries"], iterations)]))
    initial, steps = working(options["lr"]), working(options["decay_steps"])
    if schedule == "exponential":
        # A power of two scalars is the C library's, in TensorFlow as in NumPy; NumPy's power of arrays is another.
        return float(initial * working(options["decay_rate"]) ** (working(iterations) * (1 / steps)))
    if schedule == "cosine":
        angle = min(working(iterations), steps) * (working(math.pi) * (1 / steps))
        return float(initial * (working(0.5) * (1 + _cosine(angle))))
    raise ValueError(f"schedule={schedule!r} is unknown; accepted: {', '.join(SCHEDULES)}")


def _cosine(angle: np.floating) -> np.floating:
    """Return the cosine in the precision of the angle, in float32 the C library's as in TensorFlow."""
    if isinstance(angle, np.float32):
        return np.float32(_COSF(angle))
    return np.cos(angle)


def _cosf() -> Callable[[float], float]:
    """Find the C library's float32 cosine; where there is none to be found, round the float64 cosine."""
    try:
        function = ctypes.CDLL(None).cosf
    except (AttributeError, OSError, TypeError):
        return math.cos
    function.restype, function.argtypes = ctypes.c_float, [ctypes.c_float]
    return function


_COSF = _cosf()
