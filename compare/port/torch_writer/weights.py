"""Which of Keras's weights is which of the module's: every tensor is a rearrangement, and can be undone."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from compare.errors import InputError

Arrays = Mapping[str, np.ndarray]

# In the place of a number that Keras has not: it is zero and is not trained.
ZERO = -1


class WeightMap:
    """Where every number of the module's tensors comes from: `indices` count through all of Keras's weights."""

    def __init__(self, weights: Arrays) -> None:
        self.shapes = {path: value.shape for path, value in weights.items()}
        self.indices: dict[str, np.ndarray] = {}
        self.offsets: dict[str, int] = {}
        count = 0
        for path, value in weights.items():
            self.offsets[path] = count
            count += value.size

    def add(self, name: str, function: Callable[[Any], Any], paths: Sequence[str]) -> None:
        """Let a tensor be a rearrangement of Keras's weights."""
        self.indices[name] = np.array(function(*(self._counted(path) for path in paths)), order="C")

    def add_zeros(self, name: str, *shape: int) -> None:
        """Let a tensor be zero."""
        self.indices[name] = np.full(shape, ZERO)

    def _counted(self, path: str) -> np.ndarray:
        shape = self.shapes[path]
        return self.offsets[path] + np.arange(int(np.prod(shape, dtype=int))).reshape(shape)

    def of(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """The module's tensors for Keras's arrays, all of them."""
        flat = np.concatenate([np.zeros(0, np.float32), *(arrays[path].ravel() for path in self.offsets)])
        return {name: rearranged(flat, index) for name, index in self.indices.items()}

    def back(self, tensors: Arrays) -> dict[str, np.ndarray]:
        """Keras's arrays for the module's tensors; raises InputError where a number has no place."""
        size = sum(int(np.prod(shape, dtype=int)) for shape in self.shapes.values())
        flat, held = np.zeros(size, np.float32), np.zeros(size, bool)
        for name, index in self.indices.items():
            real = index != ZERO
            flat[index[real]], held[index[real]] = np.asarray(tensors[name])[real], True
        arrays = {}
        for path, shape in self.shapes.items():
            place = slice(self.offsets[path], self.offsets[path] + int(np.prod(shape, dtype=int)))
            if not held[place].all():
                raise InputError(f"the weight {path} has no place in what was written")
            arrays[path] = flat[place].reshape(shape)
        return arrays

    def save(self, file: Path) -> None:
        """Write the places down, for `parameter_map`."""
        content = {f"of {name}": index for name, index in self.indices.items()}
        names = np.array(json.dumps({path: [self.offsets[path], list(shape)] for path, shape in self.shapes.items()}))
        np.savez(file, allow_pickle=False, names=names, **content)

    def paths(self, name: str) -> list[str]:
        """Which of Keras's weights a tensor has something of."""
        index = self.indices[name]
        sizes = {path: int(np.prod(shape, dtype=int)) for path, shape in self.shapes.items()}
        return [p for p, begin in self.offsets.items() if ((index >= begin) & (index < begin + sizes[p])).any()]

    def only_zero(self, name: str) -> bool:
        """Whether a tensor has nothing of Keras's."""
        return bool((self.indices[name] == ZERO).all())


def rearranged(flat: np.ndarray, index: np.ndarray) -> np.ndarray:
    """The numbers at some places; zero where there is none."""
    return np.where(index == ZERO, np.zeros((), flat.dtype), flat[np.maximum(index, 0)] if flat.size else 0)


def parameter_map(file: str) -> dict[str, Callable[[Arrays], np.ndarray]]:
    """The `parameter_map` of a pair file, from what `WeightMap.save` wrote."""
    with np.load(file) as saved:
        places = json.loads(str(saved["names"]))
        indices = {name.removeprefix("of "): saved[name] for name in saved.files if name != "names"}
    return {name: _function(index, places) for name, index in indices.items()}


def _function(index: np.ndarray, places: Mapping[str, Any]) -> Callable[[Arrays], np.ndarray]:
    """What makes a tensor of Keras's weights: of one weight as it is or transposed, without looking at each number."""
    parts = []
    for path, (offset, shape) in places.items():
        held = (index >= offset) & (index < offset + int(np.prod(shape, dtype=int)))
        if held.any():
            parts.append((path, held, index[held] - offset))
    if len(parts) == 1 and index.size == np.prod(places[parts[0][0]][1], dtype=int):
        path, _, flat = parts[0]
        counted = np.arange(index.size).reshape(places[path][1])
        for turned in (False, True):
            if np.array_equal((counted.T if turned else counted).ravel(), flat):
                return partial(_whole, path=path, turned=turned, shape=index.shape)
    return partial(_gathered, shape=index.shape, parts=parts)


def _whole(arrays: Arrays, path: str, turned: bool, shape: tuple[int, ...]) -> np.ndarray:
    array = np.asarray(arrays[path])
    return (array.T if turned else array).reshape(shape)


def _gathered(
    arrays: Arrays, shape: tuple[int, ...], parts: Sequence[tuple[str, np.ndarray, np.ndarray]]
) -> np.ndarray:
    out = np.zeros(shape)
    for path, held, places in parts:
        out[held] = np.asarray(arrays[path]).ravel()[places]
    return out
