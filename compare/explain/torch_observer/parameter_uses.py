"""What a recorded forward pass does with each parameter: how it is multiplied, with what, and how often."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any

from compare.explain.torch_observer.recorder import FUSED, Argument, Key, Operation
from compare.explain.weight_maps import Use

TURNS = {"t", "transpose", "T", "mT", "permute", "swapaxes", "adjoint"}
PRODUCTS = {"matmul", "__matmul__", "__rmatmul__", "mm", "bmm", "addmm"}
CELLS = (*FUSED, "lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell")
JOINS = {"cat", "concat", "concatenate"}


def parameter_uses(operations: Sequence[Operation], names: Collection[str], inputs: Collection[str]) -> dict[str, Use]:
    """The use of each parameter; `inputs` are the names of the model's inputs."""
    fed = _fed(operations, inputs)
    uses: dict[str, Use] = {}
    origin: dict[Key, tuple[str, bool]] = {(name, 0): (name, False) for name in names}
    for operation in operations:
        known = [key for key in operation.inputs if key in origin]
        if operation.name in TURNS and known:
            name, turned = origin[known[0]]
            origin[operation.number, 0] = (name, not turned)
            continue
        for key in known:
            name, turned = origin[key]
            before = uses.get(name)
            if before is not None:
                uses[name] = replace(before, count=before.count + 1)
                continue
            side = _side(operation, key)
            data = next((other for other in operation.inputs if other not in known), None)
            joined, state_first = _joined(operations, data, fed)
            uses[name] = Use(
                1,
                None if side is None else side != turned,
                None if data is None else data in fed,
                state_first,
                operation.name in CELLS,
                joined,
            )
    return uses


def _fed(operations: Sequence[Operation], inputs: Collection[str]) -> set[Key]:
    """What is computed of the inputs, but for states that are zero still."""
    fed: set[Key] = {(name, 0) for name in inputs}
    for operation in operations:
        if any(key in fed for key in operation.inputs):
            fed |= {(operation.number, output) for output, value in enumerate(operation.outputs) if value.any()}
    return fed


def _tensors(arguments: Any) -> Iterator[Argument]:
    for argument in arguments if isinstance(arguments, list | tuple) else (arguments,):
        if isinstance(argument, Argument):
            yield argument
        elif isinstance(argument, list | tuple):
            yield from _tensors(argument)


def _side(operation: Operation, key: Key) -> bool | None:
    """Whether an operation multiplies by a parameter from the right, as (in, out); None where it does not multiply."""
    if operation.name == "linear":
        return False
    if operation.name not in PRODUCTS:
        return None
    factors = [tensor.key for tensor in _tensors(operation.arguments)][-2:]
    if operation.name == "__rmatmul__":
        factors = factors[::-1]
    return len(factors) == 2 and factors[1] == key


def _joined(operations: Sequence[Operation], data: Key | None, fed: set[Key]) -> tuple[tuple[int, ...], bool]:
    """The sizes of the two parts that are joined before a parameter multiplies them, and if the first is a state."""
    if data is None or not isinstance(data[0], int) or operations[data[0]].name not in JOINS:
        return (), False
    parts = list(_tensors(operations[data[0]].arguments))
    if len(parts) != 2:
        return (), False
    return tuple(part.shape[-1] for part in parts), parts[0].key not in fed and parts[1].key in fed
