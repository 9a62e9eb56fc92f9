"""PyTorch parameters <-> the canonical dict of NumPy arrays; `keras_models/weights.py` is the mirror."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

Model = nn.Module

# The order in which PyTorch lays the gates one under the other in one parameter. A SimpleRNN has no gates.
GATES = {
    "simple_rnn": ("",),
    "lstm": ("input", "forget", "candidate", "output"),
    "gru": ("reset", "update", "candidate"),
}
# The order in which dropout masks for single gates come, Keras's.
MASK_GATES = {**GATES, "gru": ("update", "reset", "candidate")}


@dataclass(frozen=True)
class Layout:
    """Where the canonical tensors stand in one variable.

    The variable reshaped to `shape` holds one tensor, transposed if it is a kernel, for every index of its
    `group_axes`, in the order of `names`; only an embedding's table of rows is not `transposed`. The model adds
    `second_bias`, where there is one, to the variable.
    """

    variable: nn.Parameter
    names: tuple[str, ...]
    shape: tuple[int, ...]
    group_axes: tuple[int, ...]
    second_bias: nn.Parameter | None = None
    transposed: bool = True

    @property
    def other_axes(self) -> tuple[int, ...]:
        """The axes that lie inside one canonical tensor, kernels as (in, out)."""
        axes = [axis for axis in range(len(self.shape)) if axis not in self.group_axes]
        return tuple(reversed(axes)) if self.transposed else tuple(axes)

    def split(self, value: np.ndarray) -> dict[str, np.ndarray]:
        """Cut a value of the variable, or of its gradient, into canonical tensors."""
        grouped = np.asarray(value).reshape(self.shape).transpose(self.group_axes + self.other_axes)
        grouped = grouped.reshape(-1, *(self.shape[axis] for axis in self.other_axes))
        return {name: part.copy() for name, part in zip(self.names, grouped, strict=True)}

    def join(self, tensors: Mapping[str, np.ndarray]) -> np.ndarray:
        """Put canonical tensors together to a value of the variable; the inverse of `split`."""
        order = self.group_axes + self.other_axes
        grouped = np.stack([tensors[name] for name in self.names])
        grouped = grouped.reshape([self.shape[axis] for axis in order])
        return grouped.transpose(np.argsort(order)).reshape(self.variable.shape)

    def gradient(self) -> torch.Tensor:
        """Return the parameter's gradient; zeros where it got none, as what does not reach the loss has."""
        gradient = self.variable.grad
        return torch.zeros_like(self.variable) if gradient is None else gradient

    def value(self) -> torch.Tensor:
        """Return what the model computes with: the parameter, and its second bias added."""
        value = self.variable.detach()
        return value if self.second_bias is None else value + self.second_bias.detach()


def layouts(model: Model) -> list[Layout]:
    """List where every trained number stands in the canonical form, in one layout for each variable."""
    parts: list[Layout] = []
    if model.embedding is not None:
        # A table of rows by token, not a kernel: it is not transposed.
        weight = model.embedding.weight
        parts.append(Layout(weight, ("embedding/embeddings",), tuple(weight.shape), (), transposed=False))
    for index, layer in enumerate(model.layers):
        for direction, single in directions(layer):
            parts += _recurrent_layouts(model.settings.cell, single, f"layer{index}/{direction}")
        if model.normalizations:
            normalization = model.normalizations[index]
            parts.append(_plain_layout(normalization.weight, f"normalization{index}/gamma"))
            parts.append(_plain_layout(normalization.bias, f"normalization{index}/beta"))
    parts.append(_plain_layout(model.head.weight, "head/kernel"))
    parts.append(_plain_layout(model.head.bias, "head/bias"))
    return parts


def directions(layer: nn.Module) -> list[tuple[str, nn.Module]]:
    """Name the layers that a recurrent layer consists of by their direction."""
    if isinstance(layer, nn.ModuleDict):
        return [(name.removesuffix("_layer"), single) for name, single in layer.items()]
    return [("forward", layer)]


def _recurrent_layouts(cell: str, layer: nn.Module, prefix: str) -> list[Layout]:
    gates, units = GATES[cell], layer.hidden_size
    grouped, axes = ((len(gates), units), (0,)) if any(gates) else ((units,), ())
    kernels = {"kernel": layer.weight_ih_l0, "recurrent_kernel": layer.weight_hh_l0}
    parts = [
        Layout(parameter, _names(prefix, name, gates), (*grouped, parameter.shape[1]), axes)
        for name, parameter in kernels.items()
    ]
    first, second = getattr(layer, "bias_ih_l0", None), getattr(layer, "bias_hh_l0", None)
    if first is None:
        return parts
    if cell == "gru" and second is not None:
        biases = {"input_bias": first, "recurrent_bias": second}
        return parts + [Layout(bias, _names(prefix, name, gates), grouped, axes) for name, bias in biases.items()]
    return [*parts, Layout(first, _names(prefix, "bias", gates), grouped, axes, second)]


def _names(prefix: str, tensor: str, gates: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{prefix}/{tensor}/{gate}" if gate else f"{prefix}/{tensor}" for gate in gates)


def _plain_layout(parameter: nn.Parameter, name: str) -> Layout:
    return Layout(parameter, (name,), tuple(parameter.shape), ())


def to_canonical(model: Model) -> dict[str, np.ndarray]:
    """Read the model's weights as a flat dict of canonical tensors, kernels as (in, out)."""
    return {
        name: tensor for layout in layouts(model) for name, tensor in layout.split(layout.value().cpu().numpy()).items()
    }


@torch.no_grad()
def load_canonical(model: Model, tensors: Mapping[str, np.ndarray]) -> None:
    """Load canonical tensors into the model, all of them and nothing else.

    Raises ValueError naming every tensor that is missing, left over or of another shape.
    """
    check_names_and_shapes("canonical weights", "the model", to_canonical(model), tensors)
    for layout in layouts(model):
        layout.variable.copy_(torch.from_numpy(layout.join(tensors)))
        if layout.second_bias is not None:
            layout.second_bias.zero_()


def read_non_trainable(model: Model) -> dict[str, np.ndarray]:
    """Read what a step changes beside weights and slots: kept states, running figures of batch normalisations."""
    return {name: state.cpu().numpy().copy() for name, state in _non_trainable(model).items()}


@torch.no_grad()
def load_non_trainable(model: Model, tensors: Mapping[str, np.ndarray]) -> None:
    """Load what `read_non_trainable` returns, all of it and nothing else.

    Raises ValueError naming every tensor that is missing, left over or of another shape.
    """
    states = _non_trainable(model)
    check_names_and_shapes("canonical weights", "the model", states, tensors)
    for name, state in states.items():
        state.copy_(torch.from_numpy(tensors[name]))


def device_of(model: Model) -> torch.device:
    """Return the device that a model is on, to which all that it is given must go."""
    return next(model.parameters()).device


def _non_trainable(model: Model) -> dict[str, torch.Tensor]:
    states = {}
    for index in range(model.settings.layers):
        if model.settings.stateful:
            for part in model.settings.state_parts:
                states[f"layer{index}/forward/state/{part}"] = getattr(model, f"state{index}_{part}")
        if model.settings.normalization == "batch":
            normalization = model.normalizations[index]
            states[f"normalization{index}/moving_mean"] = normalization.running_mean
            states[f"normalization{index}/moving_variance"] = normalization.running_var
    return states


def check_names_and_shapes(what: str, where: str, expected: Mapping[str, Any], obtained: Mapping[str, Any]) -> None:
    """Raise ValueError naming every tensor that is missing, left over or of another shape."""
    problems = [f"{name} is missing" for name in expected if name not in obtained]
    problems += [f"{name} is not in {where}" for name in obtained if name not in expected]
    problems += [
        f"{name} has shape {tuple(obtained[name].shape)}, expected {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in obtained and tuple(obtained[name].shape) != tuple(tensor.shape)
    ]
    if problems:
        raise ValueError(f"{what} do not fit {where}: " + "; ".join(problems))


def group_norms(parts: list[Layout]) -> Callable[[list[torch.Tensor]], torch.Tensor]:
    """Return a function from tensors, one a layout, to the Euclidean norms of all canonical tensors."""

    def norms(values: list[torch.Tensor]) -> torch.Tensor:
        squares = []
        for layout, value in zip(parts, values, strict=True):
            grouped = value.square().view(layout.shape)
            squares.append(grouped.sum(dim=layout.other_axes).view(-1))
        return torch.cat(squares).sqrt_()

    return norms
