"""Functions of PyTorch that select, join and reshape."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from compare.port.torch_reader.elementwise import function, without
from compare.port.torch_reader.held import BATCH, BatchIndex, Fixed, Held, Last, Packed, Stack, Sym, Turned
from compare.port.torch_reader.lowering import Lowering, expanded
from compare.port.torch_reader.program import Parameter, Size


@function("permute", "transpose", "swapaxes", "swapdims", "t", "T", "mT", "movedim", "moveaxis", "adjoint")
def _permute(low: Lowering, x: Held, *dims: Any, **named: Any) -> Held:
    name = low.key(low.step)
    if isinstance(x, Parameter) and low.program.parameters[x.name].ndim == 2:
        return Turned(x.name)
    sym = low.sym(x)
    rank = sym.rank
    given = list(dims) + list(named.values())
    order = list(range(rank))
    if name == "permute":
        flat = given[0] if given and isinstance(given[0], list | tuple) else given
        order = [dim % rank for dim in flat]
    elif name in ("t", "T"):
        order = order[::-1]
    elif name in ("movedim", "moveaxis"):
        if not all(isinstance(dim, int) for dim in given):
            raise low.refusal(f"{name}() of several dimensions; use permute()")
        source, target = (dim % rank for dim in given)
        order.remove(source)
        order.insert(target, source)
    else:
        a, b = (-2, -1) if name in ("mT", "adjoint") else given
        order[a], order[b] = order[b], order[a]
    return Sym(sym.tensor, sym.shape, tuple(sym.axes[dim] for dim in order))


@function("view", "reshape", "flatten", "view_as", "reshape_as", "unflatten")
def _reshape(low: Lowering, x: Held, *_: Any, **__: Any) -> Held:
    return reshaped(low, x, low.step.shapes[0])


def reshaped(low: Lowering, x: Held, shape: Sequence[Any]) -> Held:
    """A value as PyTorch sees it in another shape."""
    if isinstance(x, BatchIndex):
        return x
    if isinstance(x, Stack):
        states = _reshaped_stack(x, shape)
        if states is not None:
            return states
    sym = low.sym(x)
    if tuple(sym.seen) == tuple(shape):
        return sym
    if sym.seen == (*shape, 1) and sym.axes[-1] == sym.rank - 1:
        return squeezed(low, sym, sym.rank - 1)
    grows = [axis for axis, size in enumerate(shape) if isinstance(size, Size)]
    if len(grows) > 1:
        raise low.refusal(f"{low.told(low.step)} gives a shape in which two sizes grow with the batch")
    target = tuple(-1 if axis in grows else size for axis, size in enumerate(shape))
    return low.new(low.emit("ops.reshape", low.plain(sym), target), shape)


def _reshaped_stack(x: Stack, shape: Sequence[Any]) -> Stack | None:
    """States by layer and direction: h.view(layers, directions, batch, units)."""
    first = x.parts[0]
    if not isinstance(first, Sym) or len(shape) < 2 or not isinstance(shape[0], int) or not isinstance(shape[1], int):
        return None
    if shape[0] * shape[1] != len(x.parts) or tuple(shape[2:]) != first.seen:
        return None
    groups = [x.parts[i * shape[1] : (i + 1) * shape[1]] for i in range(shape[0])]
    return Stack(tuple(Stack(tuple(group)) for group in groups))


def squeezed(low: Lowering, sym: Sym, dim: int) -> Sym:
    """A value without one of PyTorch's dimensions, of size 1."""
    axis = sym.axes[dim % sym.rank]
    tensor = low.emit("ops.squeeze", sym.tensor, axis=-1 if axis == sym.rank - 1 else axis)
    return Sym(tensor, tuple(size for i, size in enumerate(sym.shape) if i != axis), without(sym, (axis,)))


@function("squeeze")
def _squeeze(low: Lowering, x: Held, dim: Any = None) -> Held:
    if isinstance(x, Stack) and dim == 0:
        return x.parts[0] if len(x.parts) == 1 else x
    sym = low.sym(x)
    dims = range(sym.rank) if dim is None else [dim] if isinstance(dim, int) else dim
    gone = sorted((d % sym.rank for d in dims if sym.seen[d % sym.rank] == 1), reverse=True)
    for each in gone:
        sym = squeezed(low, sym, each)
    return sym


@function("unsqueeze")
def _unsqueeze(low: Lowering, x: Held, dim: int) -> Held:
    if isinstance(x, BatchIndex):
        return x
    if dim == 0 and not isinstance(x, Stack | Last | Packed):
        return Stack((low.sym(x),))
    return expanded(low, low.sym(x), dim)


@function("expand", "expand_as", "broadcast_to", "repeat", "tile")
def _expand(low: Lowering, x: Held, *_: Any, **__: Any) -> Held:
    shape = low.step.shapes[0]
    if (
        isinstance(x, Stack)
        and len(x.parts) == 1
        and isinstance(shape[0], int)
        and tuple(shape[1:]) == low.sym(x.parts[0]).seen
    ):
        return Stack(x.parts * shape[0])
    sym = low.sym(x)
    while sym.rank < len(shape):
        sym = expanded(low, sym, 0)
    tensor, own = sym.tensor, list(sym.shape)
    copies = low.key(low.step) in ("repeat", "tile")
    dtype = low.step.dtypes[0] if low.step.dtypes[0].startswith("float") else "int32"
    for axis, size in zip(sym.axes, shape, strict=True):
        if own[axis] == size:
            continue
        if isinstance(size, Size):
            if size != BATCH or own[axis] != 1:
                raise low.refusal(f"{low.told(low.step)} repeats along the batch")
            member = low.emit("ops.reshape", low.members(dtype), tuple(-1 if i == axis else 1 for i in range(sym.rank)))
            tensor = low.emit("ops.add", tensor, member)
        elif own[axis] == 1:
            tensor = low.emit("ops.repeat", tensor, size, axis=axis)
        elif copies and not isinstance(own[axis], Size):
            tensor = low.emit("ops.tile", tensor, tuple(size // own[axis] if i == axis else 1 for i in range(sym.rank)))
        else:
            raise low.refusal(f"{low.told(low.step)} repeats along the batch")
        own[axis] = size
    return Sym(tensor, tuple(own), sym.axes)


@function("repeat_interleave")
def _repeat(low: Lowering, x: Held, repeats: Any, dim: int | None = None, **_: Any) -> Held:
    sym = low.sym(x)
    if dim is None or not isinstance(repeats, int) or isinstance(sym.seen[dim], Size):
        raise low.refusal(low.told(low.step))
    return low.result(low.emit("ops.repeat", sym.tensor, repeats, axis=sym.axes[dim % sym.rank]), sym.axes)


@function("cat", "concat", "concatenate", "hstack")
def _cat(low: Lowering, tensors: Any, dim: int = 0, axis: int | None = None, out: Any = None) -> Held:
    dim = dim if axis is None else axis
    if all(isinstance(each, Stack) for each in tensors) and dim == 0:
        return Stack(tuple(part for each in tensors for part in each.parts))
    rank = len(low.step.shapes[0])
    dim = (1 if rank > 1 else 0) if low.step.name == "hstack" else dim % rank
    both = low.both.get(tuple(each.tensor if isinstance(each, Sym) else None for each in tensors))
    if both is not None and dim == rank - 1:
        return low.result(both)  # the last states of both directions are what Bidirectional gives
    syms = [low.sym(each) for each in tensors if low_size(each) != 0]
    axes = syms[0].axes if len({sym.axes for sym in syms}) == 1 else tuple(range(rank))
    given = [low.laid(sym, axes) for sym in syms]
    place = axes[dim]
    return low.result(low.emit("ops.concatenate", given, axis=-1 if place == rank - 1 else place), axes)


def low_size(held: Held) -> Any:
    """How many numbers a constant has; None for what is computed."""
    return held.array.size if isinstance(held, Fixed) else None


@function("stack")
def _stack(low: Lowering, tensors: Any, dim: int = 0, out: Any = None) -> Held:
    rank = len(low.step.shapes[0])
    if dim % rank == 0 and low.step.shapes[0][1:2] == (BATCH,) and len(tensors) < 9:
        return Stack(tuple(tensors))
    if dim % rank == 0 and BATCH in low.step.shapes[0]:  # time first, as a loop gives it: the batch first in Keras
        tensor = low.emit("ops.stack", [low.plain(each) for each in tensors], axis=1)
        return low.result(tensor, (1, 0, *range(2, rank)))
    return low.result(low.emit("ops.stack", [low.plain(each) for each in tensors], axis=dim % rank))


@function("chunk", "split", "tensor_split", "split_with_sizes")
def _split(low: Lowering, x: Held, *_: Any, dim: int | None = None, **__: Any) -> Held:
    dim = (int(_[1]) if len(_) > 1 else 0) if dim is None else dim
    if isinstance(x, Stack) and dim % low.step_rank(x) == 0:
        parts = iter(x.parts)
        return [Stack(tuple(next(parts) for _ in range(shape[0]))) for shape in low.step.shapes]
    sym = low.sym(x)
    axis = sym.axes[dim % sym.rank]
    sizes = [shape[dim] for shape in low.step.shapes]
    if any(isinstance(size, Size) for size in sizes):
        raise low.refusal(f"{low.told(low.step)} along the batch")
    named = -1 if axis == sym.rank - 1 else axis
    if len(set(sizes)) == 1:
        tensor = low.emit("ops.split", sym.tensor, len(sizes), axis=named)
    else:
        tensor = low.emit("ops.split", sym.tensor, [int(end) for end in np.cumsum(sizes)[:-1]], axis=named)
    return [low.result(type(tensor)(tensor.call, i), sym.axes, i) for i in range(len(sizes))]


@function("roll")
def _roll(low: Lowering, x: Held, shifts: Any, dims: Any = None) -> Held:
    sym = low.sym(x)
    shift, dim = (v[0] if isinstance(v, list | tuple) and len(v) == 1 else v for v in (shifts, dims))
    if not isinstance(shift, int) or not isinstance(dim, int):
        raise low.refusal(low.told(low.step))
    return Sym(low.emit("ops.roll", sym.tensor, shift, axis=sym.axes[dim % sym.rank]), sym.shape, sym.axes)


@function("pad")
def _pad(low: Lowering, x: Held, pad: Any, mode: str = "constant", value: Any = None) -> Held:
    sym = low.sym(x)
    widths = [(0, 0)] * sym.rank
    for place in range(len(pad) // 2):
        widths[sym.axes[sym.rank - 1 - place]] = (pad[2 * place], pad[2 * place + 1])
    if mode not in ("constant", "reflect") or any(width < 0 for pair in widths for width in pair):
        raise low.refusal(low.told(low.step))
    options = {"mode": mode} if mode != "constant" else {"constant_values": value} if value else {}
    return low.result(low.emit("ops.pad", sym.tensor, tuple(widths), **options), sym.axes)


@function("_pack_padded_sequence")
def _pack(low: Lowering, x: Held, lengths: Held, batch_first: bool) -> Held:
    sym = low.sym(x)
    if not batch_first:
        sym = Sym(sym.tensor, sym.shape, (sym.axes[1], sym.axes[0], *sym.axes[2:]))
    if not isinstance(lengths, Sym):
        raise low.refusal("the lengths of a packed sequence follow neither from an input nor from one's values")
    steps = sym.seen[1]
    row = low.emit("ops.expand_dims", low.plain(lengths), 1)
    return Packed(sym, low.emit("ops.less", low.literal(np.arange(steps)), row, named="mask"))


@function("_pad_packed_sequence")
def _unpack(low: Lowering, x: Held, *_: Any, **__: Any) -> Held:
    batch_first, padding = _[1], _[2]
    if not isinstance(x, Packed) or padding:
        raise low.refusal(
            f"{low.told(low.step)} of another sequence than a recurrent layer's, or padded with {padding}"
        )
    sym = x.sequence
    axes = sym.axes if batch_first else (sym.axes[1], sym.axes[0], *sym.axes[2:])
    low.note(
        "pad_packed_sequence() pads to the longest of the batch, Keras to the whole length: the same where one is whole"
    )
    lengths = [low.emit("ops.sum", low.emit("ops.cast", x.mask, "int32"), axis=1)] if low.used(low.number, 1) else []
    return [Sym(sym.tensor, sym.shape, axes), *(low.new(each, (BATCH,)) for each in lengths)]


@function("one_hot")
def _one_hot(low: Lowering, x: Held, num_classes: int = -1) -> Held:
    sym = low.sym(x)
    if num_classes < 0:
        raise low.refusal("one_hot() without num_classes")
    return low.result(low.emit("ops.one_hot", sym.tensor, num_classes), (*sym.axes, sym.rank))


@function("diff")
def _diff(low: Lowering, x: Held, n: int = 1, dim: int = -1, **_: Any) -> Held:
    sym = low.sym(x)
    return low.result(low.emit("ops.diff", sym.tensor, n, axis=sym.axes[dim % sym.rank]), sym.axes)


@function("tril", "triu")
def _triangle(low: Lowering, x: Held, diagonal: int = 0) -> Held:
    return low.result(low.emit(f"ops.{low.key(low.step)}", low.plain(x), diagonal))
