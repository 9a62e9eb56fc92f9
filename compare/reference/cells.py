"""SimpleRNN, LSTM and GRU, forward and backward through time, written as their equations.

Inputs (batch, time, features), states and outputs (batch, units), weights in the canonical form. The backward passes
apply the chain rule to each equation in reverse order; `d_name` is the gradient of the loss with respect to `name`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from compare.reference.activations import ACTIVATIONS
from compare.reference.rounding import EXACT, Rounding

Array = np.ndarray
Weights = Mapping[str, Array]


@dataclass(frozen=True)
class Cell:
    """Which cell, with which activations; `reset_after` is GRU's."""

    kind: str
    activation: str = "tanh"
    recurrent_activation: str = "sigmoid"
    reset_after: bool = True


@dataclass(frozen=True)
class Pass:
    """A layer's forward pass: outputs (batch, time, units) and what the backward pass needs."""

    outputs: Array
    steps: list[dict[str, Array]]


def forward(cell: Cell, weights: Weights, prefix: str, inputs: Array, rounding: Rounding = EXACT) -> Pass:
    """Run one layer over all timesteps from a zero state."""
    step = {"simple_rnn": _simple_rnn, "lstm": _lstm, "gru": _gru}[cell.kind]
    named = _named(weights, prefix)
    units = next(value.shape[0] for name, value in named.items() if name.startswith("recurrent_kernel"))
    state = {"h": np.zeros((inputs.shape[0], units), inputs.dtype)}
    state["c"] = state["h"]
    steps = []
    for time in range(inputs.shape[1]):
        step_values = step(cell, named, inputs[:, time], state["h"], state["c"], rounding)
        steps.append(step_values)
        state = step_values
    return Pass(np.stack([values["h"] for values in steps], axis=1), steps)


def backward(
    cell: Cell, weights: Weights, prefix: str, passed: Pass, d_outputs: Array, rounding: Rounding = EXACT
) -> tuple[Array, dict[str, Array]]:
    """Return the gradients of the inputs and of the layer's weights, given those of the outputs at every timestep."""
    step = {"simple_rnn": _d_simple_rnn, "lstm": _d_lstm, "gru": _d_gru}[cell.kind]
    named = _named(weights, prefix)
    d_weights = {name: np.zeros_like(value) for name, value in named.items()}
    d_inputs: list[Array] = []
    d_h = d_c = np.zeros_like(passed.outputs[:, 0])
    for time in reversed(range(len(passed.steps))):
        d_h = rounding(d_h + d_outputs[:, time])
        d_x, d_h, d_c, d_step = step(cell, named, passed.steps[time], d_h, d_c, rounding)
        d_inputs.insert(0, d_x)
        for name, gradient in d_step.items():
            d_weights[name] = rounding(d_weights[name] + gradient)
    return np.stack(d_inputs, axis=1), {f"{prefix}/{name}": gradient for name, gradient in d_weights.items()}


def _named(weights: Weights, prefix: str) -> dict[str, Array]:
    return {name.removeprefix(f"{prefix}/"): value for name, value in weights.items() if name.startswith(f"{prefix}/")}


def _affine(w: Weights, gate: str, x: Array, h: Array, rounding: Rounding) -> Array:
    """x @ W + h @ U + b, for one gate ("/input") or for a cell without gates ("")."""
    product = rounding(rounding.matmul(x, w[f"kernel{gate}"]) + rounding.matmul(h, w[f"recurrent_kernel{gate}"]))
    return rounding(product + w[f"bias{gate}"])


def _d_affine(
    w: Weights, gate: str, x: Array, h: Array, d_z: Array, rounding: Rounding
) -> tuple[Array, Array, dict[str, Array]]:
    """Return the gradients of x, of h and of the weights of `_affine`, given that of its result."""
    d_weights = {
        f"kernel{gate}": rounding.matmul(x.T, d_z),
        f"recurrent_kernel{gate}": rounding.matmul(h.T, d_z),
        f"bias{gate}": rounding.sum(d_z, axis=0),
    }
    d_x = rounding.matmul(d_z, w[f"kernel{gate}"].T)
    return d_x, rounding.matmul(d_z, w[f"recurrent_kernel{gate}"].T), d_weights


def _activate(name: str, z: Array, rounding: Rounding) -> Array:
    return rounding.function(ACTIVATIONS[name].function(z))


def _d_activate(name: str, z: Array, y: Array, d_y: Array, rounding: Rounding) -> Array:
    return rounding(d_y * rounding(ACTIVATIONS[name].derivative(z, y)))


def _simple_rnn(cell: Cell, w: Weights, x: Array, h: Array, c: Array, rounding: Rounding) -> dict[str, Array]:
    """h' = tanh(x @ W + h @ U + b). Source: Elman 1990; `keras.layers.SimpleRNNCell`."""
    z = _affine(w, "", x, h, rounding)
    return {"x": x, "h_before": h, "z": z, "h": _activate(cell.activation, z, rounding), "c": c}


def _d_simple_rnn(cell: Cell, w: Weights, s: dict[str, Array], d_h: Array, d_c: Array, rounding: Rounding) -> Any:
    d_z = _d_activate(cell.activation, s["z"], s["h"], d_h, rounding)
    d_x, d_h_before, d_weights = _d_affine(w, "", s["x"], s["h_before"], d_z, rounding)
    return d_x, d_h_before, d_c, d_weights


def _lstm(cell: Cell, w: Weights, x: Array, h: Array, c: Array, rounding: Rounding) -> dict[str, Array]:
    """c' = f * c + i * g and h' = o * tanh(c'), with gates i, f, o and candidate g.

    Source: Hochreiter and Schmidhuber 1997, Gers et al. 2000 (forget gate); `keras.layers.LSTMCell`.
    """
    s = {"x": x, "h_before": h, "c_before": c}
    for gate in ("input", "forget", "candidate", "output"):
        activation = cell.activation if gate == "candidate" else cell.recurrent_activation
        s[f"z_{gate}"] = _affine(w, f"/{gate}", x, h, rounding)
        s[gate] = _activate(activation, s[f"z_{gate}"], rounding)
    s["c"] = rounding(rounding(s["forget"] * c) + rounding(s["input"] * s["candidate"]))
    s["squashed"] = _activate(cell.activation, s["c"], rounding)
    s["h"] = rounding(s["output"] * s["squashed"])
    return s


def _d_lstm(cell: Cell, w: Weights, s: dict[str, Array], d_h: Array, d_c: Array, rounding: Rounding) -> Any:
    d_squashed = rounding(d_h * s["output"])
    d_c = rounding(d_c + _d_activate(cell.activation, s["c"], s["squashed"], d_squashed, rounding))
    d_gates = {
        "input": d_c * s["candidate"],
        "forget": d_c * s["c_before"],
        "candidate": d_c * s["input"],
        "output": d_h * s["squashed"],
    }
    d_x, d_h_before = np.zeros_like(s["x"]), np.zeros_like(d_h)
    d_weights: dict[str, Array] = {}
    for gate, d_gate in d_gates.items():
        activation = cell.activation if gate == "candidate" else cell.recurrent_activation
        d_z = _d_activate(activation, s[f"z_{gate}"], s[gate], rounding(d_gate), rounding)
        d_x_gate, d_h_gate, d_of_gate = _d_affine(w, f"/{gate}", s["x"], s["h_before"], d_z, rounding)
        d_x, d_h_before = rounding(d_x + d_x_gate), rounding(d_h_before + d_h_gate)
        d_weights |= d_of_gate
    return d_x, d_h_before, rounding(d_c * s["forget"]), d_weights


def _gru(cell: Cell, w: Weights, x: Array, h: Array, c: Array, rounding: Rounding) -> dict[str, Array]:
    """h' = z * h + (1 - z) * candidate, with update gate z and reset gate r.

    candidate = tanh(x @ W + b_i + r * (h @ U + b_r)) with `reset_after`, else tanh(x @ W + (r * h) @ U + b).
    Source: Cho et al. 2014 (before), Chung et al. 2014 footnote and cuDNN (after); `keras.layers.GRUCell`.
    """
    s = {"x": x, "h_before": h, "c": c}
    for gate in ("update", "reset"):
        if cell.reset_after:
            from_x = rounding(rounding.matmul(x, w[f"kernel/{gate}"]) + w[f"input_bias/{gate}"])
            from_h = rounding(rounding.matmul(h, w[f"recurrent_kernel/{gate}"]) + w[f"recurrent_bias/{gate}"])
            s[f"z_{gate}"] = rounding(from_x + from_h)
        else:
            s[f"z_{gate}"] = _affine(w, f"/{gate}", x, h, rounding)
        s[gate] = _activate(cell.recurrent_activation, s[f"z_{gate}"], rounding)
    if cell.reset_after:
        from_x = rounding(rounding.matmul(x, w["kernel/candidate"]) + w["input_bias/candidate"])
        s["from_h"] = rounding(rounding.matmul(h, w["recurrent_kernel/candidate"]) + w["recurrent_bias/candidate"])
        s["z_candidate"] = rounding(from_x + rounding(s["reset"] * s["from_h"]))
    else:
        s["reset_h"] = rounding(s["reset"] * h)
        s["z_candidate"] = _affine(w, "/candidate", x, s["reset_h"], rounding)
    s["candidate"] = _activate(cell.activation, s["z_candidate"], rounding)
    s["h"] = rounding(rounding(s["update"] * h) + rounding(rounding(1 - s["update"]) * s["candidate"]))
    return s


def _d_gru(cell: Cell, w: Weights, s: dict[str, Array], d_h: Array, d_c: Array, rounding: Rounding) -> Any:
    x, h = s["x"], s["h_before"]
    d_update = rounding(d_h * rounding(h - s["candidate"]))
    d_h_before = rounding(d_h * s["update"])
    d_candidate = rounding(d_h * rounding(1 - s["update"]))
    d_z = _d_activate(cell.activation, s["z_candidate"], s["candidate"], d_candidate, rounding)
    d_weights: dict[str, Array] = {}
    if cell.reset_after:
        d_from_h = rounding(d_z * s["reset"])
        d_reset = rounding(d_z * s["from_h"])
        d_weights["kernel/candidate"] = rounding.matmul(x.T, d_z)
        d_weights["recurrent_kernel/candidate"] = rounding.matmul(h.T, d_from_h)
        d_weights["input_bias/candidate"] = rounding.sum(d_z, axis=0)
        d_weights["recurrent_bias/candidate"] = rounding.sum(d_from_h, axis=0)
        d_x = rounding.matmul(d_z, w["kernel/candidate"].T)
        d_h_before = rounding(d_h_before + rounding.matmul(d_from_h, w["recurrent_kernel/candidate"].T))
    else:
        d_x, d_reset_h, d_of_gate = _d_affine(w, "/candidate", x, s["reset_h"], d_z, rounding)
        d_weights |= d_of_gate
        d_reset = rounding(d_reset_h * h)
        d_h_before = rounding(d_h_before + rounding(d_reset_h * s["reset"]))
    for gate, d_gate in {"update": d_update, "reset": d_reset}.items():
        d_z = _d_activate(cell.recurrent_activation, s[f"z_{gate}"], s[gate], d_gate, rounding)
        if cell.reset_after:
            d_weights[f"kernel/{gate}"] = rounding.matmul(x.T, d_z)
            d_weights[f"recurrent_kernel/{gate}"] = rounding.matmul(h.T, d_z)
            d_weights[f"input_bias/{gate}"] = rounding.sum(d_z, axis=0)
            d_weights[f"recurrent_bias/{gate}"] = d_weights[f"input_bias/{gate}"]
            d_x_gate = rounding.matmul(d_z, w[f"kernel/{gate}"].T)
            d_h_gate = rounding.matmul(d_z, w[f"recurrent_kernel/{gate}"].T)
        else:
            d_x_gate, d_h_gate, d_of_gate = _d_affine(w, f"/{gate}", x, h, d_z, rounding)
            d_weights |= d_of_gate
        d_x, d_h_before = rounding(d_x + d_x_gate), rounding(d_h_before + d_h_gate)
    return d_x, d_h_before, d_c, d_weights
