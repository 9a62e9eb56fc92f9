"""What stands for PyTorch's tensors while a program is lowered, and constants as operations."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from compare.port.graph import Tensor
from compare.port.torch_reader.program import Size

BATCH = Size(1)


@dataclass(frozen=True)
class Sym:
    """A tensor of the graph as PyTorch sees it: PyTorch's axis i is the tensor's `axes[i]`; `shape` is the tensor's."""

    tensor: Tensor
    shape: tuple[Any, ...]
    axes: tuple[int, ...]

    @property
    def seen(self) -> tuple[Any, ...]:
        """The shape that PyTorch sees."""
        return tuple(self.shape[axis] for axis in self.axes)

    @property
    def rank(self) -> int:
        """How many axes there are."""
        return len(self.shape)


@dataclass(frozen=True)
class Stack:
    """Tensors that PyTorch has in one, along the first axis: the states of layers and directions."""

    parts: tuple[Any, ...]


@dataclass(frozen=True)
class Packed:
    """A packed sequence: the padded one, seen batch first, and where it is valid."""

    sequence: Sym
    mask: Tensor


@dataclass(frozen=True)
class Last:
    """A recurrent layer's outputs, of which only the last timestep is used."""

    state: Sym


@dataclass(frozen=True)
class Fixed:
    """A constant as PyTorch sees it: `shape` may grow with the batch, then the values are the same everywhere."""

    array: np.ndarray
    shape: tuple[Any, ...]

    @property
    def number(self) -> Any:
        """Its only value; None where it has several."""
        same = self.array.size and (self.array == self.array.flat[0]).all()
        return self.array.flat[0].item() if same else None


@dataclass(frozen=True)
class Turned:
    """A matrix among the parameters, transposed."""

    name: str


class BatchIndex:
    """0, 1, 2 … for the members of the batch, as in `x[torch.arange(len(x)), lengths - 1]`."""


@dataclass(frozen=True)
class WeightMap:
    """A Keras weight as a function of the module's tensors; `summed` where it is the sum of two that train alike."""

    names: tuple[str, ...]
    function: Callable[..., np.ndarray]
    summed: bool = False


Held = Any
Handler = Callable[..., Held]


def dtype_of(array: np.ndarray) -> str:
    """What Keras calls an array's dtype."""
    return {"f": "float32", "i": "int32", "u": "int32", "b": "bool"}[array.dtype.kind]


def pattern_of(array: np.ndarray) -> tuple[str, tuple[Any, ...], dict[str, Any]] | None:
    """An operation that makes a regular constant."""
    if array.ndim and array.size > 1 and (array == array.flat[0]).all():
        return "ops.full", (array.shape, array.flat[0].item()), {"dtype": dtype_of(array)}
    if array.ndim == 1 and array.size > 2 and array.dtype.kind == "i" and len(set(np.diff(array))) == 1:
        start, step = int(array[0]), int(array[1] - array[0])
        return "ops.arange", (start, start + step * array.size, step) if (start, step) != (0, 1) else (array.size,), {}
    if array.ndim == 2 and array.shape[0] == array.shape[1] and array.dtype.kind in "bif":
        for kind, function in (("ops.tril", np.tril), ("ops.triu", np.triu)):
            for k in (0, 1, -1):
                if np.array_equal(array, function(np.ones_like(array), k)):
                    return kind, (k,), {}
    return None
