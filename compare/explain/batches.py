"""What both sides train on: arrays, or lists and dicts of arrays, cut into the same batches."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

# Without `epochs` two are trained, so that the first step of a second epoch is seen; never more than MOST_STEPS.
EPOCHS, MOST_STEPS = 2, 24

Tree = Any  # an array, or a list, tuple or dict of arrays


def arrays_of(tree: Tree) -> list[np.ndarray]:
    """The arrays, in order."""
    if isinstance(tree, Mapping):
        return [array for value in tree.values() for array in arrays_of(value)]
    if isinstance(tree, list | tuple):
        return [array for value in tree for array in arrays_of(value)]
    return [] if tree is None else [tree]


def each(function: Callable[[Any], Any], tree: Tree) -> Any:
    """The same tree of what a function makes of each array."""
    if isinstance(tree, Mapping):
        return {name: each(function, value) for name, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [each(function, value) for value in tree]
    return None if tree is None else function(tree)


def named(prefix: str, tree: Tree) -> Iterator[tuple[str, Any]]:
    """The leaves with the names that a reader knows them by: x, x[0], x['name']."""
    if isinstance(tree, Mapping):
        for name, value in tree.items():
            yield from named(f"{prefix}[{name!r}]", value)
    elif isinstance(tree, list | tuple):
        for number, value in enumerate(tree):
            yield from named(f"{prefix}[{number}]", value)
    elif tree is not None:
        yield prefix, tree


def schedule(count: int, batch_size: int, epochs: int, seed: int | None) -> list[list[int]]:
    """The windows of every batch: in order, or shuffled every epoch where the pair file has a seed."""
    draw = None if seed is None else np.random.default_rng(seed)
    batches: list[list[int]] = []
    for _ in range(max(epochs, EPOCHS)):
        order = np.arange(count) if draw is None else draw.permutation(count)
        batches += [order[i : i + batch_size].tolist() for i in range(0, count, batch_size)]
    return batches[:MOST_STEPS]
