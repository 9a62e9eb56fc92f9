"""The whole network: embedding, a stack of recurrent layers with what stands between them, and a linear head."""

from collections.abc import Collection, Mapping

import numpy as np

from compare.config.model import ModelConfig
from compare.reference.cells import Cell, Layer, Weights
from compare.reference.formulas import elementwise
from compare.reference.layers import Applied, Dense, Dropout, Embedding, Normalization
from compare.reference.recurrent import Bidirectional, Direction, LastOutput, LastStates
from compare.reference.rounding import Array


class Network:
    """A network run in training on a batch: "sequence", and by name all else that the model takes.

    `stages` are the outputs of every part by name, those of recurrent layers at every timestep (batch, time, width).
    `non_trainable` are the states of a stateful model and the running figures of batch normalisation: given before the
    step, kept after it. The mask does not reach the layers `unmasked`.
    """

    # Whether a layer puts out the state that it was given at padding that comes first, instead of zeros.
    starts_at_padding = False

    def __init__(
        self,
        model: ModelConfig,
        weights: Weights,
        inputs: Mapping[str, Array],
        non_trainable: Weights | None = None,
        unmasked: Collection[int] = (),
    ) -> None:
        self.model, self.weights, self.inputs, self.unmasked = model, weights, inputs, unmasked
        self.non_trainable = dict(non_trainable or {})
        self.stages: dict[str, Array] = {}
        self.recurrent: list[Direction | Bidirectional] = []
        self._applied: list[Applied] = []
        values = inputs["sequence"]
        if model.embedding:
            self.stages["embedding"] = values = self._apply(Embedding(weights, values))
        for index in range(model.layers):
            values = self._block(index, values)
        self.stages["head"] = self._apply(Dense(weights, values))

    @property
    def outputs(self) -> Array:
        """The head's outputs."""
        return self.stages["head"]

    def backward(self, d_outputs: Array) -> dict[str, Array]:
        """Return the gradient of every weight, the penalty's included, given that of the head's outputs.

        That of what goes into the first recurrent layer is kept in `d_inputs`.
        """
        gradients: dict[str, Array] = {}
        for layer in reversed(self._applied):
            d_outputs = layer.backward(d_outputs, gradients)
        self.d_inputs = d_outputs
        if self.model.l2:
            # Where each timestep's gradient is added to a penalty's that outweighs it, each is rounded to that.
            ulps = 1 + self.inputs["sequence"].shape[1] / 2
            factor = 2 * _coefficient(self.model)
            for name in filter(is_penalised, gradients):
                d_penalty = elementwise(lambda weight: factor * weight, self.weights[name], ulps=ulps)
                gradients[name] = gradients[name] + d_penalty
        return gradients

    def _block(self, index: int, values: Array) -> Array:
        """One recurrent layer, its normalisation and its dropout."""
        model, is_last = self.model, index == self.model.layers - 1
        layer = self._recurrent(index, values)
        self.recurrent.append(layer)
        self.stages[f"layer{index}"] = layer.output
        if not is_last or model.head == "every_output":
            values = self._apply(layer)
        elif isinstance(layer, Bidirectional) and model.head == "last_state":
            values = self._apply(LastStates(layer))
        else:
            values = self._apply(LastOutput(layer))
        if model.normalization:
            normalization = Normalization(model.normalization, self.weights, f"normalization{index}", values)
            values = self._apply(normalization)
            if not is_last:
                self.stages[normalization.name] = values
            if model.normalization == "batch":
                self.non_trainable |= normalization.moved(self.non_trainable)
        if model.dropout:
            values = self._apply(Dropout(self.inputs[f"dropout{index}"], model.dropout, values))
        return values

    def _recurrent(self, index: int, sequence: Array) -> Direction | Bidirectional:
        model = self.model
        if model.bidirectional:
            ahead, back = (self._direction(index, name, sequence) for name in ("forward", "backward"))
            return Bidirectional(model.bidirectional, ahead, back)
        layer = self._direction(index, "forward", sequence)
        if model.stateful:
            for part in _state_parts(model):
                self.non_trainable[f"{layer.prefix}/state/{part}"] = layer.state[part]
        return layer

    def _direction(self, index: int, direction: str, sequence: Array) -> Direction:
        model, prefix = self.model, f"layer{index}/{direction}"
        location = prefix.replace("/", ".")
        layer = Layer(
            cell_of(model),
            {name.removeprefix(f"{prefix}/"): w for name, w in self.weights.items() if name.startswith(f"{prefix}/")},
            _scaled(self.inputs.get(f"{location}.input_dropout"), model.input_dropout),
            _scaled(self.inputs.get(f"{location}.recurrent_dropout"), model.recurrent_dropout),
        )
        state = None
        if model.stateful:
            state = {part: self.non_trainable[f"{prefix}/state/{part}"] for part in _state_parts(model)}
        elif model.initial_state == "given":
            state = {part: self.inputs[f"{location}.{part}"] for part in _state_parts(model)}
        return Direction(
            layer,
            prefix,
            sequence,
            state,
            None if index in self.unmasked else self.inputs.get("mask"),
            model.zeros_padding(index),
            turned=model.go_backwards or direction == "backward",
            starts_at_padding=self.starts_at_padding,
        )

    def _apply(self, layer: Applied) -> Array:
        self._applied.append(layer)
        return layer.output


def cell_of(model: ModelConfig) -> Cell:
    """Return which cell a model has."""
    return Cell(model.cell, model.activation, model.recurrent_activation, model.reset_after)


def penalty(model: ModelConfig, weights: Weights) -> Array:
    """What `l2` adds to the loss: l2 times the sum of squares of all kernels. Source: `keras.regularizers.L2`."""
    sums = [np.sum(weight**2) for name, weight in weights.items() if is_penalised(name)]
    return _coefficient(model) * np.sum(np.stack(sums))


def is_penalised(name: str) -> bool:
    """Whether a weight is a kernel, of an input, of a state or of the head."""
    return name == "head/kernel" or "/kernel" in name or "/recurrent_kernel" in name


def _coefficient(model: ModelConfig) -> float:
    """The coefficient of the penalty, a float32 in every dtype: Keras has `ops.cast(l2, dtype)` on TensorFlow."""
    return float(np.float32(model.l2))


def _state_parts(model: ModelConfig) -> tuple[str, ...]:
    return ("h", "c") if model.cell == "lstm" else ("h",)


def _scaled(kept: Array | None, rate: float) -> Array | None:
    return None if kept is None else kept / (1 - rate)
