"""Keras's activations as PyTorch expressions."""

from collections.abc import Callable, Mapping
from typing import Any

from compare.port.graph import Call
from compare.port.torch_writer.code import File, Refused, literal

TORCH = ("relu", "sigmoid", "tanh", "exp", "selu", "celu", "square", "abs")
FUNCTIONAL = {
    "elu": "elu",
    "gelu": "gelu",
    "silu": "silu",
    "swish": "silu",
    "softplus": "softplus",
    "softsign": "softsign",
    "hard_sigmoid": "hardsigmoid",
    "hard_silu": "hardswish",
    "hard_swish": "hardswish",
    "hard_tanh": "hardtanh",
    "mish": "mish",
    "relu6": "relu6",
    "log_sigmoid": "logsigmoid",
    "tanh_shrink": "tanhshrink",
    "soft_shrink": "softshrink",
    "hard_shrink": "hardshrink",
}
OTHERS: dict[str, str] = {
    "linear": "{x}",
    "exponential": "torch.exp({x})",
    "softmax": "torch.softmax({x}, -1)",
    "log_softmax": "torch.log_softmax({x}, -1)",
    "leaky_relu": "F.leaky_relu({x}, 0.2)",
    "squareplus": "({x} + torch.sqrt({x}.square() + 4)) / 2",
}
# Activations whose text has the value several times: it must be a name.
REPEATED = ("squareplus",)


def name_of(activation: Any, call: Call) -> str:
    """The name of an activation as a configuration has it; raises Refused for a user's own."""
    if activation is None:
        return "linear"
    if isinstance(activation, Mapping):
        held = activation.get("config")
        activation = held if isinstance(held, str) else activation.get("class_name")
    if str(activation) not in {*TORCH, *FUNCTIONAL, *OTHERS}:
        needed = "write it, and port the model with a linear activation in its place"
        raise Refused(call, f"the activation {activation!r} has no counterpart here: {needed}")
    return str(activation)


def activated(file: File, name: str, text: str) -> str:
    """The expression of an activation of what the text says."""
    if name in FUNCTIONAL:
        file.imports.add("F")
        return f"F.{FUNCTIONAL[name]}({text})"
    if name in OTHERS:
        if "torch." in OTHERS[name]:
            file.imports.add("torch")
        elif "F." in OTHERS[name]:
            file.imports.add("F")
        return OTHERS[name].format(x=text)
    file.imports.add("torch")
    return f"torch.{name}({text})"


def activation_layer(file: File, kind: str, config: Mapping[str, Any], call: Call) -> Callable[[str], str]:
    """What an activation layer makes of an expression."""
    if kind == "Activation":
        name = name_of(config["activation"], call)
        if name in REPEATED:
            return lambda x: activated(file, name, x)
        return lambda x: activated(file, name, x)
    if kind == "ELU" and config.get("alpha", 1.0) != 1.0:
        file.imports.add("F")
        return lambda x: f"F.elu({x}, {literal(config['alpha'])})"
    if kind == "LeakyReLU":
        file.imports.add("F")
        return lambda x: f"F.leaky_relu({x}, {literal(config.get('negative_slope', 0.3))})"
    if kind == "ReLU":
        return _relu(file, config, call)
    return lambda x: activated(file, kind.lower(), x)


def _relu(file: File, config: Mapping[str, Any], call: Call) -> Callable[[str], str]:
    slope, threshold = config.get("negative_slope") or 0.0, config.get("threshold") or 0.0
    limit = config.get("max_value")
    if threshold:
        raise Refused(call, "a threshold of ReLU has no counterpart", {"threshold": threshold})
    if slope:
        file.imports.add("F")
        base = "F.leaky_relu({x}, " + literal(slope) + ")"
    else:
        file.imports.add("torch")
        base = "torch.relu({x})"
    limited = base if limit is None else f"{base}.clamp(max={literal(limit)})"
    return lambda x: limited.format(x=x)
