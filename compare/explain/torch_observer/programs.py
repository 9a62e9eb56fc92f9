"""Small programs that a user may have meant at an operation: differentiable functions with the code to write."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from compare.explain.source import Source, operands, source_of
from compare.explain.torch_observer.recorder import Argument, Operation, Patch

REDUCTIONS = ("mean", "sum", "max", "min", "amax", "amin", "logsumexp", "std", "var", "median")
RESHAPES = (
    "view",
    "reshape",
    "flatten",
    "view_as",
    "unflatten",
    "squeeze",
    "transpose",
    "permute",
    "t",
    "T",
    "swapaxes",
    "contiguous",
    "mT",
)
INDEXING = ("__getitem__", "select", "index_select", "narrow")
TIME_AXES = 3


@dataclass(frozen=True)
class Program:
    """One change: what it is called, the code that makes it, and where it is put in."""

    cause: str
    code: str
    patches: Mapping[Any, Patch]
    cost: int = 1
    by_value: bool = False
    operation: Operation | None = field(default=None, compare=False)
    told: str = ""
    # Values that tell nothing (zeros) are what it should make: the rest of the step has to prove it.
    trivial: bool = False
    # It takes the place of operations further on too: what it makes itself need not be Keras's.
    onward: bool = False
    # The user's line, where it is not the operation's.
    source: Source | None = None


@dataclass(frozen=True)
class Context:
    """What programs are made from: the operation, all of them, and which values lie where among Keras's."""

    operation: Operation
    operations: Sequence[Operation]
    aligned: Mapping[Any, Any]
    training: Any
    step: int
    keras: Mapping[str, Any]

    @property
    def expression(self) -> str:
        """The user's expression, the function's name where there is none."""
        return source_of(self.operation.site).expression if self.operation.site else self.operation.name

    @property
    def texts(self) -> list[str]:
        """The texts of its operands."""
        return operands(self.expression)

    @property
    def text(self) -> str:
        """The text of the tensor that it is done to."""
        names = [text for text in self.texts if not text.replace(".", "").replace("-", "").isdigit()]
        return names[0] if names else "x"

    @property
    def tensors(self) -> list[Argument]:
        """The tensors it takes."""
        return [v for v in tree_leaves((self.operation.arguments, self.operation.options)) if isinstance(v, Argument)]

    def maker(self, key: Any) -> Operation | None:
        """The operation that made a tensor; None for a leaf."""
        return self.operations[key[0]] if isinstance(key[0], int) else None

    def put(self, cause: str, code: str, patch: Patch, **more: Any) -> Program:
        """A program at this operation's place, in every round of its loop."""
        return Program(cause, code, {self.operation.place: patch}, operation=self.operation, **more)


def simple(function: Callable[..., Any]) -> Patch:
    """A patch of (operation, args, options, result) that need not know the rest of the step."""
    return lambda recorder, operation, args, options, result: function(operation, args, options, result)


def with_tensor(args: Any, options: Any, place: int, new: torch.Tensor) -> tuple[Any, Any]:
    """The same arguments with one tensor replaced; raises ValueError for another shape (fused kernels check none)."""
    leaves, spec = tree_flatten((args, options))
    places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)]
    if new.shape != leaves[places[place]].shape:
        raise ValueError("another shape")
    leaves[places[place]] = new
    return tree_unflatten(leaves, spec)


def nth(args: Any, options: Any, place: int) -> torch.Tensor:
    """One of the tensors of a call."""
    return [leaf for leaf in tree_leaves((args, options)) if isinstance(leaf, torch.Tensor)][place]


def repeated(operation: Operation, args: Any, options: Any) -> Any:
    """The operation with other arguments."""
    return operation.function(*args, **options)
