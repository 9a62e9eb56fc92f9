"""Keras variables <-> the canonical dict of NumPy arrays; `torch_models/weights.py` is the mirror."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_models.layers import CELLS, directions, inner

Model = keras.Model

# The order in which Keras lays the gates side by side in one variable. A SimpleRNN has no gates.
GATES = {
    "simple_rnn": ("",),
    "lstm": ("input", "forget", "candidate", "output"),
    "gru": ("update", "reset", "candidate"),
}
# The order in which dropout masks for single gates come.
MASK_GATES = GATES


@dataclass(frozen=True)
class Layout:
    """Where the canonical tensors stand in one variable.

    The variable reshaped to `shape` holds one tensor for every index of its `group_axes`, in the order of `names`.
    """

    variable: keras.Variable
    names: tuple[str, ...]
    shape: tuple[int, ...]
    group_axes: tuple[int, ...]

    @property
    def other_axes(self) -> tuple[int, ...]:
        """The axes that lie inside one canonical tensor."""
        return tuple(axis for axis in range(len(self.shape)) if axis not in self.group_axes)

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


def layouts(model: Model) -> list[Layout]:
    """List where every trained number stands in the canonical form, in one layout for each variable.

    Raises TypeError for a variable without a canonical form.
    """
    parts: list[Layout] = []
    for layer in model.layers:
        if isinstance(inner(layer), keras.layers.RNN | keras.layers.Bidirectional):
            for direction, single in directions(layer):
                parts += _recurrent_layouts(_cell(single), single, f"{layer.name}/{direction}")
        else:
            parts += [
                _plain_layout(variable, f"{layer.name}/{variable.name}") for variable in layer.trainable_variables
            ]
    if len(parts) != len(model.trainable_variables):
        raise TypeError(f"model {model.name!r} has trainable variables without a canonical form")
    return parts


def _cell(layer: keras.layers.RNN) -> str:
    for cell, kind in CELLS.items():
        if isinstance(layer, kind):
            return cell
    raise TypeError(f"layer {layer.name!r} ({type(layer).__name__}) has no canonical form")


def _recurrent_layouts(cell: str, layer: keras.layers.RNN, prefix: str) -> list[Layout]:
    gates, units = GATES[cell], layer.units
    parts = []
    for variable in layer.trainable_variables:
        if cell == "simple_rnn":
            parts.append(_plain_layout(variable, f"{prefix}/{variable.name}"))
        elif variable.name == "bias" and len(variable.shape) == 2:
            # GRU with reset_after: one row is added to the input's product, the other to the state's.
            names = tuple(f"{prefix}/{bias}/{gate}" for bias in ("input_bias", "recurrent_bias") for gate in gates)
            parts.append(Layout(variable, names, (2, len(gates), units), (0, 1)))
        else:
            names = tuple(f"{prefix}/{variable.name}/{gate}" for gate in gates)
            rows = tuple(variable.shape[:-1])
            parts.append(Layout(variable, names, (*rows, len(gates), units), (len(rows),)))
    return parts


def _plain_layout(variable: keras.Variable, name: str) -> Layout:
    return Layout(variable, (name,), tuple(variable.shape), ())


def to_canonical(model: Model) -> dict[str, np.ndarray]:
    """Read the model's weights as a flat dict of canonical tensors, kernels as (in, out)."""
    return {
        name: tensor
        for layout in layouts(model)
        for name, tensor in layout.split(keras.ops.convert_to_numpy(layout.variable)).items()
    }


def load_canonical(model: Model, tensors: Mapping[str, np.ndarray]) -> None:
    """Load canonical tensors into the model, all of them and nothing else.

    Raises ValueError naming every tensor that is missing, left over or of another shape.
    """
    check_names_and_shapes("canonical weights", "the model", to_canonical(model), tensors)
    for layout in layouts(model):
        layout.variable.assign(layout.join(tensors))


def read_non_trainable(model: Model) -> dict[str, np.ndarray]:
    """Read what a step changes beside weights and slots: kept states, running figures of batch normalisations."""
    return {name: np.array(keras.ops.convert_to_numpy(state)) for name, state in _non_trainable(model).items()}


def load_non_trainable(model: Model, tensors: Mapping[str, np.ndarray]) -> None:
    """Load what `read_non_trainable` returns, all of it and nothing else.

    Raises ValueError naming every tensor that is missing, left over or of another shape.
    """
    states = _non_trainable(model)
    check_names_and_shapes("canonical weights", "the model", states, tensors)
    for name, state in states.items():
        state.assign(tensors[name])


def _non_trainable(model: Model) -> dict[str, keras.Variable]:
    states = {}
    for layer in map(inner, model.layers):
        if isinstance(layer, keras.layers.RNN) and layer.stateful:
            for part, state in zip("hc", layer.states, strict=False):
                states[f"{layer.name}/forward/state/{part}"] = state
        elif isinstance(layer, keras.layers.BatchNormalization):
            states |= {f"{layer.name}/{variable.name}": variable for variable in layer.non_trainable_variables}
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


def group_norms(parts: list[Layout]) -> Callable[[list[Any]], Any]:
    """Return a function from tensors, one a layout, to the Euclidean norms of all canonical tensors."""

    def norms(values: list[Any]) -> Any:
        squares = []
        for layout, value in zip(parts, values, strict=True):
            grouped = keras.ops.reshape(keras.ops.square(value), layout.shape)
            # Axis by axis: over several axes at once TensorFlow adds one by one, and loses 6e-4 of 512 x 512 numbers.
            for axis in reversed(layout.other_axes):
                grouped = keras.ops.sum(grouped, axis=axis)
            squares.append(keras.ops.reshape(grouped, (len(layout.names),)))
        return keras.ops.sqrt(keras.ops.concatenate(squares))

    return norms
