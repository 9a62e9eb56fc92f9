"""Recurrent layers over all timesteps: one direction or two, masked or not, with all outputs or the last.

Sequences are (batch, time, width). Like the objects of `compare.reference.layers` each is a layer applied to values.
The gradient of a weight is one sum over all examples and timesteps, its terms being collected on the way.
"""

from collections.abc import Mapping

import numpy as np

from compare.reference.cells import STEPS, Layer, Step, Terms
from compare.reference.rounding import Array
from compare.reference.sums import sum_over_examples


class Direction:
    """A layer run over all timesteps, from a zero state unless one is given ("h" and, of an LSTM, "c").

    Where the mask (batch, time) is False the state is kept, and the output is the one before (zeros at first) or zero.
    `turned` runs from the last timestep to the first; outputs are in the order in which they were computed. With
    `starts_at_padding` the output before the first is the given state.
    Source: `keras.layers.RNN`.
    """

    def __init__(
        self,
        layer: Layer,
        prefix: str,
        sequence: Array,
        state: Mapping[str, Array] | None = None,
        mask: Array | None = None,
        zero_output_for_mask: bool = False,
        turned: bool = False,
        starts_at_padding: bool = False,
    ) -> None:
        self.layer, self.prefix, self.turned, self.zero_output_for_mask = layer, prefix, turned, zero_output_for_mask
        self.mask = mask[:, ::-1] if turned and mask is not None else mask
        sequence = sequence[:, ::-1] if turned else sequence
        zeros = np.zeros_like(sequence, shape=(len(sequence), layer.units))
        self.state = {"h": zeros, "c": zeros} | dict(state or {})
        before = self.state["h"] if starts_at_padding else zeros
        self.steps: list[Step] = []
        outputs: list[Array] = []
        for time in range(sequence.shape[1]):
            step = STEPS[layer.cell.kind](layer, sequence[:, time], self.state["h"], self.state["c"])
            self.steps.append(step)
            if self.mask is None:
                self.state = {"h": step.h, "c": step.c}
                outputs.append(step.h)
                continue
            counts = self.mask[:, time, None]
            self.state = {
                "h": np.where(counts, step.h, self.state["h"]),
                "c": np.where(counts, step.c, self.state["c"]),
            }
            repeated = zeros if zero_output_for_mask else outputs[-1] if outputs else before
            outputs.append(np.where(counts, step.h, repeated))
        self.output = np.stack(outputs, axis=1)

    def backward(self, d_output: Array, gradients: dict[str, Array]) -> Array:
        """Return the gradient of the sequence, given that of every output; add those of the weights."""
        terms: Terms = {name: [] for name in self.layer.weights}
        d_inputs: list[Array] = []
        d_h = d_c = d_repeated = np.zeros_like(self.output[:, 0])
        for time in reversed(range(len(self.steps))):
            d_out = d_output[:, time] + d_repeated
            if self.mask is None:
                d_x, d_h, d_c = self.steps[time].backward(d_h + d_out, d_c, terms)
            else:
                counts = self.mask[:, time, None]
                # A timestep that does not count hands its gradients on: the output's to the output that it repeats.
                d_repeated = np.where(counts | self.zero_output_for_mask, 0.0, d_out)
                d_new_h, d_new_c = np.where(counts, d_h + d_out, 0.0), np.where(counts, d_c, 0.0)
                d_x, d_h_before, d_c_before = self.steps[time].backward(d_new_h, d_new_c, terms)
                d_h, d_c = np.where(counts, d_h_before, d_h), np.where(counts, d_c_before, d_c)
            d_inputs.insert(0, d_x)
        gradients.update({f"{self.prefix}/{name}": _summed(of_weight) for name, of_weight in terms.items()})
        d_sequence = np.stack(d_inputs, axis=1)
        return d_sequence[:, ::-1] if self.turned else d_sequence


class Bidirectional:
    """Both directions, merged at every timestep. Source: `keras.layers.Bidirectional`."""

    def __init__(self, merge: str, ahead: Direction, back: Direction) -> None:
        self.merge, self.ahead, self.back = merge, ahead, back
        self.output = merged(merge, ahead.output, back.output[:, ::-1])

    def backward(self, d_output: Array, gradients: dict[str, Array]) -> Array:
        """Return the gradient of the sequence, given that of every output; add those of the weights."""
        d_ahead, d_back = d_merged(self.merge, self.ahead.output, self.back.output[:, ::-1], d_output)
        return self.ahead.backward(d_ahead, gradients) + self.back.backward(d_back[:, ::-1], gradients)


class LastOutput:
    """A layer's output at the last timestep, which of one direction is its last state."""

    def __init__(self, layer: Direction | Bidirectional) -> None:
        self.layer = layer
        self.output = layer.output[:, -1]

    def backward(self, d_output: Array, gradients: dict[str, Array]) -> Array:
        """See `Direction`."""
        return self.layer.backward(_at_last(d_output, self.layer.output), gradients)


class LastStates:
    """The last states of both directions, merged: that of the backward one is its output at the first timestep."""

    def __init__(self, layer: Bidirectional) -> None:
        self.layer = layer
        self.output = merged(layer.merge, layer.ahead.output[:, -1], layer.back.output[:, -1])

    def backward(self, d_output: Array, gradients: dict[str, Array]) -> Array:
        """See `Direction`."""
        ahead, back = self.layer.ahead, self.layer.back
        d_ahead, d_back = d_merged(self.layer.merge, ahead.output[:, -1], back.output[:, -1], d_output)
        d_sequence = ahead.backward(_at_last(d_ahead, ahead.output), gradients)
        return d_sequence + back.backward(_at_last(d_back, back.output), gradients)


def merged(merge: str, ahead: Array, back: Array) -> Array:
    """Merge the outputs of both directions."""
    if merge == "concat":
        return np.concatenate([ahead, back], axis=-1)
    if merge == "mul":
        return ahead * back
    return ahead + back if merge == "sum" else 0.5 * (ahead + back)


def d_merged(merge: str, ahead: Array, back: Array, d: Array) -> tuple[Array, Array]:
    """Return the gradients of both directions' outputs, given that of the merged ones."""
    if merge == "concat":
        return d[..., : ahead.shape[-1]], d[..., ahead.shape[-1] :]
    if merge == "mul":
        return d * back, d * ahead
    return (d, d) if merge == "sum" else (0.5 * d, 0.5 * d)


def _at_last(d_last: Array, outputs: Array) -> Array:
    d_outputs = np.zeros_like(outputs)
    d_outputs[:, -1] = d_last
    return d_outputs


def _summed(terms: list[tuple[Array, Array | None]]) -> Array:
    rows = np.concatenate([row for row, _ in terms])
    factors = [factor for _, factor in terms if factor is not None]
    return sum_over_examples(rows, np.concatenate(factors) if factors else None)
