"""Functions of PyTorch that treat every element alike, and those along axes: what Keras calls them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from compare.port.graph import Tensor
from compare.port.torch_reader.held import BatchIndex, Fixed, Handler, Held, Last, Packed, Stack, Sym
from compare.port.torch_reader.lowering import Lowering
from compare.port.torch_reader.program import Parameter, Size, Value

FUNCTIONS: dict[str, Handler] = {}

UNARY = {
    "tanh": "tanh", "sigmoid": "sigmoid", "relu": "relu", "exp": "exp", "log": "log", "log1p": "log1p",
    "expm1": "expm1", "sqrt": "sqrt", "rsqrt": "rsqrt", "abs": "absolute", "absolute": "absolute", "neg": "negative",
    "negative": "negative", "square": "square", "sin": "sin", "cos": "cos",
    "sign": "sign", "floor": "floor", "ceil": "ceil", "round": "round",
    "reciprocal": "reciprocal", "erf": "erf", "relu6": "relu6", "silu": "silu", "softsign": "softsign",
    "logsigmoid": "log_sigmoid", "selu": "selu", "hardsigmoid": "hard_sigmoid", "hardswish": "hard_silu",
    "logical_not": "logical_not", "__invert__": "logical_not", "bitwise_not": "logical_not", "isnan": "isnan",
    "tanhshrink": "tanh_shrink", "log2": "log2", "sinh": "sinh", "cosh": "cosh", "atan": "arctan",
}  # fmt: skip
BINARY = {
    "add": "add", "sub": "subtract", "subtract": "subtract", "mul": "multiply", "multiply": "multiply", "div": "divide",
    "divide": "divide", "true_divide": "divide", "pow": "power", "maximum": "maximum", "minimum": "minimum",
    "gt": "greater", "ge": "greater_equal", "lt": "less", "le": "less_equal", "eq": "equal", "ne": "not_equal",
    "__eq__": "equal", "__ne__": "not_equal", "__lt__": "less", "__gt__": "greater", "__le__": "less_equal",
    "__ge__": "greater_equal", "greater": "greater", "less": "less",
    "__and__": "logical_and", "__or__": "logical_or", "__xor__": "logical_xor",
    "logical_and": "logical_and", "logical_or": "logical_or", "logical_xor": "logical_xor", "__pow__": "power",
    "remainder": "mod", "floor_divide": "floor_divide", "__floordiv__": "floor_divide",
}  # fmt: skip
REVERSED = {
    "__rsub__": "subtract",
    "rsub": "subtract",
    "__rdiv__": "divide",
    "__rtruediv__": "divide",
    "__rpow__": "power",
}


def scalar(value: Any) -> bool:
    """Whether a value is a Python number."""
    return isinstance(value, bool | int | float) and not isinstance(value, Size)


def operands(low: Lowering, *values: Held) -> tuple[list[Any], tuple[int, ...]]:
    """Values as arguments that broadcast against one another, and the axes of what they give."""
    values = tuple(low.parameter(value.name) if isinstance(value, Parameter) else value for value in values)
    values = tuple(low.sym(value) if isinstance(value, Stack | Packed | Last) else value for value in values)
    seen = low.step.shapes[0]
    if not covers([value for value in values if isinstance(value, Sym)], seen):
        whole = next((i for i, value in enumerate(values) if isinstance(value, Fixed) and value.shape == seen), None)
        if whole is not None:
            fixed = values[whole]
            values = tuple(low.filled(fixed) if i == whole else value for i, value in enumerate(values))
    tensors = [value for value in values if isinstance(value, Sym)]
    full = [value for value in tensors if value.rank == len(seen)]
    axes = full[0].axes if full else tuple(range(len(seen)))
    rank = len(axes)
    small = [value for value in tensors if 0 < value.rank < rank]
    fixed_ranks = [value.array.ndim for value in values if isinstance(value, Fixed) and value.number is None]
    if small or any(own < rank for own in fixed_ranks):
        axes = tuple(range(rank))
    return [_operand(low, value, axes) for value in values], axes


def covers(tensors: Sequence[Sym], seen: Sequence[Any]) -> bool:
    """Whether tensors broadcast to a shape by themselves."""
    shape: list[Any] = [1] * len(seen)
    for tensor in tensors:
        for axis, size in enumerate(tensor.seen[::-1]):
            if size != 1:
                shape[-1 - axis] = size
    return tuple(shape) == tuple(seen)


def _operand(low: Lowering, value: Held, axes: tuple[int, ...]) -> Any:
    if isinstance(value, Sym):
        return low.laid(value, axes) if value.rank == len(axes) else low.plain(value)
    if isinstance(value, Fixed):
        if value.number is not None:
            number = value.number
            return int(number) if isinstance(number, bool) and low.key(low.step) in ("mul", "add") else number
        if value.array.ndim == len(axes) and axes != tuple(range(len(axes))):
            return low.literal(np.transpose(value.array, np.argsort(axes)))
        return low.literal(value.array)
    if isinstance(value, BatchIndex | Size):
        raise low.refusal(f"{low.told(low.step)} computes with the batch's size or the members' numbers")
    return value


def elementwise(low: Lowering, kind: str, *values: Held, **options: Any) -> Sym:
    """One operation on every element."""
    given, axes = operands(low, *values)
    return low.result(low.emit(f"ops.{kind}", *given, **options), axes)


def _floating(low: Lowering, value: Held) -> bool:
    dtypes = [low.program.steps[v.step].dtypes[v.output] for v in low.step.values]
    return any(dtype.startswith(("float", "bfloat")) for dtype in dtypes)


def _unary(kind: str) -> Handler:
    def lower(low: Lowering, x: Held, *_: Any, **__: Any) -> Held:
        if isinstance(x, Packed):  # the layer's own data, packed as it was
            raise low.refusal("a packed sequence's data is computed with")
        return elementwise(low, kind, x)

    return lower


def _binary(kind: str, turned: bool = False) -> Handler:
    def lower(low: Lowering, x: Held, y: Held, *, alpha: float = 1, rounding_mode: str | None = None, **_: Any) -> Held:
        named = kind
        if rounding_mode is not None:
            if rounding_mode != "floor":
                raise low.refusal(f"div() with rounding_mode={rounding_mode!r}")
            named = "floor_divide"
        if alpha != 1:
            y = elementwise(low, "multiply", y, alpha)
        if named in ("multiply", "add", "subtract") and any(isinstance(v, Sym) for v in (x, y)):
            x, y = (_numeric(low, value, place) for place, value in enumerate((x, y)))
        return elementwise(low, named, *((y, x) if turned else (x, y)))

    return lower


def _numeric(low: Lowering, value: Held, place: int) -> Held:
    """A truth value as a number, since Keras's backends multiply them differently."""
    if not isinstance(value, Sym):
        return value
    given = low.step.arguments[place] if place < len(low.step.arguments) else None
    if isinstance(given, Value) and low.program.steps[given.step].dtypes[given.output] == "bool":
        return Sym(low.emit("ops.cast", value.tensor, "float32"), value.shape, value.axes)
    return value


for _name, _kind in UNARY.items():
    FUNCTIONS[_name] = _unary(_kind)
for _name, _kind in BINARY.items():
    FUNCTIONS[_name] = _binary(_kind)
for _name, _kind in REVERSED.items():
    FUNCTIONS[_name] = _binary(_kind, turned=True)


def function(*names: str) -> Any:
    """Register a handler for functions of PyTorch."""

    def register(handler: Handler) -> Handler:
        for name in names:
            FUNCTIONS[name] = handler
        return handler

    return register


@function("clamp", "clip", "hardtanh", "clamp_min", "clamp_max")
def _clamp(
    low: Lowering, x: Held, min: Any = None, max: Any = None, min_val: Any = -1.0, max_val: Any = 1.0, **_: Any
) -> Held:
    name = low.key(low.step)
    if name == "hardtanh":
        min, max = (min_val, max_val) if min is None and max is None else (min, max)
    if name == "clamp_max":
        min, max = None, min if max is None else max
    if not all(value is None or scalar(value) for value in (min, max)):
        raise low.refusal("clamp() with tensors as limits")
    if max is None:
        return elementwise(low, "maximum", x, min)
    return elementwise(low, "minimum", x, max) if min is None else elementwise(low, "clip", x, min, max)


@function("leaky_relu")
def _leaky(low: Lowering, x: Held, negative_slope: float = 0.01, inplace: bool = False) -> Held:
    return elementwise(low, "leaky_relu", x, negative_slope=negative_slope)


@function("elu", "celu")
def _elu(low: Lowering, x: Held, alpha: float = 1.0, inplace: bool = False) -> Held:
    return elementwise(low, low.key(low.step), x, alpha=alpha)


@function("gelu")
def _gelu(low: Lowering, x: Held, approximate: str = "none") -> Held:
    return elementwise(low, "gelu", x, approximate=approximate == "tanh")


@function("softplus")
def _softplus(low: Lowering, x: Held, beta: float = 1.0, threshold: float = 20.0) -> Held:
    if beta == 1.0:
        return elementwise(low, "softplus", x)
    return elementwise(low, "divide", elementwise(low, "softplus", elementwise(low, "multiply", x, beta)), beta)


@function("mish")
def _mish(low: Lowering, x: Held, inplace: bool = False) -> Held:
    return elementwise(low, "multiply", x, elementwise(low, "tanh", elementwise(low, "softplus", x)))


@function("where")
def _where(low: Lowering, condition: Held, x: Held, y: Held) -> Held:
    return elementwise(low, "where", condition, x, y)


@function("masked_fill")
def _masked_fill(low: Lowering, x: Held, mask: Held, value: Any) -> Held:
    return elementwise(low, "where", mask, value, x)


@function("lerp")
def _lerp(low: Lowering, x: Held, end: Held, weight: Any) -> Held:
    step = elementwise(low, "multiply", elementwise(low, "subtract", end, x), weight)
    return elementwise(low, "add", x, step)


@function("to", "float", "long", "int", "bool", "type", "type_as", "double", "half")
def _cast(low: Lowering, x: Held, *_: Any, **__: Any) -> Held:
    if isinstance(x, BatchIndex | Packed):
        return x
    before = low.program.steps[low.step.values[0].step].dtypes[low.step.values[0].output] if low.step.values else ""
    after = low.step.dtypes[0]
    if after in ("float64", "float16", "bfloat16"):
        raise low.refusal(f"{low.told(low.step)} computes in {after}; the Keras model computes in float32")
    if before == after or {before, after} <= {"int64", "int32", "int16", "int8", "uint8"}:
        return x
    sym = low.sym(x)
    return Sym(low.emit("ops.cast", sym.tensor, "int32" if after.startswith("int") else after), sym.shape, sym.axes)


# -- along axes ------------------------------------------------------------------------------------------------


def axes_of(sym: Sym, dim: Any) -> tuple[int, ...]:
    """The tensor's axes of PyTorch's dimensions; all for None."""
    if dim is None:
        return tuple(range(sym.rank))
    dims = dim if isinstance(dim, list | tuple) else [dim]
    return tuple(sym.axes[each % sym.rank] for each in dims)


def without(sym: Sym, gone: Sequence[int]) -> tuple[int, ...]:
    """The axes that are left without some of the tensor's, numbered anew."""
    left = [axis for axis in range(sym.rank) if axis not in gone]
    return tuple(left.index(axis) for axis in sym.axes if axis not in gone)


def reduced(low: Lowering, kind: str, x: Held, dim: Any = None, keepdim: bool = False) -> Sym:
    """A reduction along dimensions."""
    sym = low.sym(x)
    gone = axes_of(sym, dim)
    if dim is None or (isinstance(dim, list | tuple) and not dim):
        return low.new(low.emit(f"ops.{kind}", sym.tensor), ())
    options: dict[str, Any] = {"axis": gone[0] if len(gone) == 1 else gone, **({"keepdims": True} if keepdim else {})}
    tensor = low.emit(f"ops.{kind}", sym.tensor, **options)
    shape = tuple(1 if axis in gone else size for axis, size in enumerate(sym.shape) if keepdim or axis not in gone)
    return Sym(tensor, shape, sym.axes if keepdim else without(sym, gone))


def _reduction(kind: str) -> Handler:
    def lower(
        low: Lowering, x: Held, dim: Any = None, keepdim: bool = False, dtype: Any = None, axis: Any = None, **_: Any
    ) -> Held:
        x = _numeric(low, low.sym(x), 0)
        return reduced(low, kind, x, axis if dim is None else dim, keepdim)

    return lower


for _name, _kind in {
    "sum": "sum", "mean": "mean", "amax": "max", "amin": "min", "prod": "prod", "logsumexp": "logsumexp",
}.items():  # fmt: skip
    FUNCTIONS[_name] = _reduction(_kind)


@function("all", "any")
def _truth(low: Lowering, x: Held, dim: Any = None, keepdim: bool = False) -> Held:
    return reduced(low, low.key(low.step), x, dim, keepdim)


@function("argmax", "argmin")
def _arg(low: Lowering, x: Held, dim: Any = None, keepdim: bool = False) -> Held:
    if dim is None:
        raise low.refusal(f"{low.step.name}() of all elements at once")
    return reduced(low, low.key(low.step), x, dim, keepdim)


@function("max", "min")
def _extreme(low: Lowering, x: Held, dim: Any = None, keepdim: bool = False) -> Held:
    name = low.key(low.step)
    if dim is None:
        return reduced(low, name, x)
    if not isinstance(dim, int):
        return elementwise(low, f"{name}imum", x, dim)
    values = reduced(low, name, x, dim, keepdim)
    return [values, reduced(low, f"arg{name}", x, dim, keepdim)] if low.used(low.number, 1) else [values]


@function("std", "var")
def _spread(
    low: Lowering, x: Held, dim: Any = None, unbiased: bool = True, keepdim: bool = False, correction: Any = None
) -> Held:
    sym = low.sym(x)
    if not isinstance(unbiased, bool):
        raise low.refusal(f"{low.told(low.step)}: name its arguments")
    count = [sym.shape[axis] for axis in axes_of(sym, dim)]
    less = int(unbiased) if correction is None else int(correction)
    if any(isinstance(size, Size) for size in count):
        raise low.refusal(f"{low.step.name}() along the batch")
    total = int(np.prod(count))
    result = reduced(low, "var", sym, dim, keepdim)
    if less:
        result = Sym(low.emit("ops.multiply", result.tensor, total / (total - less)), result.shape, result.axes)
    if low.key(low.step) == "std":
        return Sym(low.emit("ops.sqrt", result.tensor), result.shape, result.axes)
    return result


@function("norm", "vector_norm", "linalg_vector_norm", "linalg_norm")
def _norm(
    low: Lowering, x: Held, p: Any = 2, dim: Any = None, keepdim: bool = False, dtype: Any = None, ord: Any = None
) -> Held:
    order = p if ord is None else ord
    sym = low.sym(x)
    if order in (1, 1.0):
        return reduced(low, "sum", Sym(low.emit("ops.absolute", sym.tensor), sym.shape, sym.axes), dim, keepdim)
    if order not in (2, 2.0, "fro", None):
        raise low.refusal(f"norm() of order {order}")
    squares = reduced(low, "sum", Sym(low.emit("ops.square", sym.tensor), sym.shape, sym.axes), dim, keepdim)
    return Sym(low.emit("ops.sqrt", squares.tensor), squares.shape, squares.axes)


@function("normalize")
def _normalize(low: Lowering, x: Held, p: Any = 2.0, dim: int = 1, eps: float = 1e-12, out: Any = None) -> Held:
    sym = low.sym(x)
    length = _norm(low, sym, p, dim, True)
    bounded = low.emit("ops.maximum", length.tensor, eps)
    return Sym(low.emit("ops.divide", sym.tensor, bounded), sym.shape, sym.axes)


@function("cosine_similarity")
def _cosine(low: Lowering, x: Held, y: Held, dim: int = 1, eps: float = 1e-8) -> Held:
    a, b = (low.plain(value) for value in (x, y))
    rank = low.sym(x).rank

    def length(tensor: Tensor) -> Tensor:
        squares = low.emit("ops.sum", low.emit("ops.square", tensor), axis=dim % rank)
        return low.emit("ops.maximum", low.emit("ops.sqrt", squares), eps)

    product = low.emit("ops.sum", low.emit("ops.multiply", a, b), axis=dim % rank)
    return low.result(low.emit("ops.divide", product, low.emit("ops.multiply", length(a), length(b))))


@function("softmax", "log_softmax", "_softmax", "softmin")
def _softmax(low: Lowering, x: Held, dim: int | None = None, dtype: Any = None, **_: Any) -> Held:
    if low.key(low.step) == "softmin" or dim is None:
        raise low.refusal(f"{low.told(low.step)}: name its dim")
    sym = low.sym(x)
    kind = low.key(low.step).strip("_")
    return Sym(low.emit(f"ops.{kind}", sym.tensor, axis=_negative(sym, dim)), sym.shape, sym.axes)


def _negative(sym: Sym, dim: int) -> int:
    """An axis, the last as -1."""
    axis = sym.axes[dim % sym.rank]
    return -1 if axis == sym.rank - 1 else axis


@function("cumsum", "cumprod")
def _cumulative(low: Lowering, x: Held, dim: int, dtype: Any = None) -> Held:
    sym = _numeric(low, low.sym(x), 0)
    return Sym(low.emit(f"ops.{low.key(low.step)}", sym.tensor, axis=sym.axes[dim % sym.rank]), sym.shape, sym.axes)


@function("flip", "fliplr")
def _flip(low: Lowering, x: Held, *dims: Any) -> Held:
    sym = low.sym(x)
    flat = dims[0] if dims and isinstance(dims[0], list | tuple) else dims or (1,)
    axes = tuple(sym.axes[dim % sym.rank] for dim in flat)
    return Sym(low.emit("ops.flip", sym.tensor, axis=axes[0] if len(axes) == 1 else axes), sym.shape, sym.axes)
