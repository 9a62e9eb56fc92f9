"""Layers of features: dense, embedding, dropout, normalisation, convolution, pooling, shapes and merges."""

from collections.abc import Callable, Mapping
from typing import Any

from compare.port.graph import Call, Tensor
from compare.port.torch_writer.activations import activated, activation_layer, name_of
from compare.port.torch_writer.code import Module, Refused, literal, size

ACTIVATIONS = ("Activation", "ReLU", "LeakyReLU", "ELU")

BATCH_NORM = '''
class BatchNorm(nn.Module):
    """Batch normalisation of the last axis, as Keras has it: the running variance is the biased one."""

    def __init__(self, width, momentum, eps, affine=True):
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.weight = nn.Parameter(torch.ones(width)) if affine else None
        self.bias = nn.Parameter(torch.zeros(width)) if affine else None
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))

    def forward(self, x):
        rows = x.flatten(0, -2)
        if not self.training:
            rows = F.batch_norm(rows, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
            return rows.view_as(x)
        with torch.no_grad():
            variance, mean = torch.var_mean(rows, 0, correction=0)
            self.running_mean.lerp_(mean, 1 - self.momentum)
            self.running_var.lerp_(variance, 1 - self.momentum)
        return F.batch_norm(rows, None, None, self.weight, self.bias, True, 0.0, self.eps).view_as(x)
'''
BATCH_NORM_FIXED = '''
class FixedBatchNorm(nn.Module):
    """Batch normalisation that is not trained: it uses its running figures in training too, as in Keras."""

    def __init__(self, width, momentum, eps, affine=True):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width)) if affine else None
        self.bias = nn.Parameter(torch.zeros(width)) if affine else None
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))

    def forward(self, x):
        rows = x.flatten(0, -2)
        rows = F.batch_norm(rows, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return rows.view_as(x)
'''
BATCH_NORM_MASKED = '''
def masked_batch_norm(norm, x, mask):
    """Batch normalisation whose mean and variance are those of the timesteps where the mask is True, as in Keras."""
    if not norm.training:
        return norm(x)
    rows = x[mask]
    variance, mean = torch.var_mean(rows, 0, correction=0)
    with torch.no_grad():
        norm.running_mean.lerp_(mean, 1 - norm.momentum)
        norm.running_var.lerp_(variance, 1 - norm.momentum)
    x = (x - mean) / (variance + norm.eps).sqrt()
    return x if norm.weight is None else x * norm.weight + norm.bias
'''


def only(call: Call) -> Any:
    """The one thing that a layer is given."""
    return call.arguments[0] if call.arguments else next(iter(call.keywords.values()))


def dense(module: Module, call: Call) -> None:
    """Dense, with its activation."""
    config = module.layer_of(call).config
    features, units = module.shape(only(call))[-1], config["units"]
    bias = bool(config.get("use_bias", True))
    name, path = str(call.layer), module.path_of(call)
    known = name in module.attributes
    attribute = module.submodule(name, lambda: f"nn.Linear({features}, {units}{'' if bias else ', bias=False'})")
    if not known:
        module.weight(f"{attribute[5:]}.weight", f"{path}kernel", lambda v: v.T)
        if bias:
            module.weight(f"{attribute[5:]}.bias", f"{path}bias")
    act = name_of(config.get("activation"), call)
    module.assign(call, _activated(module, act, f"{attribute}({module.text(only(call))})"))


def _activated(module: Module, act: str, text: str) -> str:
    if act == "squareplus":  # its text has the value three times
        name = module.temporary("z")
        module.line(f"{name} = {text}")
        text = name
    return activated(module.file, act, text)


def embedding(module: Module, call: Call) -> None:
    """Embedding; its mask is a call of its own."""
    config = module.layer_of(call).config
    name, path = str(call.layer), module.path_of(call)
    known = name in module.attributes
    attribute = module.submodule(name, lambda: f"nn.Embedding({config['input_dim']}, {config['output_dim']})")
    if not known:
        module.weight(f"{attribute[5:]}.weight", f"{path}embeddings")
    text = module.text(only(call))
    module.assign(call, f"{attribute}({text if 'int' in module.dtype(only(call)) else f'{text}.long()'})")


def masking(module: Module, call: Call) -> None:
    """Masking: timesteps of nothing but the value become zero."""
    value = float(module.layer_of(call).config.get("mask_value", 0.0))
    x = module.text(only(call))
    if value == 0.0:
        module.alias(Tensor(call.name), x)
    else:
        module.file.imports.add("torch")
        module.assign(call, f"torch.where(({x} != {literal(value)}).any(-1, keepdim=True), {x}, 0.0)")


def dropout(module: Module, call: Call) -> None:
    """Dropout, with the same mask along axes where its noise_shape is 1."""
    config = module.layer_of(call).config
    rate, noise, x = float(config["rate"]), config.get("noise_shape"), module.text(only(call))
    if not rate:
        module.alias(Tensor(call.name), x)
    elif noise is None:
        attribute = module.submodule(str(call.layer), lambda: f"nn.Dropout({literal(rate)})")
        module.assign(call, f"{attribute}({x})")
    elif len(noise) == 3 and noise[1] == 1 and noise[2] != 1:
        _spatial(module, call, rate)
    else:
        raise Refused(call, "a noise_shape other than (batch, 1, features)", {"noise_shape": noise})


def _spatial(module: Module, call: Call, rate: float) -> None:
    module.file.imports.add("F")
    x = module.text(only(call))
    module.assign(call, f"F.dropout1d({x}.transpose(1, 2), {literal(rate)}, self.training).transpose(1, 2)")


def spatial_dropout(module: Module, call: Call) -> None:
    """SpatialDropout1D."""
    rate = float(module.layer_of(call).config["rate"])
    if rate:
        _spatial(module, call, rate)
    else:
        module.alias(Tensor(call.name), module.text(only(call)))


def layer_norm(module: Module, call: Call) -> None:
    """LayerNormalization of the last axes."""
    config, x = module.layer_of(call).config, only(call)
    shape = module.shape(x)
    axes = config.get("axis", -1)
    axes = sorted(axis % len(shape) for axis in (axes if isinstance(axes, list) else [axes]))
    if axes != list(range(len(shape) - len(axes), len(shape))):
        raise Refused(call, "LayerNormalization of other than the last axes", {"axis": config["axis"]})
    if config.get("rms_scaling"):
        raise Refused(call, "rms_scaling", {"rms_scaling": True})
    sizes = [shape[axis] for axis in axes]
    scale, center = bool(config.get("scale", True)), bool(config.get("center", True))
    options = f", eps={config['epsilon']!r}"
    options += "" if scale or center else ", elementwise_affine=False"
    options += ", bias=False" if scale and not center else ""
    name, path = str(call.layer), module.path_of(call)
    known = name in module.attributes
    width = str(sizes[0]) if len(sizes) == 1 else f"({size([n or 0 for n in sizes])})"
    attribute = module.submodule(name, lambda: f"nn.LayerNorm({width}{options})")
    if not known and (scale or center):
        if scale:
            module.weight(f"{attribute[5:]}.weight", f"{path}gamma")
        else:
            raise Refused(call, "center without scale", {"scale": False})
        if center:
            module.weight(f"{attribute[5:]}.bias", f"{path}beta")
    module.assign(call, f"{attribute}({module.text(x)})")


def batch_norm(module: Module, call: Call) -> None:
    """BatchNormalization of the last axis; a class of the file's own, since PyTorch keeps the unbiased variance."""
    config, x = module.layer_of(call).config, only(call)
    shape = module.shape(x)
    if config.get("axis", -1) % len(shape) != len(shape) - 1:
        raise Refused(call, "BatchNormalization of other than the last axis", {"axis": config["axis"]})
    scale, center = bool(config.get("scale", True)), bool(config.get("center", True))
    if scale != center or config.get("renorm"):
        raise Refused(call, "gamma without beta, or renorm", {"scale": scale, "center": center})
    module.file.imports |= {"torch", "F"}
    fixed = config.get("trainable") is False
    own = module.file.helper(*(("FixedBatchNorm", BATCH_NORM_FIXED) if fixed else ("BatchNorm", BATCH_NORM)))
    name, path = str(call.layer), module.path_of(call)
    known = name in module.attributes
    options = f"{shape[-1]}, {config['momentum']!r}, {config['epsilon']!r}{'' if scale else ', affine=False'}"
    attribute = module.submodule(name, lambda: f"{own}({options})")
    if not known:
        pairs = [("running_mean", "moving_mean"), ("running_var", "moving_variance")]
        for theirs, ours in (*pairs, *([("weight", "gamma"), ("bias", "beta")] if scale else [])):
            module.weight(f"{attribute[5:]}.{theirs}", f"{path}{ours}")
    if call.keywords.get("mask") is not None and len(shape) == 3 and not fixed:
        masked = module.file.helper("masked_batch_norm", BATCH_NORM_MASKED)
        module.assign(call, f"{masked}({attribute}, {module.text(x)}, {module.text(call.keywords['mask'])})")
    else:
        module.assign(call, f"{attribute}({module.text(x)})")


def group_norm(module: Module, call: Call) -> None:
    """GroupNormalization of the last axis."""
    config, x = module.layer_of(call).config, only(call)
    shape = module.shape(x)
    if config.get("axis", -1) % len(shape) != len(shape) - 1:
        raise Refused(call, "GroupNormalization of other than the last axis", {"axis": config["axis"]})
    if not (config.get("scale", True) and config.get("center", True)):
        raise Refused(call, "GroupNormalization without scale or center")
    groups = shape[-1] if config["groups"] == -1 else config["groups"]
    name, path = str(call.layer), module.path_of(call)
    known = name in module.attributes
    attribute = module.submodule(name, lambda: f"nn.GroupNorm({groups}, {shape[-1]}, eps={config['epsilon']!r})")
    if not known:
        module.weight(f"{attribute[5:]}.weight", f"{path}gamma")
        module.weight(f"{attribute[5:]}.bias", f"{path}beta")
    text = module.text(x)
    text = f"{attribute}({text})" if len(shape) == 2 else f"{attribute}({text}.movedim(-1, 1)).movedim(1, -1)"
    module.assign(call, text)


def conv1d(module: Module, call: Call) -> None:
    """Conv1D of any padding."""
    config, x = module.layer_of(call).config, only(call)
    kernel, stride, dilation = (int(config[key][0]) for key in ("kernel_size", "strides", "dilation_rate"))
    if config.get("data_format") == "channels_first":
        raise Refused(call, "channels first", {"data_format": "channels_first"})
    features, groups = module.shape(x)[-1], int(config.get("groups", 1))
    options = [f", {name}={value}" for name, value in (("stride", stride), ("dilation", dilation), ("groups", groups))]
    text = "".join(option for option, value in zip(options, (stride, dilation, groups), strict=True) if value != 1)
    same = config["padding"] == "same"
    text += ', padding="same"' if same and stride == 1 else ""
    text += "" if config.get("use_bias", True) else ", bias=False"
    name, path = str(call.layer), module.path_of(call)
    known = name in module.attributes
    attribute = module.submodule(name, lambda: f"nn.Conv1d({features}, {config['filters']}, {kernel}{text})")
    if not known:
        module.weight(f"{attribute[5:]}.weight", f"{path}kernel", lambda v: v.transpose(2, 1, 0))
        if config.get("use_bias", True):
            module.weight(f"{attribute[5:]}.bias", f"{path}bias")
    moved = f"{module.text(x)}.transpose(1, 2)"
    span = dilation * (kernel - 1)
    if config["padding"] == "causal":
        module.file.imports.add("F")
        moved = f"F.pad({moved}, ({span}, 0))" if span else moved
    elif same and stride > 1:
        moved = f"F.pad({moved}, {_same_padding(module, call, span + 1, stride)})"
    act = name_of(config.get("activation"), call)
    module.assign(call, _activated(module, act, f"{attribute}({moved}).transpose(1, 2)"))


def _same_padding(module: Module, call: Call, window: int, stride: int) -> str:
    module.file.imports.add("F")
    length = module.shape(only(call))[1]
    if length is None:
        raise Refused(call, 'padding="same" with strides over a length that is not known')
    total = max((-(-length // stride) - 1) * stride + window - length, 0)
    return f"({total // 2}, {total - total // 2})"


def pooling(module: Module, call: Call) -> None:
    """MaxPooling1D and AveragePooling1D."""
    config = module.layer_of(call).config
    window, stride = (int(config[key][0]) for key in ("pool_size", "strides"))
    average = call.kind == "AveragePooling1D"
    if config.get("data_format") == "channels_first":
        raise Refused(call, "channels first", {"data_format": "channels_first"})
    module.file.imports.add("F")
    x = f"{module.text(only(call))}.transpose(1, 2)"
    function = "F.avg_pool1d" if average else "F.max_pool1d"
    if config["padding"] == "same":
        padding = _same_padding(module, call, window, stride)
        if padding != "(0, 0)":
            if average:
                raise Refused(call, 'padding="same" of AveragePooling1D where the windows do not fit')
            x = f'F.pad({x}, {padding}, value=float("-inf"))'
    module.assign(call, f"{function}({x}, {window}, {stride}).transpose(1, 2)")


def global_pooling(module: Module, call: Call) -> None:
    """GlobalAveragePooling1D, with its mask, and GlobalMaxPooling1D."""
    config, x = module.layer_of(call).config, module.text(only(call))
    if config.get("data_format") == "channels_first":
        raise Refused(call, "channels first", {"data_format": "channels_first"})
    keep = ", keepdim=True" if config.get("keepdims") else ""
    mask = call.keywords.get("mask")
    if call.kind == "GlobalMaxPooling1D":
        module.assign(call, f"{x}.amax(1{keep})")
    elif mask is None:
        module.assign(call, f"{x}.mean(1{keep})")
    else:
        weight = module.temporary("weight")
        module.line(f"{weight} = {module.text(mask)}[..., None].float()")
        module.assign(call, f"({x} * {weight}).sum(1{keep}) / {weight}.sum(1{keep})")


# Shapes


def reshape(module: Module, call: Call) -> None:
    """Reshape and Flatten."""
    x = module.text(only(call))
    if call.kind == "Flatten":
        module.assign(call, f"{x}.flatten(1)" if len(module.shape(only(call))) > 1 else f"{x}[:, None]")
        return
    target = module.layer_of(call).config["target_shape"]
    module.assign(call, f"{x}.reshape(len({x}), {', '.join(map(str, target))})")


def permute(module: Module, call: Call) -> None:
    """Permute."""
    dims = module.layer_of(call).config["dims"]
    module.assign(call, f"{module.text(only(call))}.permute(0, {', '.join(map(str, dims))})")


def repeat_vector(module: Module, call: Call) -> None:
    """RepeatVector."""
    count = module.layer_of(call).config["n"]
    module.assign(call, f"{module.text(only(call))}[:, None].expand(-1, {count}, -1)")


def padded(module: Module, call: Call) -> None:
    """ZeroPadding1D, Cropping1D and UpSampling1D."""
    config, x = module.layer_of(call).config, module.text(only(call))
    if call.kind == "UpSampling1D":
        module.assign(call, f"{x}.repeat_interleave({config['size']}, 1)")
        return
    key = "padding" if call.kind == "ZeroPadding1D" else "cropping"
    left, right = config[key] if isinstance(config[key], list) else [config[key]] * 2
    if call.kind == "ZeroPadding1D":
        module.file.imports.add("F")
        module.assign(call, f"F.pad({x}, (0, 0, {left}, {right}))")
    else:
        module.assign(call, f"{x}[:, {left}:{-right if right else ''}]")


# Merges


def merge(module: Module, call: Call) -> None:
    """Add, Subtract, Multiply, Average, Maximum, Minimum: of the inputs, broadcast."""
    parts = [module.text(part) for part in only(call)]
    if call.keywords.get("mask"):
        _masked_merge(module, call, parts)
        return
    ranks = {len(module.shape(part)) for part in only(call)}
    if len(ranks) > 1:
        raise Refused(call, "inputs of different ranks")
    sign = {"Add": " + ", "Subtract": " - ", "Multiply": " * ", "Average": " + "}.get(call.kind)
    if sign is not None:
        text = sign.join(parts)
        module.assign(call, f"({text}) / {len(parts)}" if call.kind == "Average" else text)
        return
    module.file.imports.add("torch")
    text = parts[0]
    for part in parts[1:]:
        text = f"torch.{call.kind.lower()}({text}, {part})"
    module.assign(call, text)


def _masked_merge(module: Module, call: Call, parts: list[str]) -> None:
    """A product, or the largest or smallest: what is masked in one input is left out of it, as Keras does."""
    masks = [None if mask is None else f"{module.text(mask)}[..., None]" for mask in call.keywords["mask"]]
    module.file.imports.add("torch")
    if call.kind == "Multiply":
        kept = [x if mask is None else f"torch.where({mask}, {x}, 1.0)" for x, mask in zip(parts, masks, strict=True)]
        text = " * ".join(kept)
        given = [mask for mask in masks if mask is not None]
        whole = f"torch.where({' | '.join(given)}, {text}, 0.0)" if len(given) == len(parts) else text
        module.assign(call, whole)
        return
    if len(parts) != 2:
        raise Refused(call, "masks of more than two inputs")
    (a, b), (left, right) = parts, masks
    other = b if right is None else f"torch.where({right}, {b}, {a})"
    name = module.temporary("other")
    module.line(f"{name} = {other}")
    first = a if left is None else f"torch.where({left}, {a}, {name})"
    module.assign(call, f"torch.{call.kind.lower()}({first}, {name})")


def concatenate(module: Module, call: Call) -> None:
    """Concatenate."""
    axis = module.layer_of(call).config.get("axis", -1)
    module.file.imports.add("torch")
    module.assign(call, f"torch.cat([{', '.join(module.text(part) for part in only(call))}], {axis})")


def dot(module: Module, call: Call) -> None:
    """Dot of two tensors along an axis of each."""
    config, (left, right) = module.layer_of(call).config, only(call)
    axes = config["axes"]
    ranks = [len(module.shape(part)) for part in (left, right)]
    pair = axes if isinstance(axes, list) else [axes, axes]
    pair = [axis % rank for axis, rank in zip(pair, ranks, strict=True)]
    if config.get("normalize") or ranks not in ([2, 2], [3, 3]):
        raise Refused(call, "Dot that is normalized, or of ranks other than 2 and 3", {"normalize": True})
    texts = [module.text(part) for part in (left, right)]
    if ranks == [2, 2]:
        module.assign(call, f"({texts[0]} * {texts[1]}).sum(-1, keepdim=True)")
        return
    a = texts[0] if pair[0] == 2 else f"{texts[0]}.transpose(1, 2)"
    b = texts[1] if pair[1] == 1 else f"{texts[1]}.transpose(1, 2)"
    module.assign(call, f"{a} @ {b}")


def activation(module: Module, call: Call) -> None:
    """Activation and the activation layers."""
    config = module.layer_of(call).config
    function: Callable[[str], str] = activation_layer(module.file, call.kind, config, call)
    module.assign(call, function(module.text(only(call))))


def softmax(module: Module, call: Call) -> None:
    """Softmax along an axis, of what a mask lets through."""
    config, x = module.layer_of(call).config, module.text(only(call))
    axis = config.get("axis", -1)
    if not isinstance(axis, int):
        raise Refused(call, "Softmax along several axes", {"axis": axis})
    module.file.imports.add("torch")
    mask = call.keywords.get("mask")
    if mask is not None:
        raise Refused(call, "Softmax with a mask")
    module.assign(call, f"torch.softmax({x}, {axis})")


def prelu(module: Module, call: Call) -> None:
    """PReLU whose slopes are one for each feature."""
    layer, x = module.layer_of(call), only(call)
    alpha = layer.weights["alpha"]
    if alpha.size != alpha.shape[-1]:
        raise Refused(call, "PReLU with a slope for each timestep; give shared_axes=[1]", dict(_shared(layer.config)))
    name, path = str(call.layer), module.path_of(call)
    known = name in module.attributes
    attribute = module.attribute(name)
    module.file.imports.add("torch")
    if not known:
        module.init.append(f"self.{attribute} = nn.Parameter(torch.empty({alpha.size}))")
        module.weight(attribute, f"{path}alpha", lambda v: v.ravel())
    text = module.text(x)
    module.assign(call, f"torch.where({text} > 0, {text}, self.{attribute} * {text})")


def _shared(config: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"shared_axes": config.get("shared_axes")}


def identity(module: Module, call: Call) -> None:
    """What changes nothing that is computed: Identity, ActivityRegularization without a penalty."""
    module.alias(Tensor(call.name), module.text(only(call)))


HANDLERS: dict[str, Callable[[Module, Call], None]] = {
    "Dense": dense,
    "Embedding": embedding,
    "Masking": masking,
    "Dropout": dropout,
    "SpatialDropout1D": spatial_dropout,
    "LayerNormalization": layer_norm,
    "BatchNormalization": batch_norm,
    "GroupNormalization": group_norm,
    "Conv1D": conv1d,
    "MaxPooling1D": pooling,
    "AveragePooling1D": pooling,
    "GlobalAveragePooling1D": global_pooling,
    "GlobalMaxPooling1D": global_pooling,
    "Reshape": reshape,
    "Flatten": reshape,
    "Permute": permute,
    "RepeatVector": repeat_vector,
    "ZeroPadding1D": padded,
    "Cropping1D": padded,
    "UpSampling1D": padded,
    "Concatenate": concatenate,
    "Dot": dot,
    "Softmax": softmax,
    "PReLU": prelu,
    "Identity": identity,
    **dict.fromkeys(("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum"), merge),
    **dict.fromkeys(ACTIVATIONS, activation),
}
