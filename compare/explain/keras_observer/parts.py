"""The layers of a user's model that hold weights, with their settings; `compare/explain/torch_observer/parts.py` is its mirror."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras

NORMALIZATIONS = {
    keras.layers.LayerNormalization: "layer_normalization",
    keras.layers.BatchNormalization: "batch_normalization",
}
CELLS = {keras.layers.SimpleRNNCell: "simple_rnn", keras.layers.LSTMCell: "lstm", keras.layers.GRUCell: "gru"}

# What Keras calls the optimizer rules whose choices are known, and the choices that are always the same.
RULES: dict[str, tuple[str, dict[str, Any]]] = {
    "Adam": ("adam", {"epsilon_placement": "before"}),
    "AdamW": ("adam", {"epsilon_placement": "before"}),
    "Adamax": ("adamax", {"epsilon_placement": "outside"}),
    "Nadam": ("nadam", {"epsilon_placement": "after", "momentum_decay": 1.0}),
    "SGD": ("sgd", {"momentum_form": "inside", "dampening": 0.0}),
    "RMSprop": ("rmsprop", {"epsilon_placement": "inside", "momentum_form": "inside"}),
    "Adagrad": ("adagrad", {"epsilon_placement": "inside"}),
    "Adadelta": ("adadelta", {}),
    "Lion": ("lion", {}),
}
CHOICES = ("beta_1", "beta_2", "rho", "epsilon", "momentum", "nesterov", "centered", "amsgrad")


@dataclass(eq=False)
class Part:
    """One layer with weights; a direction of a Bidirectional layer is a part of its own."""

    key: str
    kind: str
    layer: Any
    direction: str
    wrapper: Any = None

    @property
    def tensors(self) -> dict[str, Any]:
        """The variables by name."""
        held = self.layer.cell if self.kind in CELLS.values() else self.layer
        return {variable.name: variable for variable in held.weights if "seed" not in variable.path}


def parts_of(model: Any) -> list[Part]:
    """List the parts of a model that is built."""
    found: list[Part] = []
    wrappers: dict[int, Any] = {}
    names: dict[str, int] = {}

    def visit(layer: Any) -> None:
        if isinstance(layer, keras.layers.Bidirectional):
            for inner in (layer.forward_layer, layer.backward_layer):
                wrappers[id(inner)] = layer
                visit(inner)
            return
        if isinstance(layer, keras.layers.TimeDistributed):
            if isinstance(layer.layer, keras.layers.Dense):
                add("dense", layer.layer, layer)
            return
        kind = _kind(layer)
        if kind is not None:
            add(kind, layer, wrappers.get(id(layer)))
            return
        for inner in getattr(layer, "_layers", []):
            visit(inner)

    def add(kind: str, layer: Any, wrapper: Any) -> None:
        direction = "backward" if getattr(layer, "go_backwards", False) and wrapper is not None else "forward"
        name = layer.name if wrapper is None else f"{wrapper.name}/{layer.name}"
        names[name] = names.get(name, 0) + 1
        key = name if names[name] == 1 else f"{name}:{names[name]}"
        found.append(Part(key, kind, layer, direction, wrapper))

    for layer in model.layers:
        visit(layer)
    return found


def _kind(layer: Any) -> str | None:
    if isinstance(layer, keras.layers.RNN):
        return next((kind for known, kind in CELLS.items() if isinstance(layer.cell, known)), None)
    if isinstance(layer, keras.layers.Dense):
        return "dense"
    if isinstance(layer, keras.layers.Embedding):
        return "embedding"
    return next((kind for known, kind in NORMALIZATIONS.items() if isinstance(layer, known)), None)


def settings(part: Part) -> Mapping[str, Any]:
    """What is set in a layer that a PyTorch module may have otherwise."""
    layer = part.layer
    found: dict[str, Any] = {"trainable": bool(layer.trainable), "dtype": str(layer.dtype_policy.compute_dtype)}
    if part.kind in CELLS.values():
        cell = layer.cell
        found |= {
            "units": cell.units,
            "bias": bool(cell.use_bias),
            "activation": name_of(cell.activation),
            "recurrent_activation": name_of(getattr(cell, "recurrent_activation", None)),
            "reset_after": bool(getattr(cell, "reset_after", True)),
            "return_sequences": bool(layer.return_sequences),
            "stateful": bool(layer.stateful),
            "dropout": float(cell.dropout),
            "recurrent_dropout": float(cell.recurrent_dropout),
            "merge_mode": getattr(part.wrapper, "merge_mode", None),
        }
        held = cell
    else:
        held = layer
    if part.kind == "dense":
        found["activation"] = name_of(layer.activation)
    if part.kind.endswith("normalization"):
        found |= {"epsilon": float(layer.epsilon), "momentum": getattr(layer, "momentum", None)}
    penalties = {}
    for name in ("kernel", "recurrent_kernel", "bias", "embeddings", "gamma", "beta"):
        regularizer = getattr(held, f"{name.replace('recurrent_kernel', 'recurrent')}_regularizer", None)
        if regularizer is not None:
            config = regularizer.get_config()
            penalties[name] = {"l1": float(config.get("l1", 0.0)), "l2": float(config.get("l2", 0.0))}
    return found | {"penalties": penalties}


def name_of(function: Any) -> str | None:
    """The name of an activation, "tanh" for what has no other."""
    if function is None:
        return None
    return getattr(function, "__name__", None) or type(function).__name__


def rule_of(optimizer: Any) -> dict[str, Any] | None:
    """Say what an optimizer computes; None for one that is not known."""
    known = RULES.get(type(optimizer).__name__)
    if known is None:
        return None
    rule, fixed = known
    decay = float(optimizer.weight_decay or 0.0)
    found = {"rule": rule, "coupled_decay": 0.0, "decoupled_decay": decay, **fixed}
    for name in CHOICES:
        if hasattr(optimizer, name):
            value = getattr(optimizer, name)
            found[name] = value if isinstance(value, bool) else float(value)
    if hasattr(optimizer, "initial_accumulator_value"):
        found["initial_accumulator"] = float(optimizer.initial_accumulator_value)
    return found


def clipping_of(optimizer: Any) -> dict[str, Any]:
    """Say how an optimizer clips gradients."""
    for attribute, kind in (("global_clipnorm", "global_norm"), ("clipnorm", "norm"), ("clipvalue", "value")):
        limit = getattr(optimizer, attribute, None)
        if limit is not None:
            return {"kind": kind, "limit": float(limit)}
    return {"kind": "none", "limit": None}


def loss_of(model: Any) -> dict[str, Any]:
    """Say which loss a model was compiled with; its name is None where it is the user's own function."""
    given = model.loss
    loss = keras.losses.get(given) if isinstance(given, str) else given
    if isinstance(loss, keras.losses.Loss):
        config = loss.get_config()
        function = getattr(loss, "fn", None)
        name = getattr(function, "__name__", None)
        arguments = {key: config[key] for key in ("from_logits", "delta") if key in config}
        arguments |= {k: v for k, v in getattr(loss, "_fn_kwargs", {}).items() if k in ("from_logits", "delta")}
        return {"name": name, "arguments": arguments, "class": type(loss).__name__, "reduction": loss.reduction}
    name = getattr(loss, "__name__", None)
    own = loss is not None and getattr(loss, "__module__", "").startswith("keras")
    return {"name": name if own else None, "arguments": {}, "class": name, "reduction": "sum_over_batch_size"}
