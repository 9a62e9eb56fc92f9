"""Functions of PyTorch that take and set parts of tensors."""

from typing import Any

import numpy as np

from compare.port.torch_reader.elementwise import function, without
from compare.port.torch_reader.held import BATCH, BatchIndex, Fixed, Held, Last, Stack, Sym
from compare.port.torch_reader.lowering import Lowering, expanded
from compare.port.torch_reader.program import Parameter, Size

EVERYTHING = slice(None)


@function("unbind")
def _unbind(low: Lowering, x: Held, dim: int = 0) -> Held:
    rank = low.step_rank(x)
    return [selected(low, x, (*(EVERYTHING for _ in range(dim % rank)), i)) for i in range(len(low.step.shapes))]


@function("select")
def _select(low: Lowering, x: Held, dim: int, index: int) -> Held:
    return selected(low, x, (*(EVERYTHING for _ in range(dim % low.step_rank(x))), index))


@function("narrow")
def _narrow(low: Lowering, x: Held, dim: int, start: int, length: int) -> Held:
    return selected(low, x, (*(EVERYTHING for _ in range(dim % low.step_rank(x))), slice(start, start + length)))


@function("__getitem__")
def _get(low: Lowering, x: Held, index: Any) -> Held:
    return selected(low, x, index if isinstance(index, tuple) else (index,))


def selected(low: Lowering, x: Held, index: tuple[Any, ...]) -> Held:
    """`x[index]`."""
    if isinstance(x, Last):
        return x.state
    rank = low.step_rank(x)
    index = _whole(index, rank)
    if isinstance(x, Stack) and isinstance(index[0], int | slice):
        rest = index[1:]
        if isinstance(index[0], int):
            return _rest(low, x.parts[index[0]], rest)
        if all(item == EVERYTHING for item in rest):
            return Stack(x.parts[index[0]])
    sym = low.sym(x)
    if any(isinstance(item, Sym | Fixed | BatchIndex | list | Parameter) for item in index):
        return _gathered(low, sym, index)
    seen = iter(sym.seen)
    index = tuple(item if item is None else _slice(low, item, next(seen)) for item in index)
    if all(item == EVERYTHING for item in index):
        return sym
    basic = tuple(item for item in index if item is not None)
    placed: list[Any] = [EVERYTHING] * sym.rank
    for item, axis in zip(basic, sym.axes, strict=True):
        placed[axis] = item
    if any(item is None for item in index) and sym.axes == tuple(range(sym.rank)):
        return low.result(low.emit("ops.get_item", sym.tensor, _short(index)))
    gone = [axis for axis, item in enumerate(placed) if isinstance(item, int)]
    result = sym
    if any(item != EVERYTHING for item in placed):
        axes = without(sym, gone)
        seen_now = list(low.step.shapes[0])
        for place in [i for i, item in enumerate(_left(index)) if item is None][::-1]:
            del seen_now[place]
        result = low.new(low.emit("ops.get_item", sym.tensor, _short(tuple(placed))), seen_now, axes)
    for place, item in enumerate(_left(index)):
        if item is None:
            result = expanded(low, result, place)
    return result


def _left(index: tuple[Any, ...]) -> list[Any]:
    return [item for item in index if not isinstance(item, int)]


def _rest(low: Lowering, part: Held, rest: tuple[Any, ...]) -> Held:
    return part if all(item == EVERYTHING for item in rest) else selected(low, part, rest)


def _whole(index: tuple[Any, ...], rank: int) -> tuple[Any, ...]:
    """An index with an item for every axis."""
    taken = sum(item is not None and item is not Ellipsis for item in index)
    if not any(item is Ellipsis for item in index):
        index = (*index, Ellipsis)
    place = next(i for i, item in enumerate(index) if item is Ellipsis)
    return (*index[:place], *(EVERYTHING for _ in range(rank - taken)), *index[place + 1 :])


def _short(index: tuple[Any, ...]) -> Any:
    """An index without the slices at its end that take all."""
    items = list(index)
    while len(items) > 1 and items[-1] == EVERYTHING:
        items.pop()
    if len(items) == 1:  # Keras takes no slice by itself
        return (items[0], Ellipsis) if isinstance(items[0], slice) else items[0]
    return tuple(items)


def _slice(low: Lowering, item: Any, size: Any) -> Any:
    if isinstance(item, slice):
        start, stop = item.start, item.stop
        if stop == size or (isinstance(stop, int) and isinstance(size, int) and stop >= size):
            stop = None
        if start == 0:
            start = None
        if isinstance(start, Size) or isinstance(stop, Size) or (isinstance(size, Size) and (start or stop)):
            raise low.refusal(f"{low.told(low.step)} takes a part of the batch")
        return slice(start, stop, None if item.step == 1 else item.step)
    if isinstance(item, bool) or not isinstance(item, int):
        raise low.refusal(f"{low.told(low.step)} is indexed by {item!r}")
    if isinstance(size, Size):
        raise low.refusal(f"{low.told(low.step)} takes one member of the batch; a Keras model treats all alike")
    return item


def _gathered(low: Lowering, sym: Sym, index: tuple[Any, ...]) -> Sym:
    """Rows by number: `x[torch.arange(batch), lengths - 1]`, `x[:, [0, 2]]`."""
    if any(item is None for item in index):
        raise low.refusal(f"{low.told(low.step)} is indexed by tensors and by None at once")
    tensors = [i for i, item in enumerate(index) if not isinstance(item, slice | int)]
    rest = [item for i, item in enumerate(index) if i not in tensors]
    if isinstance(index[0], BatchIndex) and len(index) > 1 and isinstance(index[1], Sym) and tensors == [0, 1]:
        if any(item != EVERYTHING for item in rest) or sym.seen[0] != BATCH or index[1].rank != 1:
            raise low.refusal(f"{low.told(low.step)}: an index of this kind")
        places = low.emit("ops.reshape", index[1].tensor, (-1, *(1 for _ in index[1:])))
        taken = low.emit("ops.take_along_axis", low.plain(sym), places, axis=1)
        return low.result(low.emit("ops.squeeze", taken, axis=1))
    if len(tensors) == 1 and all(item == EVERYTHING for item in rest):
        item = index[tensors[0]]
        axis = tensors[0]
        dtype = item.array.dtype.kind if isinstance(item, Fixed) else "i"
        computed = isinstance(item, Sym) and low.program.steps[low.step.values[-1].step].dtypes[0] == "bool"
        if dtype == "b" or computed or sym.seen[axis] == BATCH or isinstance(item, BatchIndex | Parameter):
            raise low.refusal(f"{low.told(low.step)}: what is taken is decided by values, or is of the batch")
        if isinstance(item, list | Fixed):
            numbers = item if isinstance(item, list) else item.array.tolist()
            given: Any = low.literal(np.asarray(numbers) % sym.seen[axis])
        else:
            given = low.plain(item)
        return low.result(low.emit("ops.take", low.plain(sym), given, axis=axis))
    raise low.refusal(f"{low.told(low.step)}: an index of this kind")


@function("gather")
def _gather(low: Lowering, x: Held, dim: int, index: Held, **_: Any) -> Held:
    sym = low.sym(x)
    other = low.sym(index)
    if any(a != b and i != dim % sym.rank for i, (a, b) in enumerate(zip(sym.seen, other.seen, strict=True))):
        raise low.refusal(f"{low.told(low.step)} gathers from a part of the other dimensions")
    taken = low.emit("ops.take_along_axis", low.plain(sym), low.plain(other), axis=dim % sym.rank)
    return low.result(taken)


@function("index_select")
def _index_select(low: Lowering, x: Held, dim: int, index: Held) -> Held:
    return _gathered(low, low.sym(x), (*(EVERYTHING for _ in range(dim % low.step_rank(x))), index))


@function("__setitem__", "copy_")
def _set(low: Lowering, x: Held, index: Any, value: Any) -> Held:
    """`x[:, t] = value`."""
    sym = low.sym(x)
    whole = _whole(index if isinstance(index, tuple) else (index,), sym.rank)
    starts: list[int] = []
    for item, size in zip(whole, sym.seen, strict=True):
        if isinstance(item, int) and not isinstance(item, bool) and isinstance(size, int):
            starts.append(item % size)
        elif isinstance(item, slice) and item.step in (None, 1) and (isinstance(size, int) or item == EVERYTHING):
            starts.append(0 if isinstance(size, Size) else item.indices(size)[0])
        else:
            raise low.refusal(f"{low.told(low.step)} is set at {item!r}")
    part = low.sym(value) if not isinstance(value, int | float) else None
    if part is None:
        raise low.refusal(f"{low.told(low.step)} is set to a number")
    for place, item in enumerate(whole):
        if isinstance(item, int):
            part = expanded(low, part, place)
    return low.result(low.emit("ops.slice_update", low.plain(sym), tuple(starts), low.plain(part)))
