"""SimpleRNN, LSTM and GRU, forward and backward through time, written as their equations.

Inputs (batch, time, features), states and outputs (batch, units), weights in the canonical form. The backward passes
apply the chain rule to each equation in reverse order; `d_name` is the gradient of the loss with respect to `name`.
The gradient of a weight is one sum over all examples and timesteps, its terms being collected on the way.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from compare.reference.activations import ACTIVATIONS
from compare.reference.rounding import EXACT, Rounding

Array = np.ndarray
Weights = Mapping[str, Array]

# Of a weight at one timestep, for every example: its gradient's rows, and what they are to be multiplied by (`None` of
# a bias).
Terms = dict[str, tuple[Array, Array | None]]


@dataclass(frozen=True)
class Cell:
    """Which cell, with which activations; `reset_after` is GRU's."""

    kind: str
    activation: str = "tanh"
    recurrent_activation: str = "sigmoid"
    reset_after: bool = True


@dataclass(frozen=True)
class Drops:
    """Dropout within a cell: what multiplies the input and the state that each gate sees, at every timestep.

    Both are (batch, gates, width), in Keras's order of the gates, or of one gate where all share; None drops nothing.
    """

    cell: Cell
    inputs: Array | None = None
    state: Array | None = None

    def of_input(self, x: Array, gate: str, rounding: Rounding) -> Array:
        """What a gate sees of the input; its gradient is dropped alike."""
        return x if self.inputs is None else rounding(x * self._gate(self.inputs, gate))

    def of_state(self, h: Array, gate: str, rounding: Rounding) -> Array:
        """What a gate sees of the state; its gradient is dropped alike."""
        return h if self.state is None else rounding(h * self._gate(self.state, gate))

    def _gate(self, masks: Array, gate: str) -> Array:
        return masks[:, 0 if masks.shape[1] == 1 else GATES[self.cell.kind].index(gate.removeprefix("/"))]


GATES = {
    "simple_rnn": ("",),
    "lstm": ("input", "forget", "candidate", "output"),
    "gru": ("update", "reset", "candidate"),
}


@dataclass(frozen=True)
class Pass:
    """A layer's forward pass: outputs (batch, time, units), last states, and what the backward pass needs."""

    outputs: Array
    state: dict[str, Array]
    steps: list[dict[str, Array]]
    drops: Drops
    mask: Array | None
    zero_output_for_mask: bool


def forward(
    cell: Cell,
    weights: Weights,
    prefix: str,
    inputs: Array,
    rounding: Rounding = EXACT,
    state: Mapping[str, Array] | None = None,
    mask: Array | None = None,
    zero_output_for_mask: bool = False,
    drops: Drops | None = None,
) -> Pass:
    """Run one layer over all timesteps, from a zero state unless one is given ("h" and, of an LSTM, "c").

    Where the mask (batch, time) is False the state is kept, and the output is the one before (zeros at first) or zero.
    Source: `keras.layers.RNN`.
    """
    step = {"simple_rnn": _simple_rnn, "lstm": _lstm, "gru": _gru}[cell.kind]
    named = _named(weights, prefix)
    drops = drops or Drops(cell)
    units = next(value.shape[0] for name, value in named.items() if name.startswith("recurrent_kernel"))
    zeros = np.zeros((inputs.shape[0], units))
    now = {"h": zeros, "c": zeros} | dict(state or {})
    outputs: list[Array] = []
    steps = []
    for time in range(inputs.shape[1]):
        values = step(cell, named, inputs[:, time], now["h"], now["c"], drops, rounding)
        steps.append(values)
        if mask is None:
            now = values
            outputs.append(values["h"])
            continue
        counts = mask[:, time, None]
        now = {part: np.where(counts, values[part], now[part]) for part in ("h", "c")}
        repeated = zeros if zero_output_for_mask or not outputs else outputs[-1]
        outputs.append(np.where(counts, values["h"], repeated))
    last = {part: now[part] for part in ("h", "c")}
    return Pass(np.stack(outputs, axis=1), last, steps, drops, mask, zero_output_for_mask)


def backward(
    cell: Cell, weights: Weights, prefix: str, passed: Pass, d_outputs: Array, rounding: Rounding = EXACT
) -> tuple[Array, dict[str, Array]]:
    """Return the gradients of the inputs and of the layer's weights, given those of the outputs at every timestep."""
    step = {"simple_rnn": _d_simple_rnn, "lstm": _d_lstm, "gru": _d_gru}[cell.kind]
    named = _named(weights, prefix)
    terms: dict[str, list[tuple[Array, Array | None]]] = {name: [] for name in named}
    d_inputs: list[Array] = []
    d_h = d_c = d_repeated = np.zeros_like(passed.outputs[:, 0])
    for time in reversed(range(len(passed.steps))):
        d_output = rounding(d_outputs[:, time] + d_repeated)
        if passed.mask is None:
            counts: Any = True
        else:
            counts = passed.mask[:, time, None]
            # A timestep that does not count hands its gradients on: the output's to the output that it repeats.
            d_repeated = np.where(counts | passed.zero_output_for_mask, 0.0, d_output)
        d_new_h, d_new_c = np.where(counts, rounding(d_h + d_output), 0.0), np.where(counts, d_c, 0.0)
        d_x, d_h_before, d_c_before, d_step = step(
            cell, named, passed.steps[time], d_new_h, d_new_c, passed.drops, rounding
        )
        d_h, d_c = np.where(counts, d_h_before, d_h), np.where(counts, d_c_before, d_c)
        d_inputs.insert(0, d_x)
        for name, term in d_step.items():
            terms[name].append(term)
    return np.stack(d_inputs, axis=1), {f"{prefix}/{name}": _summed(found, rounding) for name, found in terms.items()}


def _summed(terms: Sequence[tuple[Array, Array | None]], rounding: Rounding) -> Array:
    rows, factors = zip(*terms, strict=True)
    if factors[0] is None:
        return rounding.sum_over_examples(np.concatenate(rows))
    return rounding.sum_over_examples(np.concatenate(rows), np.concatenate(factors))


def _named(weights: Weights, prefix: str) -> dict[str, Array]:
    return {name.removeprefix(f"{prefix}/"): value for name, value in weights.items() if name.startswith(f"{prefix}/")}


def _affine(w: Weights, gate: str, x: Array, h: Array, rounding: Rounding) -> Array:
    """x @ W + h @ U + b, for one gate ("/input") or for a cell without gates ("")."""
    product = rounding(rounding.matmul(x, w[f"kernel{gate}"]) + rounding.matmul(h, w[f"recurrent_kernel{gate}"]))
    return _biased(w, f"bias{gate}", product, rounding)


def _biased(w: Weights, bias: str, product: Array, rounding: Rounding) -> Array:
    """Add a bias, where the layer has one."""
    return rounding(product + w[bias]) if bias in w else product


def _d_bias(w: Weights, bias: str, d_z: Array) -> Terms:
    return {bias: (d_z, None)} if bias in w else {}


def _d_affine(w: Weights, gate: str, x: Array, h: Array, d_z: Array, rounding: Rounding) -> tuple[Array, Array, Terms]:
    """Return the gradients of x, of h and of the weights of `_affine`, given that of its result."""
    d_weights = {f"kernel{gate}": (d_z, x), f"recurrent_kernel{gate}": (d_z, h), **_d_bias(w, f"bias{gate}", d_z)}
    d_x = rounding.matmul(d_z, w[f"kernel{gate}"].T)
    return d_x, rounding.matmul(d_z, w[f"recurrent_kernel{gate}"].T), d_weights


def _activate(name: str, z: Array, rounding: Rounding) -> Array:
    return rounding.function(ACTIVATIONS[name].function(z))


def _d_activate(name: str, z: Array, y: Array, d_y: Array, rounding: Rounding) -> Array:
    return rounding(d_y * rounding(ACTIVATIONS[name].derivative(z, y)))


def _simple_rnn(
    cell: Cell, w: Weights, x: Array, h: Array, c: Array, drops: Drops, rounding: Rounding
) -> dict[str, Array]:
    """h' = tanh(x @ W + h @ U + b). Source: Elman 1990; `keras.layers.SimpleRNNCell`."""
    z = _affine(w, "", drops.of_input(x, "", rounding), drops.of_state(h, "", rounding), rounding)
    return {"x": x, "h_before": h, "z": z, "h": _activate(cell.activation, z, rounding), "c": c}


def _d_simple_rnn(
    cell: Cell, w: Weights, s: dict[str, Array], d_h: Array, d_c: Array, drops: Drops, rounding: Rounding
) -> Any:
    d_z = _d_activate(cell.activation, s["z"], s["h"], d_h, rounding)
    x, h = drops.of_input(s["x"], "", rounding), drops.of_state(s["h_before"], "", rounding)
    d_x, d_h_before, d_weights = _d_affine(w, "", x, h, d_z, rounding)
    return drops.of_input(d_x, "", rounding), drops.of_state(d_h_before, "", rounding), d_c, d_weights


def _lstm(cell: Cell, w: Weights, x: Array, h: Array, c: Array, drops: Drops, rounding: Rounding) -> dict[str, Array]:
    """c' = f * c + i * g and h' = o * tanh(c'), with gates i, f, o and candidate g.

    Source: Hochreiter and Schmidhuber 1997, Gers et al. 2000 (forget gate); `keras.layers.LSTMCell`.
    """
    s = {"x": x, "h_before": h, "c_before": c}
    for gate in ("input", "forget", "candidate", "output"):
        activation = cell.activation if gate == "candidate" else cell.recurrent_activation
        seen = drops.of_input(x, gate, rounding), drops.of_state(h, gate, rounding)
        s[f"z_{gate}"] = _affine(w, f"/{gate}", *seen, rounding)
        s[gate] = _activate(activation, s[f"z_{gate}"], rounding)
    s["c"] = rounding(rounding(s["forget"] * c) + rounding(s["input"] * s["candidate"]))
    s["squashed"] = _activate(cell.activation, s["c"], rounding)
    s["h"] = rounding(s["output"] * s["squashed"])
    return s


def _d_lstm(
    cell: Cell, w: Weights, s: dict[str, Array], d_h: Array, d_c: Array, drops: Drops, rounding: Rounding
) -> Any:
    d_squashed = rounding(d_h * s["output"])
    d_c = rounding(d_c + _d_activate(cell.activation, s["c"], s["squashed"], d_squashed, rounding))
    d_gates = {
        "input": d_c * s["candidate"],
        "forget": d_c * s["c_before"],
        "candidate": d_c * s["input"],
        "output": d_h * s["squashed"],
    }
    d_x, d_h_before = np.zeros_like(s["x"]), np.zeros_like(d_h)
    d_weights: Terms = {}
    for gate, d_gate in d_gates.items():
        activation = cell.activation if gate == "candidate" else cell.recurrent_activation
        d_z = _d_activate(activation, s[f"z_{gate}"], s[gate], rounding(d_gate), rounding)
        x, h = drops.of_input(s["x"], gate, rounding), drops.of_state(s["h_before"], gate, rounding)
        d_x_gate, d_h_gate, d_of_gate = _d_affine(w, f"/{gate}", x, h, d_z, rounding)
        d_x = rounding(d_x + drops.of_input(d_x_gate, gate, rounding))
        d_h_before = rounding(d_h_before + drops.of_state(d_h_gate, gate, rounding))
        d_weights |= d_of_gate
    return d_x, d_h_before, rounding(d_c * s["forget"]), d_weights


def _gru(cell: Cell, w: Weights, x: Array, h: Array, c: Array, drops: Drops, rounding: Rounding) -> dict[str, Array]:
    """h' = z * h + (1 - z) * candidate, with update gate z and reset gate r.

    candidate = tanh(x @ W + b_i + r * (h @ U + b_r)) with `reset_after`, else tanh(x @ W + (r * h) @ U + b).
    Source: Cho et al. 2014 (before), Chung et al. 2014 footnote and cuDNN (after); `keras.layers.GRUCell`.
    """
    s = {"x": x, "h_before": h, "c": c}
    for gate in ("update", "reset"):
        x_gate, h_gate = drops.of_input(x, gate, rounding), drops.of_state(h, gate, rounding)
        if cell.reset_after:
            from_x = _from(w, "kernel", "input_bias", gate, x_gate, rounding)
            from_h = _from(w, "recurrent_kernel", "recurrent_bias", gate, h_gate, rounding)
            s[f"z_{gate}"] = rounding(from_x + from_h)
        else:
            s[f"z_{gate}"] = _affine(w, f"/{gate}", x_gate, h_gate, rounding)
        s[gate] = _activate(cell.recurrent_activation, s[f"z_{gate}"], rounding)
    x_gate, h_gate = drops.of_input(x, "candidate", rounding), drops.of_state(h, "candidate", rounding)
    if cell.reset_after:
        from_x = _from(w, "kernel", "input_bias", "candidate", x_gate, rounding)
        s["from_h"] = _from(w, "recurrent_kernel", "recurrent_bias", "candidate", h_gate, rounding)
        s["z_candidate"] = rounding(from_x + rounding(s["reset"] * s["from_h"]))
    else:
        s["reset_h"] = rounding(s["reset"] * h_gate)
        s["z_candidate"] = _affine(w, "/candidate", x_gate, s["reset_h"], rounding)
    s["candidate"] = _activate(cell.activation, s["z_candidate"], rounding)
    s["h"] = rounding(rounding(s["update"] * h) + rounding(rounding(1 - s["update"]) * s["candidate"]))
    return s


def _from(w: Weights, kernel: str, bias: str, gate: str, values: Array, rounding: Rounding) -> Array:
    return _biased(w, f"{bias}/{gate}", rounding.matmul(values, w[f"{kernel}/{gate}"]), rounding)


def _d_gru(
    cell: Cell, w: Weights, s: dict[str, Array], d_h: Array, d_c: Array, drops: Drops, rounding: Rounding
) -> Any:
    x, h = s["x"], s["h_before"]
    d_update = rounding(d_h * rounding(h - s["candidate"]))
    d_h_before = rounding(d_h * s["update"])
    d_candidate = rounding(d_h * rounding(1 - s["update"]))
    d_z = _d_activate(cell.activation, s["z_candidate"], s["candidate"], d_candidate, rounding)
    x_gate, h_gate = drops.of_input(x, "candidate", rounding), drops.of_state(h, "candidate", rounding)
    d_weights: Terms = {}
    if cell.reset_after:
        d_from_h = rounding(d_z * s["reset"])
        d_reset = rounding(d_z * s["from_h"])
        d_weights |= {"kernel/candidate": (d_z, x_gate), "recurrent_kernel/candidate": (d_from_h, h_gate)}
        d_weights |= _d_bias(w, "input_bias/candidate", d_z) | _d_bias(w, "recurrent_bias/candidate", d_from_h)
        d_x_gate = rounding.matmul(d_z, w["kernel/candidate"].T)
        d_h_gate = rounding.matmul(d_from_h, w["recurrent_kernel/candidate"].T)
    else:
        d_x_gate, d_reset_h, d_of_gate = _d_affine(w, "/candidate", x_gate, s["reset_h"], d_z, rounding)
        d_weights |= d_of_gate
        d_reset = rounding(d_reset_h * h_gate)
        d_h_gate = rounding(d_reset_h * s["reset"])
    d_x = drops.of_input(d_x_gate, "candidate", rounding)
    d_h_before = rounding(d_h_before + drops.of_state(d_h_gate, "candidate", rounding))
    for gate, d_gate in {"update": d_update, "reset": d_reset}.items():
        d_z = _d_activate(cell.recurrent_activation, s[f"z_{gate}"], s[gate], d_gate, rounding)
        x_gate, h_gate = drops.of_input(x, gate, rounding), drops.of_state(h, gate, rounding)
        d_weights |= {f"kernel/{gate}": (d_z, x_gate), f"recurrent_kernel/{gate}": (d_z, h_gate)}
        for bias in ("input_bias", "recurrent_bias") if cell.reset_after else ("bias",):
            d_weights |= _d_bias(w, f"{bias}/{gate}", d_z)
        d_x_gate = rounding.matmul(d_z, w[f"kernel/{gate}"].T)
        d_h_gate = rounding.matmul(d_z, w[f"recurrent_kernel/{gate}"].T)
        d_x = rounding(d_x + drops.of_input(d_x_gate, gate, rounding))
        d_h_before = rounding(d_h_before + drops.of_state(d_h_gate, gate, rounding))
    return d_x, d_h_before, d_c, d_weights
