"""What may have been meant where numbers are put in another shape or order, chosen, reduced or joined."""

from collections.abc import Iterator
from itertools import islice, permutations
from typing import Any

import numpy as np
import torch

from compare.explain.source import operands, source_of
from compare.explain.torch_observer.programs import (
    INDEXING,
    REDUCTIONS,
    RESHAPES,
    TIME_AXES,
    Context,
    Program,
    nth,
    simple,
)
from compare.explain.torch_observer.recorder import FUSED, Argument, Operation, Patch, Recorder

WITH_AXIS = (*REDUCTIONS, "softmax", "log_softmax", "cat", "concat", "stack", "flip", "cumsum", "norm")
# Orders of parts that are tried: all of four, the first of more (a loop over timesteps joins dozens).
MOST_ORDERS = 24
JOINING = ("cat", "concat", "concatenate", "stack", "add", "__add__", "hstack")


def propose(context: Context) -> Iterator[Program]:
    """Other axes, indices and orders."""
    name = context.operation.name
    if name in RESHAPES:
        yield from _reshapes(context)
    if name in INDEXING:
        yield from _indices(context)
    if name in WITH_AXIS:
        yield from _axes(context)
    if name in JOINING:
        yield from _joined(context)


def _reshapes(context: Context) -> Iterator[Program]:
    before, shape = context.tensors[0].shape, context.operation.outputs[0].shape
    if len(before) > 4 or int(np.prod(before)) != int(np.prod(shape)):
        return
    for turn in permutations(range(len(before))):
        inner = tuple(before[i] for i in turn)
        plain = turn == tuple(range(len(before)))
        permuted = context.text if plain else f"{context.text}.permute{turn}"
        code = permuted if inner == tuple(shape) else f"{permuted}.reshape{tuple(shape)}"
        yield context.put("axis-order", code, simple(lambda o, a, k, r, p=turn: a[0].permute(p).reshape(r.shape)))
    if 2 < len(shape) <= 4:
        for turn in permutations(range(len(shape))):
            inner = tuple(shape[i] for i in turn)
            back = tuple(sorted(range(len(turn)), key=turn.__getitem__))
            if turn != tuple(range(len(turn))):
                yield context.put(
                    "axis-order",
                    f"{context.text}.reshape{inner}.permute{back}",
                    simple(lambda o, a, k, r, i=inner, b=back: a[0].reshape(i).permute(b)),
                    cost=2,
                )


def _selection_cause(context: Context, index: Any) -> str:
    """What a choice from a tensor is called, by where the tensor comes from."""
    key = context.tensors[0].key
    parts = index if isinstance(index, tuple) else (index,)
    if any(isinstance(part, Argument) for part in parts) and (key[0] is None or str(key[0])[:1] in "xy"):
        return "batch-order"
    if key[0] == "x" or str(key[0]).startswith("x["):
        return "window-offset"
    if str(key[0]).startswith("y"):
        return "target-shift"
    maker = context.maker(key)
    passing = (*RESHAPES, *INDEXING, "_pad_packed_sequence", "index_select")
    while maker is not None and maker.name in passing and maker.inputs:
        key, maker = maker.inputs[0], context.maker(maker.inputs[0])
    if maker is not None and maker.name in FUSED:
        packed = isinstance(maker.arguments[1], Argument) and not maker.arguments[1].dtype.is_floating_point
        two = bool(maker.arguments[8 if packed else 7])
        if key[1] == 0:
            return "backward-last-state" if two else "last-step"
        return "selection"
    return "last-step" if len(context.tensors[0].shape) == TIME_AXES else "selection"


def _indices(context: Context) -> Iterator[Program]:
    operation = context.operation
    source = context.tensors[0]
    index = operation.arguments[1] if len(operation.arguments) > 1 else None
    cause = _selection_cause(context, index)
    if operation.name == "__getitem__":
        code = context.text
        yield context.put(cause, code, simple(lambda o, a, k, r: a[0]))
        for word, new in (
            ("[:, -1]", (slice(None), -1)),
            ("[-1]", -1),
            ("[:, 0]", (slice(None), 0)),
            ("[0]", 0),
            ("[-2]", -2),
            ("[:, -2]", (slice(None), -2)),
            ("[1]", 1),
        ):
            if new != index and not (isinstance(new, tuple) and len(source.shape) < 2):
                yield context.put(cause, f"{code}{word}", simple(lambda o, a, k, r, n=new: a[0][n].reshape(r.shape)))
        yield from _moved_slices(context, index, cause)
        yield from _rest_of_slices(context, index)
        for axis in range(1, len(source.shape)):
            half = source.shape[axis] // 2
            if isinstance(index, tuple) and source.shape[axis] == 2 * half and half == operation.outputs[0].shape[-1]:
                for word, part in ((f"[..., :{half}]", slice(0, half)), (f"[..., {half}:]", slice(half, None))):
                    yield context.put(
                        "selection",
                        f"{code}{word}",
                        simple(lambda o, a, k, r, p=part: a[0][..., p].reshape(r.shape)),
                        cost=2,
                    )
    if len(source.shape) == TIME_AXES and source.dtype.is_floating_point:
        yield context.put(
            cause,
            f"{context.text}[torch.arange(len({context.text})), lengths - 1]",
            simple(
                lambda o, a, k, r: a[0][torch.arange(len(a[0])), (rows_used(a[0]) - 1).clamp(min=0)].reshape(r.shape)
            ),
            cost=2,
        )
        half = source.shape[-1] // 2
        if source.shape[-1] % 2 == 0:
            for word, order in (
                ("torch.cat([{0}[:, -1, :{1}], {0}[:, 0, {1}:]], -1)", False),
                ("torch.cat([{0}[:, 0, {1}:], {0}[:, -1, :{1}]], -1)", True),
            ):
                yield context.put(
                    "backward-last-state",
                    word.format(context.text, half),
                    simple(lambda o, a, k, r, h=half, s=order: _ends(a[0], h, s).reshape(r.shape)),
                    cost=2,
                )


def _ends(sequence: torch.Tensor, half: int, swapped: bool) -> torch.Tensor:
    parts = [sequence[:, -1, :half], sequence[:, 0, half:]]
    return torch.cat(parts[::-1] if swapped else parts, -1)


def rows_used(sequence: torch.Tensor) -> torch.Tensor:
    """Of (batch, time, features) with zeros behind: the number of timesteps that count."""
    return sequence.shape[1] - (sequence != 0).any(-1).flip(1).int().argmax(1)


def _moved_slices(context: Context, index: Any, cause: str) -> Iterator[Program]:
    parts = index if isinstance(index, tuple) else (index,)
    shape = context.tensors[0].shape
    length = next((context.operation.outputs[0].shape[i] for i, p in enumerate(parts) if p != slice(None)), 0)
    others = [o for o in context.operations if o.name == "__getitem__" and o.inputs[:1] == context.operation.inputs[:1]]
    for distance in dict.fromkeys((-1, 1, -2, 2, length, -length)):
        if len(others) > 1 and abs(distance) == length:
            cause = "selection"  # another part of what is taken in parts
        moved: list[Any] = []
        for part, size in zip(parts, shape, strict=False):
            if isinstance(part, slice) and (part.start or part.stop) and part.step in (None, 1):
                start, stop, _ = part.indices(size)
                if start + distance < 0 or stop + distance > size:
                    break
                moved.append(slice(start + distance, stop + distance))
            elif isinstance(part, int) and not isinstance(part, bool) and -size <= part + distance < size:
                moved.append(part + distance)
            else:
                moved.append(part)
        else:
            if tuple(moved) != tuple(parts):
                code = ", ".join(
                    ":" if p == slice(None) else f"{p.start}:{p.stop}" if isinstance(p, slice) else repr(p)
                    for p in moved
                )
                yield context.put(
                    cause, f"{context.text}[{code}]", simple(lambda o, a, k, r, m=tuple(moved): a[0][m]), cost=2
                )


def _rest_of_slices(context: Context, index: Any) -> Iterator[Program]:
    """What stands before or behind a slice, where several are taken from one tensor."""
    parts = index if isinstance(index, tuple) else (index,)
    alike = [o for o in context.operations if o.name == "__getitem__" and o.inputs[:1] == context.operation.inputs[:1]]
    for place, part in enumerate(parts if len(alike) > 1 else ()):
        if not isinstance(part, slice) or part.step not in (None, 1):
            continue
        for rest in (slice(part.stop, None), slice(None, part.start)):
            if rest == slice(None):
                continue
            other = (*parts[:place], rest, *parts[place + 1 :])
            code = f"{context.text}[{':, ' * place}{'' if rest.start is None else rest.start}:{rest.stop or ''}]"
            yield context.put("selection", code, simple(lambda o, a, k, r, m=other: a[0][m]), cost=2)


def _axes(context: Context) -> Iterator[Program]:
    operation, rank = context.operation, len(context.tensors[0].shape)
    name = operation.name

    def other(axis: int) -> Patch:
        def run(o: Operation, args: Any, options: Any, result: Any) -> Any:
            key = "dim" if "dim" in options or "axis" not in options else "axis"
            if key in options:
                return o.function(*args, **{**options, key: axis})
            return o.function(args[0], axis, *args[2:], **options)

        return simple(run)

    if operation.outputs[0].size == 1 and name in REDUCTIONS:
        for word in ("mean", "sum"):
            code = f"loss.{word}() instead of loss.{name}()"
            yield context.put("loss-reduction", code, simple(lambda o, a, k, r, w=word: getattr(a[0], w)()), cost=0)
    for axis in range(rank):
        yield context.put("reduction-axis", f"the same with dim={axis}", other(axis))
        if name in REDUCTIONS:
            for word, function in (("amax", torch.amax), ("mean", torch.mean), ("sum", torch.sum)):
                patch = simple(lambda o, a, k, r, d=axis, f=function: _as_result(f(a[0], d), r))
                yield context.put("reduction-axis", f"{context.text}.{word}({axis})", patch, cost=2)
    if name in REDUCTIONS and rank == TIME_AXES:
        for word, index in (("[:, -1]", (slice(None), -1)), ("[:, 0]", (slice(None), 0)), ("[-1]", -1)):
            patch = simple(lambda o, a, k, r, i=index: _as_result(a[0][i], r))
            yield context.put("last-step", f"{context.text}{word}", patch, cost=1)
        half = context.tensors[0].shape[-1] // 2
        yield context.put(
            "backward-last-state",
            f"torch.cat([{context.text}[:, -1, :{half}], {context.text}[:, 0, {half}:]], -1)",
            simple(lambda o, a, k, r, h=half: _as_result(_ends(a[0], h, False), r)),
            cost=2,
        )


def _as_result(value: torch.Tensor, result: Any) -> Any:
    if torch.is_tensor(result):
        return value.reshape(result.shape) if value.numel() == result.numel() else value
    return (value.reshape(result[0].shape), result[1])


def _joined(context: Context) -> Iterator[Program]:
    operation = context.operation
    makers = [context.maker(key) for key in operation.inputs]
    states = [
        m
        for m in makers
        if m is not None
        and m.name in ("__getitem__", "select")
        and len(m.arguments) > 1
        and isinstance(m.arguments[1], int)
    ]
    same = len(states) == len(makers) > 1 and len({m.inputs[0] for m in states}) == 1
    cause = "bidirectional-merge" if same else "join-order"
    if operation.name in ("cat", "concat", "concatenate", "stack", "hstack"):
        yield context.put(
            cause, "the parts in the other order", simple(lambda o, a, k, r: o.function(list(a[0])[::-1], *a[1:], **k))
        )
        if len(context.tensors) > 2:
            for turn in islice(permutations(range(len(context.tensors))), 1, MOST_ORDERS):
                yield context.put(
                    cause,
                    f"the parts in the order {turn}",
                    simple(lambda o, a, k, r, t=turn: o.function([a[0][i] for i in t], *a[1:], **k)),
                    cost=2,
                )
    if same:
        count = context.maker(operation.inputs[0]).arguments[0].shape[0]  # type: ignore[union-attr]
        text = (operands(source_of(states[0].site).expression) if states[0].site else ["h"])[0]
        source = states[0].inputs[0]
        for distance in range(1, count):
            to = [(m.arguments[1] + distance) % count - count for m in states]
            was = [m.arguments[1] for m in states]

            def moved(recorder: Recorder, o: Operation, args: Any, options: Any, result: Any, to: Any = to) -> Any:
                parts = [recorder.live[source][i] for i in to]
                return (
                    o.function(parts, *args[1:], **options) if isinstance(args[0], list | tuple) else o.function(*parts)
                )

            code = ", ".join(f"{text}[{i}]" for i in to) + " in place of " + ", ".join(f"{text}[{i}]" for i in was)
            yield context.put("selection", code, moved)
    tensors = context.tensors
    if len(tensors) == 2 and tensors[0].shape == tensors[1].shape and all(t.dtype.is_floating_point for t in tensors):
        texts = [*context.texts, "a", "b"][:2]
        for code, function in (
            ("{0} + {1}", lambda a, b: a + b),
            ("({0} + {1}) / 2", lambda a, b: (a + b) / 2),
            ("{0} * {1}", lambda a, b: a * b),
            ("torch.cat([{0}, {1}], -1)", lambda a, b: torch.cat([a, b], -1)),
        ):
            patch = simple(lambda o, a, k, r, f=function: f(nth(a, k, 0), nth(a, k, 1)))
            yield context.put("bidirectional-merge", code.format(*texts), patch, cost=2)
