"""Functions of keras.ops as PyTorch expressions."""

from collections.abc import Callable
from typing import Any

from compare.port.graph import Call, Tensor
from compare.port.torch_writer.activations import FUNCTIONAL, OTHERS, activated
from compare.port.torch_writer.code import Module, Refused, literal, without_parentheses

INFIX = {
    "add": "+",
    "subtract": "-",
    "multiply": "*",
    "divide": "/",
    "true_divide": "/",
    "floor_divide": "//",
    "mod": "%",
    "power": "**",
    "matmul": "@",
    "equal": "==",
    "not_equal": "!=",
    "greater": ">",
    "greater_equal": ">=",
    "less": "<",
    "less_equal": "<=",
    "logical_and": "&",
    "logical_or": "|",
}
UNARY_NAMES = """abs exp log log1p expm1 sqrt rsqrt square sin cos tan arcsin arccos arctan sinh cosh sign floor ceil
round negative reciprocal logical_not erf isnan isfinite sigmoid tanh relu"""
UNARY = frozenset(UNARY_NAMES.split())
RENAMED = {"absolute": "abs", "log_softmax": "log_softmax"}
REDUCTIONS = {"mean": "mean", "sum": "sum", "max": "amax", "min": "amin", "any": "any", "all": "all", "prod": "prod"}
PAIRS = {"maximum": "maximum", "minimum": "minimum"}


def operation(module: Module, call: Call) -> None:
    """Write a call of an operation; raises Refused for one that is not known."""
    name = call.kind.removeprefix("ops.")
    if name in INFIX:
        sign = INFIX[name]
        left, right = (_operand(module, part) for part in call.arguments[:2])
        loose = sign in ("+", "-")
        left = without_parentheses(left, "*/@+-" if loose else "*" if sign == "*" else "")
        module.assign(call, f"{left} {sign} {without_parentheses(right, '*/@' if loose else '')}")
    elif name in REDUCTIONS:
        _reduce(module, call, REDUCTIONS[name])
    elif name in HANDLERS:
        HANDLERS[name](module, call)
    elif name in FUNCTIONAL or name in OTHERS:
        if name in ("softmax", "log_softmax"):
            module.file.imports.add("torch")
            axis = call.keywords.get("axis", -1)
            module.assign(call, f"torch.{name}({module.text(call.arguments[0])}, {axis})")
        elif name == "leaky_relu":
            module.file.imports.add("F")
            slope = literal(call.keywords.get("negative_slope", 0.2))
            module.assign(call, f"F.leaky_relu({module.text(call.arguments[0])}, {slope})")
        else:
            module.assign(call, activated(module.file, name, module.text(call.arguments[0])))
    elif RENAMED.get(name, name) in UNARY:
        module.file.imports.add("torch")
        module.assign(call, f"torch.{RENAMED.get(name, name)}({module.text(call.arguments[0])})")
    elif name in PAIRS:
        left, right = (module.text(part) for part in call.arguments[:2])
        module.file.imports.add("torch")
        if not isinstance(call.arguments[1], Tensor):
            bound = "min" if name == "maximum" else "max"
            module.assign(call, f"{left}.clamp({bound}={right})")
        else:
            module.assign(call, f"torch.{name}({left}, {right})")
    else:
        raise Refused(call, f"keras.ops.{name} has no counterpart here", _plain(call))


def _plain(call: Call) -> dict[str, Any]:
    return {name: value for name, value in call.keywords.items() if isinstance(value, int | float | str | bool)}


def _operand(module: Module, value: Any) -> str:
    text = module.text(value)
    return f"({text})" if text.startswith("-") else text


def argument(call: Call, name: str, position: int = 1, default: Any = None) -> Any:
    """An argument by its keyword or its place."""
    if name in call.keywords:
        return call.keywords[name]
    return call.arguments[position] if len(call.arguments) > position else default


def _reduce(module: Module, call: Call, function: str) -> None:
    axis, keep = argument(call, "axis"), argument(call, "keepdims", 2)
    x = module.text(call.arguments[0])
    options = [] if axis is None else [_axes(axis)]
    options += ["keepdim=True"] if keep and axis is not None else []
    if function == "prod" and isinstance(axis, list):
        raise Refused(call, "a product along several axes", {"axis": axis})
    module.assign(call, f"{x}.{function}({', '.join(options)})")


def _axes(axis: Any) -> str:
    return (
        f"({', '.join(map(str, axis))})"
        if isinstance(axis, list | tuple) and len(axis) > 1
        else str(axis[0] if isinstance(axis, list | tuple) else axis)
    )


def _get_item(module: Module, call: Call) -> None:
    key = call.arguments[1]
    parts = key if isinstance(key, list | tuple) else [key]
    if any(isinstance(part, slice) and (part.step or 1) < 0 for part in parts):
        raise Refused(call, "a slice with a negative step; use keras.ops.flip")
    module.assign(call, f"{module.text(call.arguments[0])}[{', '.join(module.text(part) for part in parts)}]")


def _identity(module: Module, call: Call) -> None:
    module.alias(Tensor(call.name), module.text(call.arguments[0]))


def _cast(module: Module, call: Call) -> None:
    dtype, x = argument(call, "dtype"), call.arguments[0]
    if dtype is None or (isinstance(x, Tensor) and module.dtype(x) == dtype):
        _identity(module, call)
        return
    module.file.imports.add("torch")
    module.assign(call, f"{module.text(x)}.to(torch.{dtype})")


def _shape(module: Module, call: Call) -> None:
    x, target = module.text(call.arguments[0]), argument(call, "newshape")
    target = [part if part is not None else -1 for part in target]
    module.assign(call, f"{x}.reshape({', '.join(map(module.text, target))})")


def _transpose(module: Module, call: Call) -> None:
    axes, x = argument(call, "axes"), call.arguments[0]
    axes = axes or list(range(len(module.shape(x))))[::-1]
    module.assign(call, f"{module.text(x)}.permute({', '.join(map(str, axes))})")


def _method(pattern: str, *names: str) -> Callable[[Module, Call], None]:
    def write(module: Module, call: Call) -> None:
        values = [module.text(argument(call, name, i + 1)) for i, name in enumerate(names)]
        module.assign(call, pattern.format(module.text(call.arguments[0]), *values))

    return write


def _squeeze(module: Module, call: Call) -> None:
    axis = argument(call, "axis")
    options = "" if axis is None else _axes(axis)
    module.assign(call, f"{module.text(call.arguments[0])}.squeeze({options})")


def _flip(module: Module, call: Call) -> None:
    axis, x = argument(call, "axis"), call.arguments[0]
    axes = list(range(len(module.shape(x)))) if axis is None else axis
    module.assign(call, f"{module.text(x)}.flip({_axes(axes) if axis is not None else tuple(axes)})")


def _joined(function: str) -> Callable[[Module, Call], None]:
    def write(module: Module, call: Call) -> None:
        module.file.imports.add("torch")
        parts, axis = call.arguments[0], argument(call, "axis", 1, -1 if function == "cat" else 0)
        module.assign(call, f"torch.{function}([{', '.join(map(module.text, parts))}], {axis})")

    return write


def _where(module: Module, call: Call) -> None:
    module.file.imports.add("torch")
    module.assign(call, f"torch.where({', '.join(module.text(part) for part in call.arguments[:3])})")


def _split(module: Module, call: Call) -> None:
    sections, axis = argument(call, "indices_or_sections"), argument(call, "axis", 2, 0)
    names = []
    x = module.text(call.arguments[0])
    names = [module.bind(Tensor(call.name, i), f"part{i + 1}") for i in range(len(call.shapes))]
    count = sections if isinstance(sections, int) else None
    text = f"{x}.chunk({count}, {axis})" if count else f"torch.tensor_split({x}, {tuple(sections)}, {axis})"
    if not count:
        module.file.imports.add("torch")
    module.line(f"{', '.join(names)} = {text}" if len(names) > 1 else f"({names[0]},) = {text}")


def _einsum(module: Module, call: Call) -> None:
    equation = call.keywords.get("subscripts")
    parts = [part for part in call.arguments if not isinstance(part, str)]
    equation = equation or next(part for part in call.arguments if isinstance(part, str))
    module.file.imports.add("torch")
    module.assign(call, f"torch.einsum({literal(equation)}, {', '.join(map(module.text, parts))})")


def _like(function: str) -> Callable[[Module, Call], None]:
    def write(module: Module, call: Call) -> None:
        module.file.imports.add("torch")
        dtype = argument(call, "dtype")
        options = f", dtype=torch.{dtype}" if dtype else ""
        module.assign(call, f"torch.{function}({module.text(call.arguments[0])}{options})")

    return write


def _clip(module: Module, call: Call) -> None:
    low, high = argument(call, "x_min"), argument(call, "x_max", 2)
    module.assign(call, f"{module.text(call.arguments[0])}.clamp({literal(low)}, {literal(high)})")


HANDLERS: dict[str, Callable[[Module, Call], None]] = {
    "get_item": _get_item,
    "convert_to_tensor": _cast,
    "cast": _cast,
    "copy": _identity,
    "identity": _identity,
    "stop_gradient": _method("{}.detach()"),
    "reshape": _shape,
    "transpose": _transpose,
    "swapaxes": _method("{}.transpose({}, {})", "axis1", "axis2"),
    "expand_dims": _method("{}.unsqueeze({})", "axis"),
    "moveaxis": _method("{}.movedim({}, {})", "source", "destination"),
    "squeeze": _squeeze,
    "flip": _flip,
    "concatenate": _joined("cat"),
    "stack": _joined("stack"),
    "where": _where,
    "split": _split,
    "einsum": _einsum,
    "clip": _clip,
    "ones_like": _like("ones_like"),
    "zeros_like": _like("zeros_like"),
    "cumsum": _method("{}.cumsum({})", "axis"),
    "repeat": _method("{}.repeat_interleave({}, {})", "repeats", "axis"),
    "roll": _method("{}.roll({}, {})", "shift", "axis"),
}
