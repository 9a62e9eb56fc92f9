"""The whole network: a stack of recurrent layers and a linear head on the last output."""

from dataclasses import dataclass

import numpy as np

from compare.reference import cells
from compare.reference.cells import Array, Cell, Pass, Weights
from compare.reference.rounding import EXACT, Rounding


@dataclass(frozen=True)
class Forward:
    """A forward pass: each layer's outputs at every timestep (batch, time, units), and the head's (batch, outputs)."""

    inputs: Array
    layers: list[Pass]
    outputs: Array


def layer_names(weights: Weights) -> list[str]:
    """The recurrent layers that weights belong to, in order."""
    return sorted({name.split("/")[0] for name in weights if name.startswith("layer")}, key=lambda name: int(name[5:]))


def forward(cell: Cell, weights: Weights, inputs: Array, rounding: Rounding = EXACT) -> Forward:
    """Run the network on inputs (batch, time, features)."""
    layers = []
    sequence = inputs
    for layer in layer_names(weights):
        layers.append(cells.forward(cell, weights, f"{layer}/forward", sequence, rounding))
        sequence = layers[-1].outputs
    product = rounding.matmul(sequence[:, -1], weights["head/kernel"])
    return Forward(inputs, layers, rounding(product + weights["head/bias"]))


def backward(
    cell: Cell, weights: Weights, passed: Forward, d_outputs: Array, rounding: Rounding = EXACT
) -> dict[str, Array]:
    """Return the gradient of every weight, given that of the head's outputs."""
    last = passed.layers[-1].outputs
    gradients = {
        "head/kernel": rounding.matmul(last[:, -1].T, d_outputs),
        "head/bias": rounding.sum(d_outputs, axis=0),
    }
    d_sequence = np.zeros_like(last)
    d_sequence[:, -1] = rounding.matmul(d_outputs, weights["head/kernel"].T)
    for layer, layer_pass in reversed(list(zip(layer_names(weights), passed.layers, strict=True))):
        prefix = f"{layer}/forward"
        d_sequence, of_layer = cells.backward(cell, weights, prefix, layer_pass, d_sequence, rounding)
        gradients |= of_layer
    return gradients
