"""What may have been meant where numbers are computed: another function, scale, operand, or order of operations."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils._pytree import tree_flatten, tree_unflatten

from compare.explain.source import source_of
from compare.explain.torch_observer.programs import (
    INDEXING,
    RESHAPES,
    TIME_AXES,
    Context,
    Program,
    nth,
    repeated,
    simple,
    with_tensor,
)
from compare.explain.torch_observer.recorder import FUSED, Argument, Operation, Patch, Recorder

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
    "torch.sigmoid({0})": torch.sigmoid,
    "torch.tanh({0})": torch.tanh,
    "torch.relu({0})": torch.relu,
    "torch.softmax({0}, dim=-1)": lambda t: torch.softmax(t, -1),
    "torch.log_softmax({0}, dim=-1)": lambda t: torch.log_softmax(t, -1),
    "F.elu({0})": F.elu,
    "F.gelu({0})": F.gelu,
    "F.gelu({0}, approximate='tanh')": lambda t: F.gelu(t, approximate="tanh"),
    "F.silu({0})": F.silu,
    "F.leaky_relu({0}, 0.2)": lambda t: F.leaky_relu(t, 0.2),
    "F.leaky_relu({0}, 0.3)": lambda t: F.leaky_relu(t, 0.3),
    "F.leaky_relu({0}, 0.01)": F.leaky_relu,
    "F.softplus({0})": F.softplus,
    "F.softsign({0})": F.softsign,
    "F.selu({0})": F.selu,
    "F.hardsigmoid({0})": F.hardsigmoid,
    "(0.2 * {0} + 0.5).clamp(0, 1)": lambda t: (0.2 * t + 0.5).clamp(0, 1),
}
ACTIVATION_NAMES = (
    "sigmoid",
    "tanh",
    "relu",
    "elu",
    "gelu",
    "silu",
    "leaky_relu",
    "softplus",
    "hardtanh",
    "selu",
    "softmax",
    "log_softmax",
    "hardsigmoid",
    "softsign",
    "threshold",
    "sigmoid_",
    "tanh_",
    "relu_",
    "relu6",
    "clamp",
    "mish",
    "celu",
    "logsigmoid",
    "prelu",
)


def propose(context: Context) -> Iterator[Program]:
    """Other functions and operands."""
    name = context.operation.name
    if name in ACTIVATION_NAMES:
        for code, function in ACTIVATIONS.items():
            patch = simple(lambda o, a, k, r, f=function: f(a[0]))
            yield context.put("activation", code.format(context.text), patch, cost=2)
    if name in SUMS:
        yield from _arithmetic(context)
    if name in PRODUCTS or name in SUMS:
        yield from _scales(context)
    if name in ("linear", "matmul", "__matmul__", "addmm", *FUSED):
        yield from _activated_inputs(context)
    if name in ("batch_norm", "layer_norm", "group_norm", "instance_norm"):
        yield from _norms(context)
    yield from _exchanged(context)
    yield from _chains(context)
    yield from _changed_inputs(context)


def _activated_inputs(context: Context) -> Iterator[Program]:
    """An activation on what a layer is given, at the line that makes it."""
    maker = context.operation
    while maker.inputs and (before := context.maker(maker.inputs[0])) is not None:
        maker = before
        if maker.name not in RESHAPES:
            break
    alone = maker is not context.operation and maker.name not in RESHAPES and len(maker.outputs) == 1
    for code, function in list(ACTIVATIONS.items())[1:]:
        if alone and maker.site is not None:
            patch = simple(lambda o, a, k, r, f=function: f(r))
            text = code.format(source_of(maker.site).expression)
            yield Program("activation", text, {maker.place: patch}, 3, operation=maker, onward=True)
        else:
            text = code.format(f"{context.text}'s input" if context.operation.name == "linear" else context.text)
            patch = simple(lambda o, a, k, r, f=function: repeated(o, *with_tensor(a, k, 0, f(nth(a, k, 0)))))
            yield context.put("activation", text, patch, cost=3)


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
    if len(context.tensors) == 2 and len(context.texts) == 2:
        for sign, function in (("+", torch.add), ("-", torch.sub), ("*", torch.mul)):
            if function.__name__ in operation.name:
                continue
            code = f"{context.texts[0]} {sign} {context.texts[1]}"
            yield context.put("forward-code", code, simple(lambda o, a, k, r, f=function: f(a[0], a[1])), cost=0)
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
            "axis-order",
            f"{context.expression.replace(context.text, context.text + '.permute(0, 2, 1)', 1)}.permute(0, 2, 1)",
            simple(lambda o, a, k, r: o.function(a[0].permute(0, 2, 1), *a[1:], **k).permute(0, 2, 1)),
        )
    epsilons = {float(layer["epsilon"]) for layer in context.keras["layers"] if "epsilon" in layer}
    for epsilon in sorted(epsilons | {1e-3, 1e-5, 1e-6}):

        def run(o: Operation, args: Any, options: Any, result: Any, e: float = epsilon) -> Any:
            if "eps" in options:
                return o.function(*args, **{**options, "eps": e})
            places = [i for i, a in enumerate(args) if isinstance(a, float) and 0 < a <= 1e-2]
            return o.function(*[e if places and i == places[-1] else a for i, a in enumerate(args)], **options)

        module = "nn.LayerNorm" if name == "layer_norm" else "nn.BatchNorm1d"
        yield context.put("normalization-epsilon", f"{module}(…, eps={epsilon:g})", simple(run))
    if name == "batch_norm" and False in operation.arguments:
        yield context.put(
            "train-eval-mode",
            "module.train()  # before every training step",
            simple(
                lambda o, a, k, r: o.function(*[True if v is False and i == 5 else v for i, v in enumerate(a)], **k)
            ),
        )


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
