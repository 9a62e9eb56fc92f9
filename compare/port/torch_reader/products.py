"""Matrix products, and the functions of torch.nn.functional that have weights or are losses."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from compare.port.graph import Layer, Tensor
from compare.port.torch_reader.elementwise import elementwise, function
from compare.port.torch_reader.held import Fixed, Held, Stack, Sym, Turned
from compare.port.torch_reader.lowering import Lowering
from compare.port.torch_reader.program import Parameter, Value


def transposed(array: np.ndarray) -> np.ndarray:
    """A matrix as Keras has it, (in, out)."""
    return array.T


def same(array: np.ndarray) -> np.ndarray:
    """A weight that both have alike."""
    return array


def dense(low: Lowering, x: Held, weight: str, bias: str | None, name: str | None = None, turned: bool = True) -> Sym:
    """A layer for `x @ weight.T + bias`; not `turned`, for `x @ weight`."""
    sym = low.sym(x)
    shape = low.program.parameters[weight].shape
    table = tables(low).get(low.program.tied.get(weight, weight))
    if table is not None and turned and sym.axes[-1] == sym.rank - 1:
        layer = low.graph.layers[table]
        logits = Sym(low.apply(layer, sym.tensor, reverse=True), (*sym.shape[:-1], shape[0]), sym.axes)
        return elementwise(low, "add", logits, Parameter(bias)) if bias else logits
    units = shape[0] if turned else shape[1]
    path = name or weight.removesuffix(".weight")
    path += "" if turned or path == weight else "_transposed"
    config: dict[str, Any] = {"units": int(units), **({} if bias else {"use_bias": False})}
    layer = low.layer("Dense", config, path)
    low.weight(layer, "kernel", [weight], transposed if turned else same)
    if bias:
        low.weight(layer, "bias", [bias], same)
    return on_last_axis(low, layer, sym, units)


def on_last_axis(low: Lowering, layer: Layer, sym: Sym, size: int | None = None) -> Sym:
    """Call a layer that works along the last axis, in the layout that there is where the last axis is PyTorch's."""
    if sym.rank == 1:
        raise low.refusal(f"{low.told(low.step)} is given one axis alone, which for Keras is the batch's")
    if sym.axes[-1] == sym.rank - 1:
        shape = sym.shape if size is None else (*sym.shape[:-1], size)
        return Sym(low.apply(layer, sym.tensor), shape, sym.axes)
    return low.result(low.apply(layer, low.plain(sym)))


@function("linear")
def _linear(low: Lowering, x: Held, weight: Held, bias: Held = None) -> Held:
    if isinstance(weight, Parameter) and (bias is None or isinstance(bias, Parameter)):
        return dense(low, x, weight.name, None if bias is None else bias.name)
    sym = low.sym(weight)
    product = _product(low, x, Sym(sym.tensor, sym.shape, (sym.axes[1], sym.axes[0])))
    return product if bias is None else elementwise(low, "add", product, bias)


@function("matmul", "bmm", "mm", "__matmul__", "mv", "__rmatmul__", "dot")
def _matmul(low: Lowering, x: Held, y: Held) -> Held:
    if low.step.name == "__rmatmul__":
        x, y = y, x
    if isinstance(y, Parameter) and low.program.parameters[y.name].ndim == 2:
        return dense(low, x, y.name, None, turned=False)
    if isinstance(y, Turned):
        return dense(low, x, y.name, None)
    return _product(low, x, y)


def _product(low: Lowering, x: Held, y: Held) -> Held:
    return low.result(low.emit("ops.matmul", low.plain(x), low.plain(y)))


@function("addmm", "baddbmm", "addmv")
def _addmm(low: Lowering, x: Held, a: Held, b: Held, *, beta: float = 1, alpha: float = 1) -> Held:
    if beta != 1 or alpha != 1:
        raise low.refusal(low.told(low.step))
    return elementwise(low, "add", x, _product(low, a, b))


@function("einsum")
def _einsum(low: Lowering, equation: str, *tensors: Any) -> Held:
    flat = tensors[0] if len(tensors) == 1 and isinstance(tensors[0], list | tuple) else tensors
    plain = [low.plain(each) for each in flat]
    return low.result(low.emit("ops.einsum", equation.replace(" ", ""), *plain))


@function("embedding")
def _embedding(low: Lowering, x: Held, weight: Held, padding_idx: Any = None, *rest: Any, **_: Any) -> Held:
    if not isinstance(weight, Parameter):
        raise low.refusal("embedding() with a table that is computed")
    return embedded(low, x, weight.name, weight.name.removesuffix(".weight"), padding_idx)


def embedded(low: Lowering, x: Held, weight: str, path: str, padding: int | None) -> Sym:
    """A layer for rows of a table."""
    sym = low.sym(x)
    rows, size = low.program.parameters[weight].shape
    own = low.program.tied.get(weight, weight)
    tied = own in low.program.tied.values()
    config = {"input_dim": rows, "output_dim": size, **({"trainable": False} if weight in low.program.frozen else {})}
    layer = low.layer("ReversibleEmbedding" if tied else "Embedding", config, path)
    if tied:
        tables(low)[own] = layer.name
    low.weight(layer, "embeddings", [weight], same)
    if padding is not None:
        low.padding[f"{layer.name}/embeddings"] = padding
        low.note(f"{path}: row {padding} of the table is not trained (padding_idx); in Keras that is train.py's doing")
    return Sym(low.apply(layer, sym.tensor), (*sym.shape, size), (*sym.axes, sym.rank))


def tables(low: Lowering) -> dict[str, str]:
    """The layers of embeddings whose table is also another layer's weight, by the table's name."""
    return low.known.setdefault("tables", {})


@function("layer_norm", "rms_norm")
def _layer_norm(
    low: Lowering, x: Held, normalized_shape: Any, weight: Held = None, bias: Held = None, eps: float | None = 1e-5
) -> Held:
    sym = low.sym(x)
    if len(normalized_shape) != 1 or low.key(low.step) != "layer_norm":
        raise low.refusal(low.told(low.step))
    mean = low.emit("ops.mean", low.plain(sym), axis=-1, keepdims=True)
    centred = low.emit("ops.subtract", low.plain(sym), mean)
    variance = low.emit("ops.mean", low.emit("ops.square", centred), axis=-1, keepdims=True)
    root = low.emit("ops.sqrt", low.emit("ops.add", variance, float(eps or 0)))
    result: Held = low.result(low.emit("ops.divide", centred, root))
    if weight is not None:
        result = elementwise(low, "multiply", result, weight)
    return result if bias is None else elementwise(low, "add", result, bias)


@function("dropout", "alpha_dropout", "feature_dropout", "dropout1d", "dropout2d", "dropout3d")
def _dropout(low: Lowering, x: Held, p: float = 0.5, training: bool | str = True, inplace: bool = False) -> Held:
    if low.key(low.step) != "dropout":
        raise low.refusal(low.told(low.step))
    return dropped(low, x, p, "dropout" if training else "", always=training == "always")


def dropped(low: Lowering, x: Held, rate: float, name: str, always: bool = False, path: str | None = None) -> Held:
    """Dropout at work in training, or always."""
    if isinstance(x, Stack):
        x = low.sym(x)
    if not rate or not name:
        return x
    sym = low.sym(x)
    if path is None:
        name = next(n for n in (f"dropout_{i}" for i in range(1, 10**6)) if n not in low.graph.layers)
    layer = low.layer("Dropout", {"rate": rate}, name if path is None else path)
    return Sym(low.apply(layer, sym.tensor, **({"training": True} if always else {})), sym.shape, sym.axes)


@function("scaled_dot_product_attention")
def _attention(
    low: Lowering, q: Held, k: Held, v: Held, attn_mask: Held = None, dropout_p: float = 0.0, is_causal: bool = False,
    scale: float | None = None, enable_gqa: bool = False,
) -> Held:  # fmt: skip
    query, key, value = low.sym(q), low.sym(k), low.sym(v)
    if dropout_p or enable_gqa:
        raise low.refusal(f"{low.told(low.step)}: dropout on the weights of an attention by function")
    factor = scale if scale is not None else float(1 / np.sqrt(float(query.seen[-1])))
    turned = Sym(key.tensor, key.shape, (*key.axes[:-2], key.axes[-1], key.axes[-2]))
    scores = low.emit("ops.multiply", low.emit("ops.matmul", low.plain(query), low.plain(turned)), factor)
    if is_causal:
        ones = np.tril(np.ones((query.seen[-2], key.seen[-2]), bool))
        scores = low.emit("ops.where", low.literal(ones), scores, float("-inf"))
    if attn_mask is not None:
        boolean = _is_boolean(low, attn_mask, "attn_mask", 3)
        mask = low.literal(attn_mask.array) if isinstance(attn_mask, Fixed) else low.plain(attn_mask)
        scores = low.emit("ops.where", mask, scores, float("-inf")) if boolean else low.emit("ops.add", scores, mask)
    weights = low.emit("ops.softmax", scores, axis=-1)
    return low.result(low.emit("ops.matmul", weights, low.plain(value)))


def _is_boolean(low: Lowering, held: Held, name: str, place: int) -> bool:
    if isinstance(held, Fixed):
        return held.array.dtype.kind == "b"
    given = low.step.keywords.get(name, low.step.arguments[place] if place < len(low.step.arguments) else None)
    return isinstance(given, Value) and low.program.steps[given.step].dtypes[given.output] == "bool"


# -- losses ----------------------------------------------------------------------------------------------------


def settled(low: Lowering, losses: Tensor, reduction: str, seen: Sequence[Any]) -> Sym:
    """Losses, their mean or their sum."""
    if reduction == "none":
        return low.new(losses, seen)
    return low.new(low.emit(f"ops.{'mean' if reduction == 'mean' else 'sum'}", losses), ())


def _pointwise(kind: str, x: Held, y: Held, low: Lowering, reduction: str) -> Sym:
    seen = max((low.sym(x).seen, low.sym(y).seen), key=len)
    difference = low.emit("ops.subtract", low.plain(x), low.plain(y))
    return settled(low, low.emit(f"ops.{kind}", difference), reduction, seen)


@function("mse_loss")
def _mse(low: Lowering, x: Held, y: Held, reduction: str = "mean", **_: Any) -> Held:
    return _pointwise("square", x, y, low, reduction)


@function("l1_loss")
def _l1(low: Lowering, x: Held, y: Held, reduction: str = "mean", **_: Any) -> Held:
    return _pointwise("absolute", x, y, low, reduction)


def _bent(low: Lowering, x: Held, y: Held, reduction: str, bend: float, scale: float) -> Sym:
    seen = low.sym(x).seen
    size = low.emit("ops.absolute", low.emit("ops.subtract", low.plain(x), low.plain(y)))
    small = low.emit("ops.multiply", low.emit("ops.square", size), 0.5 * scale / bend)
    large = low.emit("ops.multiply", low.emit("ops.subtract", size, 0.5 * bend), scale)
    return settled(low, low.emit("ops.where", low.emit("ops.less", size, bend), small, large), reduction, seen)


@function("smooth_l1_loss")
def _smooth(low: Lowering, x: Held, y: Held, reduction: str = "mean", beta: float = 1.0, **_: Any) -> Held:
    return _l1(low, x, y, reduction) if beta == 0 else _bent(low, x, y, reduction, beta, 1.0)


@function("huber_loss")
def _huber(low: Lowering, x: Held, y: Held, reduction: str = "mean", delta: float = 1.0, **_: Any) -> Held:
    return _bent(low, x, y, reduction, delta, delta)


@function("binary_cross_entropy_with_logits")
def _bce_logits(
    low: Lowering, x: Held, y: Held, weight: Held = None, size_average: Any = None, reduce: Any = None,
    reduction: str = "mean", pos_weight: Held = None,
) -> Held:  # fmt: skip
    if weight is not None:
        raise low.refusal(f"{low.told(low.step)} with weights of examples")
    logits, target = low.plain(x), low.plain(y)
    # max(x, 0) - x y + log(1 + exp(-|x|)), and with pos_weight p: (1 - y) x + (1 + (p - 1) y) softplus(-x).
    if pos_weight is not None:
        positive = elementwise_weight(low, pos_weight)
        factor = low.emit("ops.add", low.emit("ops.multiply", low.emit("ops.subtract", positive, 1.0), target), 1.0)
        rest = low.emit("ops.multiply", factor, low.emit("ops.softplus", low.emit("ops.negative", logits)))
        first = low.emit("ops.multiply", low.emit("ops.subtract", 1.0, target), logits)
        return settled(low, low.emit("ops.add", first, rest), reduction, low.sym(x).seen)
    losses = low.emit("ops.subtract", low.emit("ops.softplus", logits), low.emit("ops.multiply", logits, target))
    return settled(low, losses, reduction, low.sym(x).seen)


def elementwise_weight(low: Lowering, weight: Held) -> Any:
    """A weight of a loss, as a number or an array."""
    if isinstance(weight, Fixed):
        return weight.number if weight.number is not None else low.literal(weight.array)
    return low.plain(weight)


@function("binary_cross_entropy")
def _bce(low: Lowering, x: Held, y: Held, weight: Held = None, *_: Any, reduction: str = "mean", **__: Any) -> Held:
    if weight is not None:
        raise low.refusal(f"{low.told(low.step)} with weights of examples")
    p, target = low.plain(x), low.plain(y)

    def log(tensor: Tensor) -> Tensor:
        return low.emit("ops.maximum", low.emit("ops.log", tensor), -100.0)

    one = low.emit("ops.multiply", target, log(p))
    other = low.emit("ops.multiply", low.emit("ops.subtract", 1.0, target), log(low.emit("ops.subtract", 1.0, p)))
    losses = low.emit("ops.negative", low.emit("ops.add", one, other))
    return settled(low, losses, reduction, low.sym(x).seen)


@function("nll_loss", "cross_entropy")
def _cross_entropy(
    low: Lowering, x: Held, target: Held, weight: Held = None, size_average: Any = None, ignore_index: int = -100,
    reduce: Any = None, reduction: str = "mean", label_smoothing: float = 0.0,
) -> Held:  # fmt: skip
    sym = low.sym(x)
    axis = 1 if sym.rank > 1 else 0
    # The classes last, as Keras has them.
    last = (*(i for i in range(sym.rank) if i != axis), axis)
    logits = low.plain(Sym(sym.tensor, sym.shape, tuple(sym.axes[i] for i in last)))
    classes, wanted = sym.seen[axis], low.sym(target)
    logs = logits if low.key(low.step) == "nll_loss" else low.emit("ops.log_softmax", logits, axis=-1)
    whole = ignore_index < 0 and weight is None
    if (label_smoothing and not whole) or wanted.rank == sym.rank or reduction not in ("mean", "sum"):
        raise low.refusal(
            f"{low.told(low.step)}: smoothed labels with weights, probabilities as targets, or single losses"
        )
    numbers: Any = low.plain(wanted)
    if ignore_index >= 0:
        counted = low.emit("ops.cast", low.emit("ops.not_equal", numbers, ignore_index), "float32")
    hot = low.emit("ops.one_hot", numbers, classes)
    if label_smoothing:
        hot = low.emit("ops.multiply", hot, 1 - label_smoothing)
        hot = low.emit("ops.add", hot, label_smoothing / classes)
    if weight is not None:
        hot = low.emit("ops.multiply", hot, elementwise_weight(low, weight))
    losses = low.emit("ops.negative", low.emit("ops.sum", low.emit("ops.multiply", hot, logs), axis=-1))
    if whole:
        return settled(low, losses, reduction, wanted.seen)
    weights = low.emit("ops.sum", hot, axis=-1)
    if ignore_index >= 0:
        losses, weights = low.emit("ops.multiply", losses, counted), low.emit("ops.multiply", weights, counted)
    total = low.emit("ops.sum", losses)
    if reduction == "sum":
        return low.new(total, ())
    return low.new(low.emit("ops.divide", total, low.emit("ops.sum", weights)), ())
