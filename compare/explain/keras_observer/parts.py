"""The parts of a user's model that hold weights, with their settings; torch_observer/parts.py is its mirror."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras

NORMALIZATIONS = {
    keras.layers.LayerNormalization: "layer_normalization",
    keras.layers.BatchNormalization: "batch_normalization",
}
CELLS = {keras.layers.SimpleRNNCell: "simple_rnn", keras.layers.LSTMCell: "lstm", keras.layers.GRUCell: "gru"}


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


def kind_of(layer: Any) -> str | None:
    """Say what a layer is; None for one that is not known."""
    if isinstance(layer, keras.layers.RNN):
        return next((kind for known, kind in CELLS.items() if isinstance(layer.cell, known)), None)
    if isinstance(layer, keras.layers.Dense):
        return "dense"
    if isinstance(layer, keras.layers.Embedding):
        return "embedding"
    return next((kind for known, kind in NORMALIZATIONS.items() if isinstance(layer, known)), None)


def parts_of(model: Any) -> list[Part]:
    """List the parts of a model that is built."""
    parts: list[Part] = []
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
        kind = kind_of(layer)
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
        parts.append(Part(key, kind, layer, direction, wrapper))

    for layer in model.layers:
        visit(layer)
    return parts


def settings(part: Part) -> Mapping[str, Any]:
    """What is set in a layer that a PyTorch module may have otherwise."""
    layer = part.layer
    held = layer
    values: dict[str, Any] = {"trainable": bool(layer.trainable)}
    if part.kind in CELLS.values():
        held = cell = layer.cell
        values |= {
            "activation": _name_of(cell.activation),
            "recurrent_activation": _name_of(getattr(cell, "recurrent_activation", None)),
            "reset_after": bool(getattr(cell, "reset_after", True)),
            "return_sequences": bool(layer.return_sequences),
            "stateful": bool(layer.stateful),
            "dropout": float(cell.dropout),
            "recurrent_dropout": float(cell.recurrent_dropout),
        }
    if part.kind.endswith("normalization"):
        values |= {"epsilon": float(layer.epsilon), "momentum": getattr(layer, "momentum", None)}
    penalties = {}
    for name in ("kernel", "recurrent_kernel", "bias", "embeddings", "gamma", "beta"):
        regularizer = getattr(held, f"{name.replace('recurrent_kernel', 'recurrent')}_regularizer", None)
        if regularizer is not None:
            config = regularizer.get_config()
            penalties[name] = {"l1": float(config.get("l1", 0.0)), "l2": float(config.get("l2", 0.0))}
    return values | {"penalties": penalties}


def _name_of(function: Any) -> str | None:
    """The name of an activation, "tanh" for what has no other."""
    if function is None:
        return None
    return getattr(function, "__name__", None) or type(function).__name__
