"""PyTorch parameters <-> the canonical dict of NumPy arrays; `keras_models/weights.py` is its mirror."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from torch_models.cells import GATES, Stepped
from torch_models.recurrent import Bidirectional, Recurrent


@dataclass(frozen=True)
class Layout:
    """Where the canonical tensors stand in one PyTorch parameter.

    The parameter reshaped to `shape` holds one tensor, transposed if it is a kernel, for every index of its
    `group_axes`, in the order of `names`; only an embedding's table of rows is not `transposed`. The model adds
    `second_bias`, where there is one, to the parameter.
    """

    parameter: nn.Parameter
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
        """Cut a value of the parameter, or of its gradient, into canonical tensors."""
        grouped = np.asarray(value).reshape(self.shape).transpose(self.group_axes + self.other_axes)
        grouped = grouped.reshape(-1, *(self.shape[axis] for axis in self.other_axes))
        return {name: part.copy() for name, part in zip(self.names, grouped, strict=True)}

    def join(self, tensors: dict[str, np.ndarray]) -> np.ndarray:
        """Put canonical tensors together to a value of the parameter; the inverse of `split`."""
        order = self.group_axes + self.other_axes
        grouped = np.stack([tensors[name] for name in self.names])
        grouped = grouped.reshape([self.shape[axis] for axis in order])
        return grouped.transpose(np.argsort(order)).reshape(self.parameter.shape)

    def gradient(self) -> torch.Tensor:
        """Return the parameter's gradient; zeros where it got none, as what does not reach the loss has."""
        gradient = self.parameter.grad
        return torch.zeros_like(self.parameter) if gradient is None else gradient

    def value(self) -> torch.Tensor:
        """Return what the model computes with: the parameter, and its second bias added."""
        value = self.parameter.detach()
        return value if self.second_bias is None else value + self.second_bias.detach()


def layouts(model: Recurrent) -> list[Layout]:
    """List where every parameter's numbers stand in the canonical form."""
    found: list[Layout] = []
    if model.embedding is not None:
        # A table of rows by token, not a kernel: it is not transposed.
        weight = model.embedding.weight
        found.append(Layout(weight, ("embedding/embeddings",), tuple(weight.shape), (), transposed=False))
    for index, layer in enumerate(model.layers):
        for direction, single in directions(layer):
            found += _recurrent_layouts(model.cell, single, f"layer{index}/{direction}")
        if model.normalizations:
            normalization = model.normalizations[index]
            found.append(_plain_layout(normalization.weight, f"normalization{index}/gamma"))
            found.append(_plain_layout(normalization.bias, f"normalization{index}/beta"))
    found.append(_plain_layout(model.head.weight, "head/kernel"))
    found.append(_plain_layout(model.head.bias, "head/bias"))
    return found


def directions(layer: nn.Module) -> list[tuple[str, nn.RNNBase | Stepped]]:
    """Name the layers that a layer consists of by their direction."""
    if isinstance(layer, Bidirectional):
        return [("forward", layer.forward_layer), ("backward", layer.backward_layer)]
    return [("forward", layer)]


def _recurrent_layouts(cell: str, layer: nn.RNNBase | Stepped, prefix: str) -> list[Layout]:
    gates = GATES[cell]
    units = layer.hidden_size
    found = []
    for name, parameter in {"kernel": layer.weight_ih_l0, "recurrent_kernel": layer.weight_hh_l0}.items():
        shape = (len(gates), units, parameter.shape[1]) if any(gates) else tuple(parameter.shape)
        found.append(Layout(parameter, _names(prefix, name, gates), shape, (0,) if any(gates) else ()))
    first, second = getattr(layer, "bias_ih_l0", None), getattr(layer, "bias_hh_l0", None)
    if first is None:
        return found
    shape, axes = ((len(gates), units), (0,)) if any(gates) else ((units,), ())
    if cell == "gru" and second is not None:
        biases = {"input_bias": first, "recurrent_bias": second}
        return found + [
            Layout(parameter, _names(prefix, bias, gates), shape, axes) for bias, parameter in biases.items()
        ]
    return [*found, Layout(first, _names(prefix, "bias", gates), shape, axes, second)]


def _names(prefix: str, tensor: str, gates: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{prefix}/{tensor}/{gate}" if gate else f"{prefix}/{tensor}" for gate in gates)


def _plain_layout(parameter: nn.Parameter, name: str) -> Layout:
    return Layout(parameter, (name,), tuple(parameter.shape), ())


def to_canonical(model: Recurrent) -> dict[str, np.ndarray]:
    """Read the model's weights as a flat dict of canonical tensors, kernels as (in, out)."""
    return {
        name: tensor for layout in layouts(model) for name, tensor in layout.split(layout.value().cpu().numpy()).items()
    }


@torch.no_grad()
def load_canonical(model: Recurrent, tensors: dict[str, np.ndarray]) -> None:
    """Load canonical tensors into the model, all of them and nothing else; second biases become zero.

    Raises ValueError naming every tensor that is missing, left over or of another shape.
    """
    found = layouts(model)
    expected = {
        name: part.shape for layout in found for name, part in layout.split(layout.value().cpu().numpy()).items()
    }
    check_names_and_shapes(expected, {name: tensor.shape for name, tensor in tensors.items()})
    for layout in found:
        layout.parameter.copy_(torch.from_numpy(layout.join(tensors)))
        if layout.second_bias is not None:
            layout.second_bias.zero_()


def read_non_trainable(model: Recurrent) -> dict[str, np.ndarray]:
    """Read what a step changes beside weights and slots: carried states, running figures of batch normalisations."""
    return {name: buffer.cpu().numpy().copy() for name, buffer in _carried(model).items()}


@torch.no_grad()
def load_non_trainable(model: Recurrent, tensors: dict[str, np.ndarray]) -> None:
    """Load what `read_carried` has read; raises ValueError naming what is missing, left over or of another shape."""
    buffers = _carried(model)
    check_names_and_shapes(
        {name: tuple(buffer.shape) for name, buffer in buffers.items()},
        {name: tensor.shape for name, tensor in tensors.items()},
    )
    for name, buffer in buffers.items():
        buffer.copy_(torch.from_numpy(tensors[name]))


def _carried(model: Recurrent) -> dict[str, torch.Tensor]:
    found = {}
    for index in range(len(model.layers)):
        if model.settings.stateful:
            for part in model.settings.state_parts:
                found[f"layer{index}/forward/state/{part}"] = getattr(model, f"carried{index}_{part}")
        if model.settings.normalization == "batch":
            normalization = model.normalizations[index]
            found[f"normalization{index}/moving_mean"] = normalization.running_mean
            found[f"normalization{index}/moving_variance"] = normalization.running_var
    return found


def check_names_and_shapes(expected: dict[str, tuple[int, ...]], obtained: dict[str, tuple[int, ...]]) -> None:
    """Raise ValueError naming every tensor that is missing, left over or of another shape."""
    problems = [f"{name} is missing" for name in expected if name not in obtained]
    problems += [f"{name} is not in the model" for name in obtained if name not in expected]
    problems += [
        f"{name} has shape {obtained[name]}, expected {shape}"
        for name, shape in expected.items()
        if name in obtained and obtained[name] != shape
    ]
    if problems:
        raise ValueError("canonical weights do not fit the model: " + "; ".join(problems))


def group_norms(found: list[Layout]) -> Callable[[list[torch.Tensor]], torch.Tensor]:
    """Return a function from tensors, one a layout, to the Euclidean norms of all canonical tensors."""

    def norms(values: list[torch.Tensor]) -> torch.Tensor:
        squares = []
        for layout, value in zip(found, values, strict=True):
            grouped = value.square().view(layout.shape)
            squares.append(grouped.sum(dim=layout.other_axes).view(-1))
        return torch.cat(squares).sqrt_() if squares else torch.empty(0)

    return norms
