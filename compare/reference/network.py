"""The whole network: embedding, a stack of recurrent layers with what stands between them, and a linear head."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from compare.config.model import ModelConfig
from compare.reference import cells, layers
from compare.reference.cells import Array, Cell, Drops, Pass, Weights
from compare.reference.rounding import EXACT, Rounding

MERGES: dict[str, Callable[[Array, Array], Array]] = {
    "concat": lambda forward, backward: np.concatenate([forward, backward], axis=-1),
    "sum": lambda forward, backward: forward + backward,
    "mul": lambda forward, backward: forward * backward,
    "ave": lambda forward, backward: (forward + backward) / 2,
}


@dataclass(frozen=True)
class Forward:
    """A forward pass: the outputs of every part by name, and what the step carries on beside weights and slots.

    Recurrent layers' outputs are those at every timestep (batch, time, width). `backward` maps the gradient of the
    head's outputs to that of every weight, the penalty's included.
    """

    stages: dict[str, Array]
    non_trainable: dict[str, Array]
    backward: Callable[[Array], dict[str, Array]]

    @property
    def outputs(self) -> Array:
        """The head's outputs."""
        return self.stages["head"]


def cell_of(model: ModelConfig) -> Cell:
    """Return which cell a model has."""
    return Cell(model.cell, model.activation, model.recurrent_activation, model.reset_after)


def forward(
    model: ModelConfig,
    weights: Weights,
    inputs: Mapping[str, Array],
    non_trainable: Weights | None = None,
    rounding: Rounding = EXACT,
) -> Forward:
    """Run the network in training on a batch: "sequence", and by name all else that the model takes.

    `carried` are the states of a stateful model and the running figures of batch normalisation, before the step.
    """
    pending: list[layers.Backward] = []
    stages: dict[str, Array] = {}
    now = dict(non_trainable or {})
    sequence = inputs["sequence"]
    if model.embedding:
        sequence, undo = layers.embedding(weights, sequence, rounding)
        pending.append(undo)
        stages["embedding"] = sequence
    for index in range(model.layers):
        outputs, last, undo = _recurrent_layer(model, weights, index, sequence, inputs, now, rounding)
        pending.append(undo)
        stages[f"layer{index}"] = sequence = outputs
        if index == model.layers - 1 and model.head != "every_output":
            sequence, undo = last
            pending.append(undo)
        if model.normalization:
            name = f"normalization{index}"
            sequence, undo, mean, variance = layers.normalization(
                model.normalization, weights, name, sequence, rounding
            )
            pending.append(undo)
            if index < model.layers - 1:
                stages[name] = sequence
            if model.normalization == "batch":
                for figure, value in {"moving_mean": mean, "moving_variance": variance}.items():
                    kept = rounding(now[f"{name}/{figure}"] * layers.BATCH_MOMENTUM)
                    now[f"{name}/{figure}"] = rounding(kept + rounding(value * (1 - layers.BATCH_MOMENTUM)))
        if model.dropout:
            sequence, undo = layers.dropout(sequence, inputs[f"dropout{index}"], model.dropout, rounding)
            pending.append(undo)
    stages["head"], undo = layers.dense(weights, sequence, rounding)
    pending.append(undo)

    def backward(d_outputs: Array) -> dict[str, Array]:
        gradients: dict[str, Array] = {}
        for undo in reversed(pending):
            d_outputs = undo(d_outputs, gradients)
        if model.l2:
            # Where each timestep's gradient is added to a penalty's that outweighs it, each is rounded to that.
            added = 1 + inputs["sequence"].shape[1] / 2
            for name in filter(is_penalised, gradients):
                of_penalty = rounding(2 * _coefficient(model) * weights[name], added)
                gradients[name] = rounding(gradients[name] + of_penalty)
        return gradients

    return Forward(stages, now, backward)


def penalty(model: ModelConfig, weights: Weights, rounding: Rounding = EXACT) -> Array:
    """What `l2` adds to the loss: l2 times the sum of squares of all kernels. Source: `keras.regularizers.L2`."""
    sums = [rounding.sum(rounding(value**2)) for name, value in weights.items() if is_penalised(name)]
    return rounding(_coefficient(model) * rounding.sum(np.stack(sums)))


def _coefficient(model: ModelConfig) -> float:
    """The coefficient of the penalty, a float32 in every dtype: Keras has `ops.cast(l2, dtype)` on TensorFlow."""
    return float(np.float32(model.l2))


def is_penalised(name: str) -> bool:
    """Whether a weight is a kernel, of an input, of a state or of the head."""
    return name == "head/kernel" or "/kernel" in name or "/recurrent_kernel" in name


def _recurrent_layer(
    model: ModelConfig,
    weights: Weights,
    index: int,
    sequence: Array,
    inputs: Mapping[str, Array],
    non_trainable: dict[str, Array],
    rounding: Rounding,
) -> tuple[Array, tuple[Array, layers.Backward], layers.Backward]:
    """Return a layer's outputs at every timestep, what it returns where only the last is asked for, and the gradient.

    The gradient of the last is one of the outputs at every timestep.
    """
    cell = cell_of(model)
    passes: dict[str, Pass] = {}
    for direction in ("forward", "backward") if model.bidirectional else ("forward",):
        place = f"layer{index}.{direction}"
        mask = inputs.get("mask")
        turned = model.go_backwards or direction == "backward"
        passes[direction] = cells.forward(
            cell,
            weights,
            f"layer{index}/{direction}",
            sequence[:, ::-1] if turned else sequence,
            rounding,
            _first_state(model, index, place, inputs, non_trainable),
            None if mask is None else (mask[:, ::-1] if turned else mask),
            model.zeros_padding(index),
            Drops(
                cell,
                _scaled(inputs.get(f"{place}.input_dropout"), model.input_dropout),
                _scaled(inputs.get(f"{place}.recurrent_dropout"), model.recurrent_dropout),
            ),
        )
    if model.stateful:
        for part in ("h", "c") if model.cell == "lstm" else ("h",):
            non_trainable[f"layer{index}/forward/state/{part}"] = passes["forward"].state[part]

    def undo(direction: str, d_outputs: Array, gradients: dict[str, Array]) -> Array:
        """Return the gradient of the sequence, given that of one direction's outputs as they were computed."""
        d_sequence, of_layer = cells.backward(
            cell, weights, f"layer{index}/{direction}", passes[direction], d_outputs, rounding
        )
        gradients.update(of_layer)
        return d_sequence[:, ::-1] if model.go_backwards or direction == "backward" else d_sequence

    if not model.bidirectional:
        outputs = passes["forward"].outputs
        return outputs, (outputs[:, -1], _at_last(outputs)), lambda d, gradients: undo("forward", d, gradients)

    forward, backward = passes["forward"].outputs, passes["backward"].outputs[:, ::-1]
    merged = rounding(MERGES[model.bidirectional](forward, backward))
    d_merge = _d_merge(model.bidirectional, forward, backward)

    def d_bidirectional(d_outputs: Array, gradients: dict[str, Array]) -> Array:
        d_forward, d_backward = d_merge(d_outputs)
        d_sequence = undo("forward", rounding(d_forward), gradients)
        return rounding(d_sequence + undo("backward", rounding(d_backward)[:, ::-1], gradients))

    if model.head == "last_output":
        return merged, (merged[:, -1], _at_last(merged)), d_bidirectional
    # The last state of the backward direction is its output at the first timestep, that of the forward one at the last.
    last = rounding(MERGES[model.bidirectional](forward[:, -1], backward[:, 0]))
    d_last = _d_merge(model.bidirectional, forward[:, -1], backward[:, 0])

    def d_of_both(d_output: Array, gradients: dict[str, Array]) -> Array:
        d_forward, d_backward = (np.zeros_like(forward) for _ in range(2))
        d_forward[:, -1], d_backward[:, -1] = d_last(d_output)
        d_sequence = undo("forward", rounding(d_forward), gradients)
        return rounding(d_sequence + undo("backward", rounding(d_backward), gradients))

    if index == model.layers - 1 and model.head == "last_state":
        # Both gradients go through the same pass: that of the outputs is not asked for.
        return merged, (last, lambda d_output, gradients: d_output), d_of_both
    return merged, (last, lambda d_output, gradients: d_output), d_bidirectional


def _first_state(
    model: ModelConfig, index: int, place: str, inputs: Mapping[str, Array], non_trainable: Mapping[str, Array]
) -> dict[str, Array] | None:
    parts = ("h", "c") if model.cell == "lstm" else ("h",)
    if model.stateful:
        return {part: non_trainable[f"layer{index}/forward/state/{part}"] for part in parts}
    return {part: inputs[f"{place}.{part}"] for part in parts} if model.initial_state == "given" else None


def _scaled(kept: Array | None, rate: float) -> Array | None:
    return None if kept is None else kept / (1 - rate)


def _at_last(outputs: Array) -> layers.Backward:
    def backward(d_output: Array, gradients: dict[str, Array]) -> Array:
        d_outputs = np.zeros_like(outputs)
        d_outputs[:, -1] = d_output
        return d_outputs

    return backward


def _d_merge(mode: str, forward: Array, backward: Array) -> Callable[[Array], tuple[Array, Array]]:
    """Return the gradients of both directions' outputs as a function of that of the merged ones."""
    if mode == "concat":
        return lambda d: (d[..., : forward.shape[-1]], d[..., forward.shape[-1] :])
    if mode == "mul":
        return lambda d: (d * backward, d * forward)
    return (lambda d: (d, d)) if mode == "sum" else (lambda d: (d / 2, d / 2))
