"""Small programs that a user may have meant at one operation: each a differentiable function, with the code to write."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from compare.explain.source import operands, source_of
from compare.explain.torch_observer.recorder import FUSED, Argument, Operation, Patch, Recorder

REDUCTIONS = ("mean", "sum", "max", "min", "amax", "amin", "logsumexp", "std", "var", "median")
WITH_AXIS = (*REDUCTIONS, "softmax", "log_softmax", "cat", "concat", "stack", "flip", "cumsum", "norm")
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
SUMS = (
    "add",
    "__add__",
    "__radd__",
    "sub",
    "__sub__",
    "__rsub__",
    "rsub",
    "mul",
    "__mul__",
    "__rmul__",
    "div",
    "__truediv__",
    "add_",
    "mul_",
)
PRODUCTS = ("matmul", "bmm", "__matmul__", "sum", "mean", "einsum", "linear")
ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "{0}": lambda t: t,
    "torch.sigmoid({0})": torch.sigmoid, "torch.tanh({0})": torch.tanh, "torch.relu({0})": torch.relu,
    "torch.softmax({0}, dim=-1)": lambda t: torch.softmax(t, -1), "torch.log_softmax({0}, dim=-1)": lambda t: torch.log_softmax(t, -1),
    "F.elu({0})": F.elu, "F.gelu({0})": F.gelu, "F.gelu({0}, approximate='tanh')": lambda t: F.gelu(t, approximate="tanh"),
    "F.silu({0})": F.silu, "F.leaky_relu({0}, 0.2)": lambda t: F.leaky_relu(t, 0.2),
    "F.leaky_relu({0}, 0.3)": lambda t: F.leaky_relu(t, 0.3), "F.leaky_relu({0}, 0.01)": F.leaky_relu,
    "F.softplus({0})": F.softplus, "F.softsign({0})": F.softsign, "F.selu({0})": F.selu,
    "F.hardsigmoid({0})": F.hardsigmoid, "(0.2 * {0} + 0.5).clamp(0, 1)": lambda t: (0.2 * t + 0.5).clamp(0, 1),
}  # fmt: skip
ACTIVATION_NAMES = (
    "sigmoid", "tanh", "relu", "elu", "gelu", "silu", "leaky_relu", "softplus", "hardtanh", "selu", "softmax",
    "log_softmax", "hardsigmoid", "softsign", "threshold", "sigmoid_", "tanh_", "relu_", "relu6", "clamp", "mish", "celu", "logsigmoid", "prelu",
)  # fmt: skip
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


@dataclass(frozen=True)
class Context:
    """What programs are made from: the operation, all of them, and which values lie where among Keras's."""

    operation: Operation
    operations: Sequence[Operation]
    aligned: Mapping[Any, Any]
    training: Any
    step: int
    penalty: float
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
        words = [w for w in self.texts if not w.replace(".", "").replace("-", "").isdigit()]
        return words[0] if words else "x"

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


def simple(function: Callable[[Any, Any, Any, Any], Any]) -> Patch:
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


def propose(context: Context) -> Iterator[Program]:
    """Everything that may have been meant at an operation that is no fused kernel."""
    name = context.operation.name
    if name in RESHAPES:
        yield from _reshapes(context)
    if name in INDEXING:
        yield from _indices(context)
    if name in WITH_AXIS:
        yield from _axes(context)
    if name in ("cat", "concat", "concatenate", "stack", "add", "__add__", "hstack"):
        yield from _joined(context)
    if name in ACTIVATION_NAMES:
        for code, function in ACTIVATIONS.items():
            yield context.put(
                "activation", code.format(context.text), simple(lambda o, a, k, r, f=function: f(a[0])), cost=2
            )
    if name in SUMS:
        yield from _arithmetic(context)
    if name in PRODUCTS or name in SUMS:
        yield from _scales(context)
    if name in ("linear", "matmul", "__matmul__", "addmm", *FUSED):
        for code, function in list(ACTIVATIONS.items())[1:]:
            patch = simple(lambda o, a, k, r, f=function: repeated(o, *with_tensor(a, k, 0, f(nth(a, k, 0)))))
            yield context.put(
                "activation",
                code.format(f"{context.text}'s input" if name == "linear" else context.text),
                patch,
                cost=3,
            )
    if name in ("batch_norm", "layer_norm", "group_norm", "instance_norm"):
        yield from _norms(context)
    yield from _exchanged(context)
    yield from _chains(context)
    yield from _changed_inputs(context)


def _reshapes(context: Context) -> Iterator[Program]:
    given, shape = context.tensors[0].shape, context.operation.outputs[0].shape
    if len(given) > 4 or int(np.prod(given)) != int(np.prod(shape)):
        return
    for turn in permutations(range(len(given))):
        inner = tuple(given[i] for i in turn)
        plain = turn == tuple(range(len(given)))
        permuted = context.text if plain else f"{context.text}.permute{turn}"
        code = permuted if inner == tuple(shape) else f"{permuted}.reshape{tuple(shape)}"
        yield context.put("axis-order", code, simple(lambda o, a, k, r, p=turn: a[0].permute(p).reshape(r.shape)))
    if 2 < len(shape) <= 4:
        for turn in permutations(range(len(shape))):
            inner = tuple(shape[i] for i in turn)
            back = tuple(sorted(range(len(turn)), key=turn.__getitem__))
            if turn != tuple(range(len(turn))):
                yield context.put(
                    "axis-order", f"{context.text}.reshape{inner}.permute{back}",
                    simple(lambda o, a, k, r, i=inner, b=back: a[0].reshape(i).permute(b)), cost=2,
                )  # fmt: skip


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
    while maker is not None and maker.name in (*RESHAPES, "_pad_packed_sequence", "index_select") and maker.inputs:
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
    given = context.tensors[0]
    index = operation.arguments[1] if len(operation.arguments) > 1 else None
    cause = _selection_cause(context, index)
    if operation.name == "__getitem__":
        code = context.text
        yield context.put(cause, code, simple(lambda o, a, k, r: a[0]))
        for word, new in (
            ("[:, -1]", (slice(None), -1)), ("[-1]", -1), ("[:, 0]", (slice(None), 0)), ("[0]", 0), ("[-2]", -2),
            ("[:, -2]", (slice(None), -2)), ("[1]", 1),
        ):  # fmt: skip
            if new != index and not (isinstance(new, tuple) and len(given.shape) < 2):
                yield context.put(cause, f"{code}{word}", simple(lambda o, a, k, r, n=new: a[0][n].reshape(r.shape)))
        yield from _moved_slices(context, index, cause)
        for axis in range(1, len(given.shape)):
            half = given.shape[axis] // 2
            if isinstance(index, tuple) and given.shape[axis] == 2 * half and half == operation.outputs[0].shape[-1]:
                for word, part in ((f"[..., :{half}]", slice(0, half)), (f"[..., {half}:]", slice(half, None))):
                    yield context.put(
                        "selection",
                        f"{code}{word}",
                        simple(lambda o, a, k, r, p=part: a[0][..., p].reshape(r.shape)),
                        cost=2,
                    )
    if len(given.shape) == TIME_AXES and given.dtype.is_floating_point:
        yield context.put(
            cause, f"{context.text}[torch.arange(len({context.text})), lengths - 1]",
            simple(lambda o, a, k, r: a[0][torch.arange(len(a[0])), (rows_used(a[0]) - 1).clamp(min=0)].reshape(r.shape)), cost=2,
        )  # fmt: skip
        half = given.shape[-1] // 2
        if given.shape[-1] % 2 == 0:
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
    given = context.tensors[0].shape
    for distance in (-1, 1, -2, 2):
        moved: list[Any] = []
        for part, length in zip(parts, given, strict=False):
            if isinstance(part, slice) and (part.start or part.stop) and part.step in (None, 1):
                start, stop, _ = part.indices(length)
                if start + distance < 0 or stop + distance > length:
                    break
                moved.append(slice(start + distance, stop + distance))
            elif isinstance(part, int) and not isinstance(part, bool) and -length <= part + distance < length:
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
            for turn in list(permutations(range(len(context.tensors))))[1:24]:
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
        words = [*context.texts, "a", "b"][:2]
        for code, function in (
            ("{0} + {1}", lambda a, b: a + b), ("({0} + {1}) / 2", lambda a, b: (a + b) / 2), ("{0} * {1}", lambda a, b: a * b),
            ("torch.cat([{0}, {1}], -1)", lambda a, b: torch.cat([a, b], -1)),
        ):  # fmt: skip
            patch = simple(lambda o, a, k, r, f=function: f(nth(a, k, 0), nth(a, k, 1)))
            yield context.put("bidirectional-merge", code.format(*words), patch, cost=2)


def _arithmetic(context: Context) -> Iterator[Program]:
    operation, shape = context.operation, context.operation.outputs[0].shape
    for place, value in enumerate(operation.arguments[:2]):
        if isinstance(value, Argument) and tuple(value.shape) == tuple(shape):
            text = context.texts[place] if len(context.texts) > place else "the tensor"
            key = str(value.key[0])
            cause = "target-shift" if key.startswith("y") else "scaling" if key.startswith("x") else "forward-code"
            yield context.put(cause, text, simple(lambda o, a, k, r, j=place: a[j]))
    for place, _ in enumerate(context.tensors[:2]):
        text = context.texts[place] if len(context.texts) > place else f"operand {place}"
        patch = simple(lambda o, a, k, r, j=place: repeated(o, *with_tensor(a, k, j, 1 - nth(a, k, j))))
        yield context.put("forward-code", f"1 - {text} in place of {text}", patch)
    if operation.name in ("sub", "__sub__", "__rsub__", "rsub", "div", "__truediv__") and len(context.tensors) == 2:
        yield context.put("forward-code", "the operands exchanged", simple(lambda o, a, k, r: o.function(a[1], a[0])))


def _scales(context: Context) -> Iterator[Program]:
    if context.operation.outputs[0].size <= 1:
        return
    shape = context.tensors[0].shape
    factors = {"0.5": 0.5, "2": 2.0}
    for length in shape[1:]:
        factors |= {
            f"{length} ** -0.5": length**-0.5,
            f"{length} ** 0.5": length**0.5,
            f"(1 / {length})": 1 / length,
            f"{length}": float(length),
        }
    for word, factor in factors.items():
        yield context.put(
            "forward-code", f"({context.expression}) * {word}", simple(lambda o, a, k, r, f=factor: r * f), cost=3
        )


def _norms(context: Context) -> Iterator[Program]:
    operation, name = context.operation, context.operation.name
    if len(context.tensors[0].shape) == TIME_AXES:
        yield context.put(
            "axis-order", f"{context.expression.replace(context.text, context.text + '.permute(0, 2, 1)', 1)}.permute(0, 2, 1)",
            simple(lambda o, a, k, r: o.function(a[0].permute(0, 2, 1), *a[1:], **k).permute(0, 2, 1)),
        )  # fmt: skip
    epsilons = {float(layer["epsilon"]) for layer in context.keras["layers"] if "epsilon" in layer}
    for epsilon in sorted(epsilons | {1e-3, 1e-5, 1e-6}):

        def run(o: Operation, args: Any, options: Any, result: Any, e: float = epsilon) -> Any:
            if "eps" in options:
                return o.function(*args, **{**options, "eps": e})
            places = [i for i, a in enumerate(args) if isinstance(a, float) and 0 < a <= 1e-2]
            return o.function(*[e if places and i == places[-1] else a for i, a in enumerate(args)], **options)

        made = "nn.LayerNorm" if name == "layer_norm" else "nn.BatchNorm1d"
        yield context.put("normalization-epsilon", f"{made}(…, eps={epsilon:g})", simple(run))
    if name == "batch_norm" and False in operation.arguments:
        yield context.put(
            "train-eval-mode", "module.train()  # before every training step",
            simple(lambda o, a, k, r: o.function(*[True if v is False and i == 5 else v for i, v in enumerate(a)], **k)),
        )  # fmt: skip


def _chains(context: Context) -> Iterator[Program]:
    """One activation in place of all that is done to a tensor alone, from this operation on."""
    operation, operations = context.operation, context.operations
    if (
        not context.tensors
        or len(operation.outputs) != 1
        or not operation.inputs
        or not context.tensors[0].dtype.is_floating_point
    ):
        return
    shape, end, length = operation.outputs[0].shape, operation, 0
    if tuple(context.tensors[0].shape) != tuple(shape):
        return
    while length < 8:
        users = [o for o in operations[end.number + 1 :] if (end.number, 0) in o.inputs]
        if len(users) != 1 or users[0].outputs[0].shape != shape or len(set(users[0].inputs)) != 1:
            break
        end, length = users[0], length + 1
    source = operation.inputs[0]
    if length:
        for code, function in ACTIVATIONS.items():

            def chain(recorder: Recorder, o: Operation, args: Any, options: Any, result: Any, f: Any = function) -> Any:
                return f(recorder.live[source]).reshape(result.shape)

            cause = (
                {"x": "scaling", "y": "target-shift"}.get(str(source[0])[:1], "activation")
                if code == "{0}"
                else "activation"
            )
            yield Program(cause, code.format(context.text), {end.number: chain}, 2, operation=operation, onward=True)


def _exchanged(context: Context) -> Iterator[Program]:
    """The operation and the one that alone takes what it makes, in the other order."""
    first = context.operation
    users = [o for o in context.operations[first.number + 1 :] if (first.number, 0) in o.inputs]
    if len(users) != 1 or not context.tensors or users[0].name in INDEXING or first.name in (*INDEXING, *RESHAPES):
        return
    second = users[0]
    if (
        not first.inputs
        or not second.inputs
        or first.outputs[0].shape != second.outputs[0].shape
        or second.inputs[0] != (first.number, 0)
    ):
        return

    def instead(other: Operation) -> Patch:
        def run(recorder: Recorder, o: Operation, args: Any, options: Any, result: Any) -> Any:
            leaves, spec = tree_flatten((other.arguments, other.options))
            live = [recorder.live[v.key] if isinstance(v, Argument) and v.key in recorder.live else v for v in leaves]
            place = next(i for i, v in enumerate(leaves) if isinstance(v, Argument))
            live[place] = nth(args, options, 0)
            changed, more = tree_unflatten(live, spec)
            return other.function(*changed, **more)

        return run

    names = [o.where[0] if o.where and o.where[0] else o.name for o in (first, second)]
    yield Program(
        "layer-order",
        f"in forward(): {names[1]} before {names[0]}",
        {first.place: instead(second), second.place: instead(first)},
        0,
        operation=first,
        onward=True,
    )


def _changed_inputs(context: Context) -> Iterator[Program]:
    """One input flipped, turned, shifted or with its halves exchanged."""
    for place, value in enumerate(context.tensors[:2]):
        if not value.dtype.is_floating_point or not (isinstance(value.key[0], int) or str(value.key[0])[:1] in "xy"):
            continue
        text = context.texts[place] if len(context.texts) > place else "the input"
        ways: list[tuple[str, Any]] = []
        rank, size = len(value.shape), value.shape[-1] if value.shape else 0
        if rank >= TIME_AXES:
            ways += [("{0}.flip(1)", lambda t: t.flip(1)), ("{0}.flip(0)", lambda t: t.flip(0))]
            ways.append(("{0} one timestep later", lambda t: torch.cat([torch.zeros_like(t[:, :1]), t[:, :-1]], 1)))
            half = size // 2
            ways.append(
                (
                    "{0} with the second half of its features reversed in time",
                    lambda t, h=half: torch.cat([t[..., :h], t[..., h:].flip(1)], -1),
                )
            )
        if rank >= 2:
            ways.append(("{0}.transpose(0, 1)", lambda t: t.transpose(0, 1)))
            if rank == TIME_AXES:
                ways.append(("{0}.transpose(1, 2)", lambda t: t.transpose(1, 2)))
            if size % 2 == 0:
                ways.append(
                    ("the halves of {0} exchanged", lambda t, h=size // 2: torch.cat([t[..., h:], t[..., :h]], -1))
                )
        for code, function in ways:
            cause = "axis-order" if "transpose" in code else "join-order" if "halves" in code else "forward-code"
            patch = simple(lambda o, a, k, r, j=place, f=function: repeated(o, *with_tensor(a, k, j, f(nth(a, k, j)))))
            yield context.put(cause, code.format(text), patch, cost=2)
