"""Another tensor of the step in the place of an input: a value made earlier or later, in the same loop or beside it."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_leaves

from compare.explain.source import Source, returned_by, source_of
from compare.explain.torch_observer.programs import Context, Program, nth, with_tensor
from compare.explain.torch_observer.recorder import FUSED, Argument, Operation, Recorder

MOST = 30


def propose(context: Context) -> Iterator[Program]:
    """Outputs of a call exchanged, another tensor as an input, a loop's value of this round or of the one before."""
    yield from _outputs(context)
    yield from _earlier(context)
    yield from _rounds(context)


def _outputs(context: Context) -> Iterator[Program]:
    operation = context.operation
    outputs = operation.outputs
    for first in range(len(outputs)):
        for second in range(first + 1, len(outputs)):
            if outputs[first].shape != outputs[second].shape or outputs[first].dtype != outputs[second].dtype:
                continue

            def exchanged(
                recorder: Recorder, o: Operation, args: Any, options: Any, result: Any, a: int = first, b: int = second
            ) -> Any:
                return tuple(result[b] if i == a else result[a] if i == b else part for i, part in enumerate(result))

            word = "h for c" if operation.name == "lstm" else f"outputs {first} and {second} exchanged"
            yield context.put("state-choice", word, exchanged)


def _earlier(context: Context) -> Iterator[Program]:
    operation, seen = context.operation, 0
    if operation.name.endswith("norm"):
        return
    places = [j for j, v in enumerate(context.tensors) if v.dtype.is_floating_point and not _parameter(v)][:3]
    for place in places:
        argument = context.tensors[place]
        for other in reversed(context.operations[: operation.number]):
            for output, value in enumerate(other.outputs):
                hit = context.aligned.get((other.number, output))
                if seen > MOST or value.size != int(np.prod(argument.shape)) or value.dtype.kind != "f":
                    continue
                if (other.number, output) == argument.key or hit is None or hit.kind not in ("whole", "padded"):
                    continue
                seen += 1
                text = context.texts[place] if len(context.texts) > place else f"input {place}"
                where = source_of(other.site) if other.site else None
                line = where.line if where else "?"
                code = f"{where.expression if where else other.name}, of line {line}, in place of {text}"
                returned = _returned(context, argument.key, other)
                cause = (
                    "state-choice"
                    if returned is not None
                    else "initial-state"
                    if operation.name in FUSED and place in (1, 2)
                    else "state-choice"
                    if _state(context, place)
                    else "forward-code"
                )
                patch = _Other(place, (other.number, output))
                yield Program(cause, code, {operation.number: patch}, 3, operation=operation, source=returned)


def _parameter(value: Argument) -> bool:
    return isinstance(value.key[0], str) and not value.key[0].startswith(("x", "y"))


def _state(context: Context, place: int) -> bool:
    """Whether an input is a final state of a recurrent kernel."""
    key: Any = context.tensors[place].key
    maker = context.maker(key)
    while maker is not None and maker.name in ("__getitem__", "select", "squeeze", "reshape", "view") and maker.inputs:
        key = maker.inputs[0]
        maker = context.maker(key)
    return maker is not None and maker.name in FUSED and key[1] > 0


def _returned(context: Context, key: Any, other: Operation) -> Source | None:
    """What the function returns that makes a value, where the other is made in it too, and not where it is used."""
    maker, mine = context.maker(key), context.operation.site
    if maker is None or maker.site is None or other.site is None or mine is None:
        return None
    apart = maker.site[0] is other.site[0] and mine[0] is not maker.site[0]
    return returned_by(maker.site[0]) if apart else None


class _Other:
    """Takes another tensor of the same run."""

    def __init__(self, place: int, key: Any) -> None:
        self.place, self.key = place, key

    def __call__(self, recorder: Recorder, operation: Operation, args: Any, options: Any, result: Any) -> Any:
        new = recorder.live[self.key].reshape(nth(args, options, self.place).shape)
        changed, more = with_tensor(args, options, self.place, new)
        return operation.function(*changed, **more)


def _rounds(context: Context) -> Iterator[Program]:
    """In a loop: what another line makes in this round or the round before; by value where it comes later."""
    operation = context.operation
    mine = [o for o in context.operations if operation.site is not None and o.place == operation.place]
    if len(mine) < 2:
        return
    others: dict[Any, list[Operation]] = {}
    for other in context.operations:
        if other.site is not None and other.place != operation.place:
            others.setdefault(other.place, []).append(other)
    for place, argument in enumerate(context.tensors[:3]):
        if not argument.dtype.is_floating_point or _parameter(argument):
            continue
        for rounds in others.values():
            value = rounds[0].outputs[0]
            if (
                len(rounds) != len(mine)
                or value.size != int(np.prod(argument.shape))
                or not context.aligned.get((rounds[0].number, 0))
            ):
                continue
            where = source_of(rounds[0].site)
            text = context.texts[place] if len(context.texts) > place else f"input {place}"
            for shift in (0, -1):
                if shift == 0 and rounds[0].number > operation.number:
                    patch: Any = _Series(place, [torch.from_numpy(o.outputs[0]) for o in rounds])
                    when = f"of the same round, which is computed after it (line {where.line})"
                    yield Program(
                        "forward-code",
                        f"{where.expression} {when}, in place of {text}",
                        {operation.place: patch},
                        4,
                        True,
                        operation,
                    )
                else:
                    patch = _Round(place, [o.number for o in mine], [o.number for o in rounds], shift)
                    when = "of the same round" if shift == 0 else "of the round before"
                    yield Program(
                        "forward-code",
                        f"{where.expression} {when} (line {where.line}), in place of {text}",
                        {operation.place: patch},
                        4,
                        operation=operation,
                    )


class _Round:
    """Takes what another line made in this round or the one before."""

    def __init__(self, place: int, mine: list[int], others: list[int], shift: int) -> None:
        self.place, self.mine, self.others, self.shift = place, mine, others, shift

    def __call__(self, recorder: Recorder, operation: Operation, args: Any, options: Any, result: Any) -> Any:
        turn = self.mine.index(operation.number) + self.shift if operation.number in self.mine else -1
        if turn < 0:
            return result
        new = recorder.live[self.others[turn], 0].reshape(nth(args, options, self.place).shape)
        changed, more = with_tensor(args, options, self.place, new)
        return operation.function(*changed, **more)


class _Series:
    """Takes one value after the other; gradients go on as if they were the user's."""

    by_value = True

    def __init__(self, place: int, values: list[torch.Tensor]) -> None:
        self.place, self.values, self.turn = place, values, 0

    def restart(self) -> None:
        """Begin with the first value again."""
        self.turn = 0

    def __call__(self, recorder: Recorder, operation: Operation, args: Any, options: Any, result: Any) -> Any:
        if self.turn >= len(self.values):
            return result
        old = nth(args, options, self.place)
        new = old + (self.values[self.turn].reshape(old.shape) - old).detach()
        self.turn += 1
        changed, more = with_tensor(args, options, self.place, new)
        return operation.function(*changed, **more)


__all__ = ["propose", "tree_leaves"]
