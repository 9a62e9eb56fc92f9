"""The parts of a user's module that hold weights, in Keras's layout; keras_observer/parts.py is its mirror."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

# What is recognised, in the words that both sides use.
KINDS: dict[type[nn.Module], str] = {
    nn.RNN: "simple_rnn",
    nn.LSTM: "lstm",
    nn.GRU: "gru",
    nn.RNNCell: "simple_rnn",
    nn.LSTMCell: "lstm",
    nn.GRUCell: "gru",
    nn.Linear: "dense",
    nn.Embedding: "embedding",
    nn.LayerNorm: "layer_normalization",
    nn.BatchNorm1d: "batch_normalization",
}
CELLS = (nn.RNNCell, nn.LSTMCell, nn.GRUCell)
SEQUENCES = (nn.RNN, nn.LSTM, nn.GRU)

# Where PyTorch's gates stand in Keras's order: GRU is reset, update, candidate here and update, reset, candidate there.
GATE_ORDER = {"simple_rnn": (0,), "lstm": (0, 1, 2, 3), "gru": (1, 0, 2)}

Read = Callable[[torch.Tensor], np.ndarray | None]


@dataclass(eq=False)
class Part:
    """One layer's worth of a module: one layer and direction of an RNN, a cell, or a layer without time.

    `tensors` maps a name in Keras's layout to the parameters or buffers that hold it.
    """

    path: str
    kind: str
    module: nn.Module
    layer: int = 0
    direction: str = "forward"
    tensors: dict[str, list[str]] = field(default_factory=dict)
    bias_rows: int = 1

    @property
    def key(self) -> str:
        """What the part is called between processes."""
        return f"{self.path}|{self.layer}|{self.direction}"

    def tensor(self, attribute: str) -> Any:
        """The parameter or buffer of this name."""
        return getattr(self.module, attribute)

    def parameter_name(self, attribute: str) -> str:
        """The name that `named_parameters` has for it."""
        return f"{self.path}.{attribute}" if self.path else attribute

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor in Keras's layout, its bias with one row."""
        first = tuple(self.tensor(self.tensors[name][0]).shape)
        return first[::-1] if name in ("kernel", "recurrent_kernel") else first

    def read(self, name: str, read: Read) -> np.ndarray | None:
        """Put a tensor into Keras's layout from what `read` finds for its parameters; None where it finds none."""
        values = [read(self.tensor(attribute)) for attribute in self.tensors[name]]
        if name == "bias" and len(values) == 2:
            if self.kind == "gru" and self.bias_rows == 2:
                if values[0] is None or values[1] is None:
                    return None
                return np.stack([self._to_keras(value) for value in values if value is not None])
            present = [self._to_keras(value) for value in values if value is not None]
            return sum(present[1:], present[0]) if present else None
        if values[0] is None:
            return None
        return self._to_keras(values[0], transpose=name in ("kernel", "recurrent_kernel"))

    def read_gradient(self, name: str, read: Read) -> np.ndarray | None:
        """As `read`, of gradients: both biases of an LSTM have the same one, which is that of their sum."""
        attributes = self.tensors[name]
        if name == "bias" and len(attributes) == 2 and not (self.kind == "gru" and self.bias_rows == 2):
            values = [read(self.tensor(attribute)) for attribute in attributes]
            gradients = [value for value in values if value is not None]
            return self._to_keras(gradients[0]) if gradients else None
        return self.read(name, read)

    @torch.no_grad()
    def write(self, name: str, value: np.ndarray) -> None:
        """Load a tensor given in Keras's layout."""
        attributes = self.tensors[name]
        if name == "bias" and len(attributes) == 2:
            self.bias_rows = 2 if value.ndim == 2 else 1
            rows = [value[0], value[1]] if value.ndim == 2 else [value, np.zeros_like(value)]
        else:
            rows = [value]
        transpose = name in ("kernel", "recurrent_kernel")
        for attribute, row in zip(attributes, rows, strict=True):
            target = self.tensor(attribute)
            target.copy_(torch.from_numpy(np.ascontiguousarray(self._to_torch(row, transpose))).to(target))

    def _to_keras(self, value: np.ndarray, transpose: bool = False) -> np.ndarray:
        order = GATE_ORDER.get(self.kind)
        if order is not None:
            blocks = value.reshape(len(order), -1, *value.shape[1:])
            value = blocks[list(order)].reshape(value.shape)
        return value.T if transpose else value

    def _to_torch(self, value: np.ndarray, transpose: bool) -> np.ndarray:
        value = value.T if transpose else value
        # Each order here is its own inverse.
        return self._to_keras(value)


def kind_of(module: nn.Module) -> str | None:
    """Say what a module is; None for one that is not known."""
    return next((kind for known, kind in KINDS.items() if isinstance(module, known)), None)


def parts_of(path: str, module: nn.Module) -> list[Part]:
    """List the parts that a module consists of."""
    kind = kind_of(module)
    if kind is None:
        return []
    if isinstance(module, SEQUENCES):
        parts = []
        for layer in range(module.num_layers):
            for direction in ("forward", "backward")[: 2 if module.bidirectional else 1]:
                end = f"_l{layer}" + ("_reverse" if direction == "backward" else "")
                tensors = {"kernel": [f"weight_ih{end}"], "recurrent_kernel": [f"weight_hh{end}"]}
                if module.bias:
                    tensors["bias"] = [f"bias_ih{end}", f"bias_hh{end}"]
                parts.append(Part(path, kind, module, layer, direction, tensors))
        return parts
    if isinstance(module, CELLS):
        tensors = {"kernel": ["weight_ih"], "recurrent_kernel": ["weight_hh"]}
        if module.bias:
            tensors["bias"] = ["bias_ih", "bias_hh"]
    elif kind == "dense":
        tensors = {"kernel": ["weight"]} | ({"bias": ["bias"]} if module.bias is not None else {})
    elif kind == "embedding":
        tensors = {"embeddings": ["weight"]}
    else:
        tensors = {
            name: [attribute]
            for name, attribute in {
                "gamma": "weight",
                "beta": "bias",
                "moving_mean": "running_mean",
                "moving_variance": "running_var",
            }.items()
            if getattr(module, attribute, None) is not None
        }
    return [Part(path, kind, module, tensors=tensors)]


def settings(part: Part) -> Mapping[str, Any]:
    """What is set in a part that a Keras layer may have otherwise."""
    module: Any = part.module
    if part.kind in GATE_ORDER:
        return {
            "batch_first": getattr(module, "batch_first", None),
            "cell": isinstance(module, CELLS),
            "activation": getattr(module, "nonlinearity", "tanh"),
        }
    if part.kind.endswith("normalization"):
        return {"epsilon": module.eps, "momentum": getattr(module, "momentum", None)}
    return {}
