"""Modules of torch.nn but the recurrent ones: the layers that compute the same."""

from typing import Any

import numpy as np

from compare.port.torch_reader.elementwise import FUNCTIONS, reduced
from compare.port.torch_reader.held import Fixed, Handler, Held, Sym
from compare.port.torch_reader.lowering import Lowering
from compare.port.torch_reader.products import dense, dropped, embedded, on_last_axis, same
from compare.port.torch_reader.recurrent import cell, recurrent
from compare.port.torch_reader.shaping import reshaped

MODULES: dict[str, Handler] = {
    "LSTM": recurrent, "GRU": recurrent, "RNN": recurrent, "LSTMCell": cell, "GRUCell": cell, "RNNCell": cell,
}  # fmt: skip

# Activations by function: the settings of the module that the function takes.
ACTIVATIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "ReLU": ("relu", ()), "Tanh": ("tanh", ()), "Sigmoid": ("sigmoid", ()), "SiLU": ("silu", ()),
    "ReLU6": ("relu6", ()), "SELU": ("selu", ()), "Softsign": ("softsign", ()), "LogSigmoid": ("logsigmoid", ()),
    "Hardswish": ("hardswish", ()), "Hardsigmoid": ("hardsigmoid", ()), "Mish": ("mish", ()),
    "Tanhshrink": ("tanhshrink", ()), "GELU": ("gelu", ("approximate",)),
    "LeakyReLU": ("leaky_relu", ("negative_slope",)), "ELU": ("elu", ("alpha",)), "CELU": ("celu", ("alpha",)),
    "Softplus": ("softplus", ("beta", "threshold")), "Hardtanh": ("hardtanh", ("min_val", "max_val")),
    "Softmax": ("softmax", ("dim",)), "LogSoftmax": ("log_softmax", ("dim",)),
}  # fmt: skip
LOSSES: dict[str, tuple[str, tuple[str, ...]]] = {
    "MSELoss": ("mse_loss", ("reduction",)), "L1Loss": ("l1_loss", ("reduction",)),
    "SmoothL1Loss": ("smooth_l1_loss", ("reduction", "beta")), "HuberLoss": ("huber_loss", ("reduction", "delta")),
    "BCELoss": ("binary_cross_entropy", ("reduction",)),
    "BCEWithLogitsLoss": ("binary_cross_entropy_with_logits", ("reduction",)),
    "NLLLoss": ("nll_loss", ("reduction", "ignore_index")),
    "CrossEntropyLoss": ("cross_entropy", ("reduction", "ignore_index", "label_smoothing")),
}  # fmt: skip


def _by_function(function: str, settings: tuple[str, ...]) -> Handler:
    def lower(low: Lowering, *arguments: Held) -> Held:
        config = low.step.config
        options = {name: config[name] for name in settings}
        for buffer in config["buffers"]:
            array = low.program.parameters[low.path(buffer)]
            options[buffer] = Fixed(array, array.shape)
        before = low.step
        try:
            low.step = low.as_function(function)
            return FUNCTIONS[function](low, *arguments, **options)
        finally:
            low.step = before

    return lower


for _name, (_function, _settings) in {**ACTIVATIONS, **LOSSES}.items():
    MODULES[_name] = _by_function(_function, _settings)


def module(*names: str) -> Any:
    """Register a handler for modules."""

    def register(handler: Handler) -> Handler:
        for name in names:
            MODULES[name] = handler
        return handler

    return register


@module("Identity")
def _identity(low: Lowering, x: Held, *_: Any) -> Held:
    return x


@module("Linear", "NonDynamicallyQuantizableLinear")
def _linear(low: Lowering, x: Held) -> Held:
    bias = low.path("bias") if low.path("bias") in low.program.parameters else None
    return dense(low, x, low.path("weight"), bias, low.step.module)


@module("Embedding")
def _embedding(low: Lowering, x: Held) -> Held:
    config = low.step.config
    if config.get("max_norm") is not None or config.get("scale_grad_by_freq"):
        raise low.refusal(f"{low.told(low.step)}: Keras's Embedding neither bounds nor scales its rows")
    return embedded(low, x, low.path("weight"), low.step.module or "embedding", config.get("padding_idx"))


@module("Dropout")
def _dropout(low: Lowering, x: Held) -> Held:
    return dropped(low, x, low.step.config["p"], low.step.module or "dropout", path=low.step.module)


@module("Dropout1d")
def _spatial_dropout(low: Lowering, x: Held) -> Held:
    sym = low.sym(x)
    layer = low.layer("SpatialDropout1D", {"rate": low.step.config["p"]})
    tensor = low.laid(sym, (0, 2, 1))
    return low.result(low.apply(layer, tensor), (0, 2, 1))


@module("LayerNorm")
def _layer_norm(low: Lowering, x: Held) -> Held:
    config = low.step.config
    sym = low.sym(x)
    count = len(config["normalized_shape"])
    settings: dict[str, Any] = {"epsilon": config["eps"]}
    if count > 1:
        settings["axis"] = list(range(-count, 0))
    names = config["parameters"]
    settings |= {} if "bias" in names else {"center": False}
    settings |= {} if "weight" in names else {"scale": False}
    layer = low.layer("LayerNormalization", settings)
    if "weight" in names:
        low.weight(layer, "gamma", [low.path("weight")], same)
    if "bias" in names:
        low.weight(layer, "beta", [low.path("bias")], same)
    if count == 1:
        return on_last_axis(low, layer, sym)
    return low.result(low.apply(layer, low.plain(sym)))


@module("RMSNorm")
def _rms_norm(low: Lowering, x: Held) -> Held:
    config = low.step.config
    if len(config["normalized_shape"]) != 1 or "weight" not in config["parameters"]:
        raise low.refusal(low.told(low.step))
    epsilon = float(np.finfo(np.float32).eps) if config["eps"] is None else config["eps"]
    layer = low.layer("RMSNormalization", {"epsilon": epsilon})
    low.weight(layer, "scale", [low.path("weight")], same)
    return on_last_axis(low, layer, low.sym(x))


@module("BatchNorm1d")
def _batch_norm(low: Lowering, x: Held) -> Held:
    config = low.step.config
    if not config["track_running_stats"]:
        raise low.refusal(f"{low.told(low.step)}: Keras's layer always keeps running statistics")
    if config["momentum"] is None:
        raise low.refusal(f"{low.told(low.step)}: Keras's layer has no cumulative average (momentum=None)")
    sym = low.sym(x)
    axis = sym.axes[1]
    settings: dict[str, Any] = {"epsilon": config["eps"], "momentum": 1 - config["momentum"]}
    if axis != sym.rank - 1:
        settings["axis"] = axis
    if not config["affine"]:
        settings |= {"center": False, "scale": False}
    layer = low.layer("BatchNormalization", settings)
    pairs = {"gamma": "weight", "beta": "bias"} if config["affine"] else {}
    for name, own in {**pairs, "moving_mean": "running_mean", "moving_variance": "running_var"}.items():
        low.weight(layer, name, [low.path(own)], same)
    low.note(
        f"{low.step.module}: PyTorch's running variance is the unbiased one, n / (n - 1) of Keras's, where n is the "
        "examples (and timesteps) of a batch: evaluation after training differs by that"
    )
    return Sym(low.apply(layer, sym.tensor), sym.shape, sym.axes)


@module("GroupNorm")
def _group_norm(low: Lowering, x: Held) -> Held:
    config = low.step.config
    sym = low.sym(x)
    axis = sym.axes[1]
    settings: dict[str, Any] = {"groups": config["num_groups"], "epsilon": config["eps"]}
    settings |= {} if axis == sym.rank - 1 else {"axis": axis}
    settings |= {} if config["affine"] else {"center": False, "scale": False}
    layer = low.layer("GroupNormalization", settings)
    if config["affine"]:
        low.weight(layer, "gamma", [low.path("weight")], same)
        low.weight(layer, "beta", [low.path("bias")], same)
    return Sym(low.apply(layer, sym.tensor), sym.shape, sym.axes)


def _single(value: Any) -> Any:
    return value[0] if isinstance(value, list | tuple) and len(value) == 1 else value


@module("Conv1d")
def _convolution(low: Lowering, x: Held) -> Held:
    config = low.step.config
    size, stride, dilation = (_single(config[name]) for name in ("kernel_size", "stride", "dilation"))
    padding = _single(config["padding"])
    if config["padding_mode"] != "zeros":
        raise low.refusal(f"{low.told(low.step)}: Keras's Conv1D pads with zeros")
    tensor = low.laid(x, (0, 2, 1))
    settings: dict[str, Any] = {"filters": config["out_channels"], "kernel_size": size}
    reach = dilation * (size - 1)
    if padding == "same" or (padding == reach / 2 and stride == 1):
        settings["padding"] = "same"
    elif padding not in (0, "valid"):
        tensor = low.emit("ops.pad", tensor, ((0, 0), (padding, padding), (0, 0)))
    settings |= {} if stride == 1 else {"strides": stride}
    settings |= {} if dilation == 1 else {"dilation_rate": dilation}
    settings |= {} if config["groups"] == 1 else {"groups": config["groups"]}
    settings |= {} if "bias" in config["parameters"] else {"use_bias": False}
    layer = low.layer("Conv1D", settings)
    low.weight(layer, "kernel", [low.path("weight")], lambda w: w.transpose(2, 1, 0))
    if "bias" in config["parameters"]:
        low.weight(layer, "bias", [low.path("bias")], same)
    return low.result(low.apply(layer, tensor), (0, 2, 1))


@module("MaxPool1d", "AvgPool1d")
def _pooling(low: Lowering, x: Held) -> Held:
    config = low.step.config
    kind = low.step.name.replace("Pool1d", "Pooling1D").replace("Avg", "Average")
    size, stride, padding = (_single(config[name]) for name in ("kernel_size", "stride", "padding"))
    if padding or config.get("ceil_mode") or _single(config.get("dilation", 1)) != 1 or config.get("return_indices"):
        raise low.refusal(f"{low.told(low.step)}: Keras's {kind} has neither such padding nor ceil_mode nor dilation")
    settings: dict[str, Any] = {"pool_size": size, **({} if stride == size else {"strides": stride})}
    layer = low.layer(kind, settings)
    return low.result(low.apply(layer, low.laid(x, (0, 2, 1))), (0, 2, 1))


@module("AdaptiveAvgPool1d", "AdaptiveMaxPool1d")
def _adaptive(low: Lowering, x: Held) -> Held:
    if _single(low.step.config["output_size"]) != 1:
        raise low.refusal(f"{low.told(low.step)}: Keras pools adaptively to one value alone")
    kind = "mean" if low.step.name == "AdaptiveAvgPool1d" else "max"
    return reduced(low, kind, x, -1, True)


@module("Flatten", "Unflatten")
def _flatten(low: Lowering, x: Held) -> Held:
    shape = low.step.shapes[0]
    return reshaped(low, x, shape)


@module("PReLU")
def _prelu(low: Lowering, x: Held) -> Held:
    sym = low.sym(x)
    name = low.path("weight")
    count = low.program.parameters[name].size
    shared = [axis for axis in range(1, sym.rank) if count == 1 or axis != sym.axes[1]]
    layer = low.layer("PReLU", {"shared_axes": shared} if shared else {})
    shape = tuple(1 if axis in shared else int(sym.shape[axis]) for axis in range(1, sym.rank))
    low.weight(layer, "alpha", [name], lambda w: np.broadcast_to(w.reshape(-1), (count,)).reshape(shape))
    return Sym(low.apply(layer, sym.tensor), sym.shape, sym.axes)


@module("MultiheadAttention")
def _multihead(
    low: Lowering, query: Held, key: Held, value: Held, key_padding_mask: Held = None, need_weights: bool = True,
    attn_mask: Held = None, average_attn_weights: bool = True, is_causal: bool = False,
) -> Held:  # fmt: skip
    config = low.step.config
    names = config["parameters"]
    if config["add_zero_attn"] or "bias_k" in names:
        raise low.refusal(f"{low.told(low.step)}: Keras's MultiHeadAttention adds neither biases nor zeros to the keys")
    heads, width = config["num_heads"], config["embed_dim"]
    size = width // heads
    biased = "in_proj_bias" in names
    settings: dict[str, Any] = {"num_heads": heads, "key_dim": size}
    settings |= {"dropout": config["dropout"]} if config["dropout"] else {}
    settings |= {} if biased else {"use_bias": False}
    layer = low.layer("MultiHeadAttention", settings)
    for row, part in enumerate(("query", "key", "value")):
        joined = "in_proj_weight" in names
        weight = low.path("in_proj_weight" if joined else f"{part[0]}_proj_weight")
        low.weight(layer, f"{part}/kernel", [weight], _heads(row if joined else 0, width, heads, size))
        if biased:
            low.weight(layer, f"{part}/bias", [low.path("in_proj_bias")], _bias_of_heads(row, width, heads, size))
    low.weight(layer, "output/kernel", [low.path("out_proj.weight")], lambda w: w.T.reshape(heads, size, width))
    if biased:
        low.weight(layer, "output/bias", [low.path("out_proj.bias")], same)
    order = (0, 1, 2) if config["batch_first"] else (1, 0, 2)
    q, k, v = (low.laid(each, order) for each in (query, key, value))
    keywords: dict[str, Any] = {} if k == v else {"key": k}
    mask = _attention_mask(low, key_padding_mask, attn_mask)
    keywords |= {} if mask is None else {"attention_mask": mask}
    weights = need_weights and bool(low.used(low.number, 1))
    keywords |= {"return_attention_scores": True} if weights else {}
    tensor = low.apply(layer, q, v, **keywords)
    results: list[Held] = [low.result(tensor, order)]
    if weights:
        scores = type(tensor)(tensor.call, 1)
        scores = low.emit("ops.mean", scores, axis=1) if average_attn_weights else scores
        results.append(low.result(scores, output=1))
    return results


def _heads(row: int, width: int, heads: int, size: int) -> Any:
    return lambda w: w[row * width : (row + 1) * width].T.reshape(-1, heads, size)


def _bias_of_heads(row: int, width: int, heads: int, size: int) -> Any:
    return lambda b: b[row * width : (row + 1) * width].reshape(heads, size)


def _attention_mask(low: Lowering, padding: Held, mask: Held) -> Any:
    """Where attention may look, of PyTorch's masks, which say where it may not."""
    allowed = []
    if padding is not None:
        seen = low.emit("ops.logical_not", low.plain(padding))
        allowed.append(low.emit("ops.expand_dims", seen, 1))
    if mask is not None:
        if not isinstance(mask, Fixed):
            raise low.refusal(f"{low.told(low.step)}: an attn_mask that is computed")
        array = mask.array
        if array.ndim != 2 or (array.dtype.kind != "b" and not set(np.unique(array)) <= {0.0, -np.inf}):
            raise low.refusal(f"{low.told(low.step)}: an attn_mask of other numbers than 0 and -inf, or for each head")
        allowed.append(low.literal(~array if array.dtype.kind == "b" else array == 0))
    if len(allowed) == 2:
        return low.emit("ops.logical_and", *allowed)
    return allowed[0] if allowed else None
