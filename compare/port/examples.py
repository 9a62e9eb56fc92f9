"""Inputs of a PyTorch module by their shapes: `32,10,1`, and what stands in them, as `--example` gives it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from compare.errors import InputError

WRITTEN = re.compile(r"([\d]+b?(?:,\d+b?)*)(?::(?:(float)|(bool)|(?:(\d+)<=)?int<(\d+)))?")
USAGE = (
    "write a shape with the batch first, as 32,10,1 for floats, '32,10:int<5000' for whole numbers below 5000, "
    "'8:1<=int<11' for lengths from 1 to 10, 32,10:bool; 10,32b,1 where the batch is not the first"
)


@dataclass(frozen=True)
class Example:
    """An input: its shape, which axis is the batch's, and its numbers: `high` and `low` where they are whole."""

    shape: tuple[int, ...]
    batch_axis: int = 0
    kind: str = "float"
    low: int = 0
    high: int = 0

    @property
    def batch(self) -> int:
        """The batch's size."""
        return self.shape[self.batch_axis]

    def array(self, batch: int, generator: np.random.Generator) -> np.ndarray:
        """Random values for a batch of a size; whole numbers have the highest among them.

        What has one number for each member of the batch falls from the highest on, as lengths of packed sequences do.
        """
        shape = tuple(batch if axis == self.batch_axis else size for axis, size in enumerate(self.shape))
        if self.kind == "float":
            return generator.standard_normal(shape).astype(np.float32)
        if self.kind == "bool":
            return generator.integers(0, 2, shape).astype(bool)
        numbers = generator.integers(self.low, self.high, shape, dtype=np.int64)
        numbers[(0,) * len(shape)] = self.high - 1
        return np.sort(numbers)[::-1].copy() if len(shape) == 1 else numbers


def example(text: str) -> Example:
    """Read an input as `--example` has it; raises InputError."""
    match = WRITTEN.fullmatch(text.replace(" ", ""))
    if match is None:
        raise InputError(f"--example {text}: {USAGE}")
    sizes, _, truth, low, high = match.groups()
    marked = [axis for axis, size in enumerate(sizes.split(",")) if size.endswith("b")]
    shape = tuple(int(size.rstrip("b")) for size in sizes.split(","))
    if len(marked) > 1 or 0 in shape or (high is not None and int(high) <= int(low or 0)):
        raise InputError(f"--example {text}: {USAGE}; no size is 0, and one axis at most is the batch's")
    kind = "bool" if truth else "float" if high is None else "int"
    return Example(shape, marked[0] if marked else 0, kind, int(low or 0), int(high or 0))


def examples(texts: Sequence[str]) -> list[Example]:
    """Read all inputs; raises InputError where the batches differ."""
    read = [example(text) for text in texts]
    if len({each.batch for each in read}) > 1:
        sizes = ", ".join(f"{text} ({each.batch})" for text, each in zip(texts, read, strict=True))
        raise InputError(f"--example: the batches have different sizes: {sizes}; mark the batch's axis with b: 2,32b,8")
    return read
