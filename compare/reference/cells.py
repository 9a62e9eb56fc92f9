"""SimpleRNN, LSTM and GRU at one timestep, forward and backward, written as their equations.

Inputs (batch, features), states and outputs (batch, units), weights in the canonical form. The backward passes apply
the chain rule to each equation in reverse order; `d_name` is the gradient of the loss with respect to `name`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from compare.config.gates import GATES
from compare.reference.activations import ACTIVATIONS, Activation
from compare.reference.rounding import Array

Weights = Mapping[str, Array]

# Of each weight, for every timestep: its gradient's rows, one an example, and what they are to be multiplied by, which
# is None of a bias.
Terms = dict[str, list[tuple[Array, Array | None]]]


@dataclass(frozen=True)
class Cell:
    """Which cell, with which activations; `reset_after` is GRU's."""

    kind: str
    activation: str = "tanh"
    recurrent_activation: str = "sigmoid"
    reset_after: bool = True


@dataclass(frozen=True)
class Layer:
    """What the timesteps of a layer have in common; weights are named without the layer's prefix.

    `input_drops` and `state_drops` are what multiplies the input and the state that each gate sees, at every timestep:
    (batch, gates, width) in the order of `GATES`, or of one gate where all share; None drops nothing.
    """

    cell: Cell
    weights: Weights
    input_drops: Array | None = None
    state_drops: Array | None = None

    @property
    def units(self) -> int:
        """The width of the state."""
        return next(len(weight) for name, weight in self.weights.items() if name.startswith("recurrent_kernel"))

    @property
    def has_two_biases(self) -> bool:
        """Whether both products have a bias of their own."""
        return self.cell.kind == "gru" and self.cell.reset_after

    @property
    def activation(self) -> Activation:
        """That of the candidate and of the output."""
        return ACTIVATIONS[self.cell.activation]

    @property
    def recurrent_activation(self) -> Activation:
        """That of the gates."""
        return ACTIVATIONS[self.cell.recurrent_activation]

    def drop_input(self, x: Array, gate: str) -> Array:
        """What a gate sees of the input; its gradient is dropped alike."""
        return x if self.input_drops is None else x * self._of_gate(self.input_drops, gate)

    def drop_state(self, h: Array, gate: str) -> Array:
        """What a gate sees of the state; its gradient is dropped alike."""
        return h if self.state_drops is None else h * self._of_gate(self.state_drops, gate)

    def _of_gate(self, drops: Array, gate: str) -> Array:
        return drops[:, 0 if drops.shape[1] == 1 else GATES[self.cell.kind].index(gate)]

    def biased(self, product: Array, bias: str) -> Array:
        """Add a bias, where the layer has one."""
        return product + self.weights[bias] if bias in self.weights else product


class Step(Protocol):
    """One timestep of a cell: the new state, and the gradients of what it was computed from."""

    h: Array
    c: Array

    def backward(self, d_h: Array, d_c: Array, terms: Terms) -> tuple[Array, Array, Array]:
        """Return the gradients of x and of h and c before, given those of the new h and c; add those of the weights."""


class Gate:
    """y = activation(x @ W + h @ U + b) of one gate, "" being that of a cell without gates."""

    def __init__(self, layer: Layer, name: str, activation: Activation, x: Array, h: Array) -> None:
        self.layer, self.name, self.activation = layer, name, activation
        self.x, self.h = layer.drop_input(x, name), layer.drop_state(h, name)
        z = self._sum()
        self.y = activation(z)
        # Gates of all timesteps are kept for the backward pass: half of what it takes is saved.
        self.z = None if activation.smooth else z

    def named(self, weight: str) -> str:
        """The gate's part of a weight."""
        return f"{weight}/{self.name}" if self.name else weight

    @property
    def kernel(self) -> Array:
        """W."""
        return self.layer.weights[self.named("kernel")]

    @property
    def recurrent_kernel(self) -> Array:
        """U."""
        return self.layer.weights[self.named("recurrent_kernel")]

    def _sum(self) -> Array:
        biased = self.layer.biased
        if self.layer.has_two_biases:
            return biased(self.x @ self.kernel, self.named("input_bias")) + self._from_h()
        return biased(self.x @ self.kernel + self.h @ self.recurrent_kernel, self.named("bias"))

    def _from_h(self) -> Array:
        return self.layer.biased(self.h @ self.recurrent_kernel, self.named("recurrent_bias"))

    def backward(self, d_y: Array, terms: Terms) -> tuple[Array, Array]:
        """Return the gradients of x and h; add those of W, U and b."""
        d_z = d_y * self.activation.slope(self.z, self.y)
        return self._backward(d_z, d_z, terms)

    def _backward(self, d_z: Array, d_from_h: Array, terms: Terms) -> tuple[Array, Array]:
        terms[self.named("kernel")].append((d_z, self.x))
        terms[self.named("recurrent_kernel")].append((d_from_h, self.h))
        for bias, d_bias in {"bias": d_z, "input_bias": d_z, "recurrent_bias": d_from_h}.items():
            if self.named(bias) in terms:
                terms[self.named(bias)].append((d_bias, None))
        d_x, d_h = d_z @ self.kernel.T, d_from_h @ self.recurrent_kernel.T
        return self.layer.drop_input(d_x, self.name), self.layer.drop_state(d_h, self.name)


class SimpleRNN:
    """h' = tanh(x @ W + h @ U + b). Source: Elman 1990; `keras.layers.SimpleRNNCell`."""

    def __init__(self, layer: Layer, x: Array, h: Array, c: Array) -> None:
        self.gate = Gate(layer, "", layer.activation, x, h)
        self.h, self.c = self.gate.y, c

    def backward(self, d_h: Array, d_c: Array, terms: Terms) -> tuple[Array, Array, Array]:
        """See `Step`."""
        return *self.gate.backward(d_h, terms), d_c


class LSTM:
    """c' = f * c + i * g and h' = o * tanh(c'), with gates i, f, o and candidate g.

    Source: Hochreiter and Schmidhuber 1997, Gers et al. 2000 (forget gate); `keras.layers.LSTMCell`.
    """

    def __init__(self, layer: Layer, x: Array, h: Array, c: Array) -> None:
        sigmoid, self.tanh = layer.recurrent_activation, layer.activation
        self.i = Gate(layer, "input", sigmoid, x, h)
        self.f = Gate(layer, "forget", sigmoid, x, h)
        self.g = Gate(layer, "candidate", self.tanh, x, h)
        self.o = Gate(layer, "output", sigmoid, x, h)
        self.c_before = c
        self.c = self.f.y * c + self.i.y * self.g.y
        self.tanh_c = self.tanh(self.c)
        self.h = self.o.y * self.tanh_c

    def backward(self, d_h: Array, d_c: Array, terms: Terms) -> tuple[Array, Array, Array]:
        """See `Step`."""
        i, f, g, o = self.i, self.f, self.g, self.o
        d_c = d_c + d_h * o.y * self.tanh.slope(self.c, self.tanh_c)
        d_x = d_h_before = np.zeros(())
        for gate, d_out, factor in ((i, d_c, g.y), (f, d_c, self.c_before), (g, d_c, i.y), (o, d_h, self.tanh_c)):
            d_x_of_gate, d_h_of_gate = gate.backward(d_out * factor, terms)
            d_x, d_h_before = d_x + d_x_of_gate, d_h_before + d_h_of_gate
        return d_x, d_h_before, d_c * f.y


class GRU:
    """h' = z * h + (1 - z) * g, with update gate z, reset gate r and candidate g.

    Source: Cho et al. 2014 (`ResetBefore`), Chung et al. 2014 footnote and cuDNN (`ResetAfter`);
    `keras.layers.GRUCell`.
    """

    def __init__(self, layer: Layer, x: Array, h: Array, c: Array) -> None:
        self.z = Gate(layer, "update", layer.recurrent_activation, x, h)
        self.r = Gate(layer, "reset", layer.recurrent_activation, x, h)
        candidate = ResetAfter if layer.cell.reset_after else ResetBefore
        self.g = candidate(layer, x, h, self.r.y)
        self.h_before, self.c = h, c
        self.h = self.z.y * h + (1 - self.z.y) * self.g.y

    def backward(self, d_h: Array, d_c: Array, terms: Terms) -> tuple[Array, Array, Array]:
        """See `Step`."""
        z, r, g = self.z, self.r, self.g
        d_z = d_h * (self.h_before - g.y)
        d_h_before = d_h * z.y
        d_x, d_h_of_g, d_r = g.backward_with_reset(d_h * (1 - z.y), terms)
        d_h_before = d_h_before + d_h_of_g
        for gate, d_gate in ((z, d_z), (r, d_r)):
            d_x_of_gate, d_h_of_gate = gate.backward(d_gate, terms)
            d_x, d_h_before = d_x + d_x_of_gate, d_h_before + d_h_of_gate
        return d_x, d_h_before, d_c


class ResetBefore(Gate):
    """GRU's candidate, tanh(x @ W + (r * h) @ U + b)."""

    def __init__(self, layer: Layer, x: Array, h: Array, r: Array) -> None:
        self.r, self.h_before = r, h
        super().__init__(layer, "candidate", layer.activation, x, r * h)

    def backward_with_reset(self, d_y: Array, terms: Terms) -> tuple[Array, Array, Array]:
        """Return the gradients of x, h and r; add those of the weights."""
        d_x, d_rh = self.backward(d_y, terms)
        d_r = d_rh * self.h_before
        return d_x, d_rh * self.r, d_r


class ResetAfter(Gate):
    """GRU's candidate, tanh(x @ W + b_i + r * (h @ U + b_r))."""

    def __init__(self, layer: Layer, x: Array, h: Array, r: Array) -> None:
        self.r = r
        super().__init__(layer, "candidate", layer.activation, x, h)

    def _sum(self) -> Array:
        from_x = self.layer.biased(self.x @ self.kernel, self.named("input_bias"))
        self.from_h = self._from_h()
        return from_x + self.r * self.from_h

    def backward_with_reset(self, d_y: Array, terms: Terms) -> tuple[Array, Array, Array]:
        """Return the gradients of x, h and r; add those of the weights."""
        d_z = d_y * self.activation.slope(self.z, self.y)
        d_from_h, d_r = d_z * self.r, d_z * self.from_h
        return *self._backward(d_z, d_from_h, terms), d_r


STEPS: dict[str, type[SimpleRNN | LSTM | GRU]] = {"simple_rnn": SimpleRNN, "lstm": LSTM, "gru": GRU}


def gates_of(step: Step) -> dict[str, Array]:
    """Return what each gate of a timestep lets through (batch, units), by its name; a SimpleRNN's state is "state"."""
    return {gate.name or "state": gate.y for gate in vars(step).values() if isinstance(gate, Gate)}
