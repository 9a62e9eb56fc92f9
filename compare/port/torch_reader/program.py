"""What a module computed for an example: calls in order, with the user's line, and which sizes grow with the batch.

A program holds no framework's objects. It is made of two traces with batches of different sizes, so that every number
that follows from the batch's size is known as such.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from compare.errors import InputError
from compare.port.graph import leaves


@dataclass(frozen=True)
class Value:
    """A tensor that was computed: the step's number, and which of its outputs."""

    step: int
    output: int = 0


@dataclass(frozen=True)
class Parameter:
    """A parameter or a buffer of the module, by its name."""

    name: str


@dataclass(frozen=True, eq=False)
class Constant:
    """A tensor that follows neither from the inputs nor from parameters."""

    array: np.ndarray


@dataclass(frozen=True)
class Size:
    """A number that grows with the batch: `times` the batch's size, plus `plus`."""

    times: int
    plus: int = 0

    def __str__(self) -> str:
        return "the batch's size" if (self.times, self.plus) == (1, 0) else f"{self.times} x batch + {self.plus}"


# A size that follows from values, as that of a packed sequence's data.
UNKNOWN = Size(0, -1)


@dataclass(frozen=True)
class Place:
    """Where in the user's code something is done, and in which of the module's parts."""

    module: str = ""
    file: str = ""
    line: int = 0
    text: str = ""

    def __str__(self) -> str:
        line = f"{self.file}:{self.line}" if self.file else "the module"
        return line + (f", in {self.module}" if self.module else "") + (f": {self.text}" if self.text else "")


@dataclass
class Step:
    """One call: a function by its name, or a module of torch.nn ("LSTM") by its path in the user's module.

    Each output has its shape, whose entries may be of class Size, its dtype, and where it is constant its values.
    """

    name: str
    arguments: tuple[Any, ...] = ()
    keywords: dict[str, Any] = field(default_factory=dict)
    module: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    shapes: list[tuple[Any, ...]] = field(default_factory=list)
    dtypes: list[str] = field(default_factory=list)
    constants: list[np.ndarray | None] = field(default_factory=list)
    place: Place = field(default_factory=Place)

    @property
    def values(self) -> list[Value]:
        """The computed tensors that it is given, in order."""
        return [leaf for leaf in leaves([self.arguments, self.keywords]) if isinstance(leaf, Value)]


@dataclass
class Program:
    """The steps of a forward pass; the first are its inputs. `outputs` is a tree as the module returned it."""

    steps: list[Step]
    inputs: int
    outputs: Any
    batch: int
    parameters: dict[str, np.ndarray] = field(default_factory=dict)
    frozen: frozenset[str] = frozenset()
    buffers: frozenset[str] = frozenset()
    names: tuple[str, ...] = ()
    # Tensors that have two names, by the second one.
    tied: dict[str, str] = field(default_factory=dict)


def merged(first: Program, second: Program) -> Program:
    """One program of two with batches of different sizes; raises InputError where they did different things."""
    if len(first.steps) != len(second.steps):
        shorter, longer = sorted((first, second), key=lambda program: len(program.steps))
        step = longer.steps[_first_difference(shorter, longer)]
        raise InputError(
            f"{step.place}: the batch's size decides what is computed; a Keras model computes the same for every batch"
        )
    sizes = (first.batch, second.batch)
    return replace(
        first,
        steps=[_step(one, other, sizes) for one, other in zip(first.steps, second.steps, strict=True)],
        outputs=_joined(first.outputs, second.outputs, sizes, Place()),
    )


def _first_difference(shorter: Program, longer: Program) -> int:
    pairs = zip(shorter.steps, longer.steps, strict=False)
    last = min(len(shorter.steps), len(longer.steps) - 1)
    return next((number for number, (one, other) in enumerate(pairs) if one.name != other.name), last)


def _step(one: Step, other: Step, sizes: Sequence[int]) -> Step:
    if (one.name, one.module) != (other.name, other.module):
        raise InputError(
            f"{one.place}: the batch's size decides what is computed; a Keras model computes the same for every batch"
        )
    return replace(
        one,
        arguments=_joined(one.arguments, other.arguments, sizes, one.place),
        keywords=_joined(one.keywords, other.keywords, sizes, one.place),
        shapes=[_shape(a, b, sizes) for a, b in zip(one.shapes, other.shapes, strict=True)],
        constants=[
            _constant(a, b, len(shape)) for a, b, shape in zip(one.constants, other.constants, one.shapes, strict=True)
        ],
    )


def _shape(one: tuple[int, ...], other: tuple[int, ...], sizes: Sequence[int]) -> tuple[Any, ...]:
    if len(one) != len(other):
        return (UNKNOWN,) * len(one)
    return tuple(a if a == b else _size(a, b, sizes) or UNKNOWN for a, b in zip(one, other, strict=True))


def _size(one: int, other: int, sizes: Sequence[int]) -> Size | None:
    """A number that grows with the batch; None for one that grows otherwise."""
    times, rest = divmod(other - one, sizes[1] - sizes[0])
    return None if rest else Size(times, one - times * sizes[0])


def _constant(one: np.ndarray | None, other: np.ndarray | None, rank: int) -> np.ndarray | None:
    """The values of a constant; of one that grows with the batch those that are the same everywhere, else None."""
    if one is None or other is None:
        return None
    if one.shape == other.shape:
        return one if np.array_equal(one, other) else None
    if one.size and (one == one.flat[0]).all() and (other == one.flat[0]).all():
        return one.reshape(-1)[:1].reshape((1,) * rank)
    return None


def _joined(one: Any, other: Any, sizes: Sequence[int], place: Place) -> Any:
    """A tree of both traces' leaves; numbers that differ become sizes."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return {name: _joined(one[name], other[name], sizes, place) for name in one}
    if isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        return type(one)(_joined(a, b, sizes, place) for a, b in zip(one, other, strict=True))
    if isinstance(one, slice) and isinstance(other, slice):
        ends = [_joined(getattr(one, e), getattr(other, e), sizes, place) for e in ("start", "stop", "step")]
        return slice(*ends)
    if isinstance(one, Constant) and isinstance(other, Constant):
        array = _constant(one.array, other.array, one.array.ndim)
        if array is not None:
            return Constant(array)
    elif type(one) is type(other) and one == other:
        return one
    elif type(one) is type(other) is int:
        size = _size(one, other, sizes)
        if size is not None:
            return size
    elif type(one) is type(other) is float and one and np.isclose(other / one, sizes[1] / sizes[0]):
        return one
    raise InputError(
        f"{place}: what is given here follows from the batch's size or differs from call to call ({_told(one)}, then "
        f"{_told(other)}); a Keras model computes the same for every batch"
    )


def _told(value: Any) -> str:
    return str(value.array.tolist()) if isinstance(value, Constant) else str(value)


def evaluated(program: Program, evaluation: Program) -> Program:
    """The program with `training="always"` for a dropout that is at work in evaluation too."""
    if [(step.name, step.module) for step in program.steps] != [(step.name, step.module) for step in evaluation.steps]:
        raise InputError(
            "forward() computes something else in training than in evaluation (self.training decides, beside dropout "
            "and normalisation); a functional Keras model computes the same in both"
        )
    steps = [_with_mode(one, other) for one, other in zip(program.steps, evaluation.steps, strict=True)]
    return replace(program, steps=steps)


def _with_mode(one: Step, other: Step) -> Step:
    if "dropout" not in one.name or one.module is not None:
        return one
    names = ("input", "p", "training", "inplace")
    arguments = {**dict(zip(names, one.arguments, strict=False)), **one.keywords}
    later = {**dict(zip(names, other.arguments, strict=False)), **other.keywords}
    arguments.setdefault("p", 0.5)
    if arguments.get("training", True) and later.get("training", True):
        arguments["training"] = "always"
    first = arguments.pop("input")
    return replace(one, arguments=(first,), keywords=arguments)
