"""What data() of a pair file returns, checked and made of types that both frameworks take."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from compare.errors import InputError
from compare.explain.batches import arrays_of, each, schedule

NAMES = ("inputs", "targets", "sample weights")


def checked_data(location: str, data: Any) -> tuple[Any, Any, Any]:
    """What data() returned as (inputs, targets, sample weights or None); raises InputError."""
    location = f"{location}: data()"
    if not isinstance(data, tuple | list) or len(data) not in (2, 3):
        raise InputError(f"{location} returned {type(data).__name__}; return inputs, targets as NumPy arrays")
    counts: dict[int, str] = {}
    for name, tree in zip(NAMES, data, strict=False):
        for array in _leaves(tree):
            _check_array(location, name, array)
            counts.setdefault(len(array), name)
    if len(counts) > 1:
        rows = " and ".join(f"{count} {name}" for count, name in counts.items())
        raise InputError(f"{location} returned {rows}; give each input its target")
    inputs, targets, *rest = (each(_plain, tree) for tree in data)
    return inputs, targets, rest[0] if rest else None


def _leaves(tree: Any) -> list[Any]:
    if isinstance(tree, list | tuple) and not all(isinstance(item, np.ndarray | list | tuple | dict) for item in tree):
        return [tree]  # a list of numbers is meant to be an array, and is none
    return arrays_of(tree)


def _check_array(location: str, name: str, array: Any) -> None:
    if not isinstance(array, np.ndarray):
        raise InputError(f"{location} returned {name} as {type(array).__name__}; return a NumPy array")
    if array.dtype.kind not in "fiub":
        raise InputError(f"{location} returned {name} of dtype {array.dtype}; numbers are needed")
    if array.ndim < 1 or not array.size:
        raise InputError(f"{location} returned {name} of shape {array.shape}; there is nothing to train on")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InputError(f"{location} returned {name} with NaN or infinite values")


def _plain(array: np.ndarray) -> np.ndarray:
    """The array in a type that both frameworks take, float32 or int64."""
    array = np.ascontiguousarray(array)
    if array.dtype.kind == "f":
        return array.astype(np.float32)
    return array.astype(np.int64) if array.dtype.kind in "iu" else array


class TracedSide:
    """What a side whose trace the other is compared with keeps: the user's file, data, batches and steps."""

    def __init__(self, user_file: Any) -> None:
        self.user_file = user_file
        options = user_file.namespace
        self.data = checked_data(user_file.location("data"), options["data"]())
        count = len(arrays_of(self.data[0])[0])
        self.batches = schedule(
            count, int(options.get("batch_size", 32)), int(options.get("epochs", 1)), options.get("seed")
        )
        self.steps: Sequence[Mapping[str, Any]] = []

    def opened(self) -> dict[str, Any]:
        """What both sides train on."""
        return {"data": self.data}
