"""Layers of features: dense, embedding, dropout, convolution, pooling and activations."""

from collections.abc import Callable, Mapping
from typing import Any

from compare.port.graph import Call, Tensor
from compare.port.torch_writer.activations import activated, activation_layer, name_of
from compare.port.torch_writer.code import Module, Refused, literal, only

ACTIVATIONS = ("Activation", "ReLU", "LeakyReLU", "ELU")


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
    if call.keywords.get("mask") is not None:
        raise Refused(call, "it was given a mask of timesteps, which it takes for one of its last axis; mask nothing")
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
    "Conv1D": conv1d,
    "MaxPooling1D": pooling,
    "AveragePooling1D": pooling,
    "GlobalAveragePooling1D": global_pooling,
    "GlobalMaxPooling1D": global_pooling,
    "Softmax": softmax,
    "PReLU": prelu,
    "Identity": identity,
    **dict.fromkeys(ACTIVATIONS, activation),
}
