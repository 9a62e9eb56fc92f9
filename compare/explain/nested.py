"""Trees of dicts, lists, numbers and arrays as the workers' protocol sends them: JSON values, and arrays by name."""

from collections.abc import Mapping
from typing import Any

import numpy as np

# In the place of an array stands its name under this key.
ARRAY = "array of the name"

Arrays = dict[str, np.ndarray]


def packed(tree: Any) -> tuple[Any, Arrays]:
    """The tree with names for its arrays, and the arrays by these names; one that stands there twice is sent once.

    Tuples become lists. Raises TypeError for what JSON cannot hold.
    """
    arrays: Arrays = {}
    names: dict[int, str] = {}

    def pack(value: Any, path: str) -> Any:
        if isinstance(value, np.ndarray):
            name = names.setdefault(id(value), path)
            arrays[name] = value
            return {ARRAY: name}
        if isinstance(value, np.generic):
            return value.item()
        if isinstance(value, Mapping):
            return {key: pack(item, f"{path}/{key}") for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [pack(item, f"{path}/{number}") for number, item in enumerate(value)]
        if value is None or isinstance(value, bool | int | float | str):
            return value
        raise TypeError(f"{path} is a {type(value).__name__}, which no message can hold")

    return pack(tree, ""), arrays


def unpacked(tree: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """The tree that was packed."""
    if isinstance(tree, dict):
        if tree.keys() == {ARRAY}:
            return arrays[tree[ARRAY]]
        return {key: unpacked(item, arrays) for key, item in tree.items()}
    if isinstance(tree, list):
        return [unpacked(item, arrays) for item in tree]
    return tree
