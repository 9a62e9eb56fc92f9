"""The recurrent layers of torch itself, which on CUDA run in cuDNN."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from keras_models.fast.differentiable import Arguments

# Where the gates of Keras stand among torch's.
ORDER = {"rnn_tanh": (0,), "rnn_relu": (0,), "lstm": (0, 1, 2, 3), "gru": (1, 0, 2)}


@dataclass(frozen=True)
class Padding:
    """Where sequences have their kept timesteps: `lengths` of them in one block, from the `first` on; (batch,) each."""

    first: Tensor
    lengths: Tensor


def padding(mask: Tensor) -> Padding | None:
    """Read off a mask (batch, time) where each sequence stands; None if one has gaps, or nothing at all."""
    lengths = mask.sum(1)
    first = mask.to(torch.uint8).argmax(1)
    times = torch.arange(mask.shape[1], device=mask.device)
    block = (times >= first.unsqueeze(1)) & (times < (first + lengths).unsqueeze(1))
    return Padding(first, lengths) if bool((block == mask).all() & (lengths > 0).all()) else None


def compute(function: str, arguments: Arguments, padded: Padding | None) -> tuple[Tensor, list[Tensor]]:
    """Return outputs (batch, time, units) and last states; `function` is a name of `ORDER`.

    After the last kept timestep the outputs repeat its output.
    """
    run = getattr(torch._VF, function)
    states: Any = tuple(state.unsqueeze(0).contiguous() for state in arguments.states)
    states = states if function == "lstm" else states[0]
    # bias, number of layers, dropout, training, bidirectional: without "training" there would be no way back
    options = (True, 1, 0.0, torch.is_grad_enabled(), False)
    if padded is None:
        outputs, *last = run(arguments.inputs, states, _weights(function, arguments), *options, True)
        return outputs, [state.squeeze(0) for state in last]

    batch, steps, _ = arguments.inputs.shape
    times = torch.arange(steps, device=arguments.inputs.device)
    first = padded.first.unsqueeze(1)
    rows = torch.arange(batch, device=arguments.inputs.device).unsqueeze(1)
    packed = pack_padded_sequence(
        arguments.inputs[rows, (times + first) % steps], padded.lengths.cpu(), batch_first=True, enforce_sorted=False
    )
    order = packed.sorted_indices
    states = tuple(state[:, order] for state in states) if function == "lstm" else states[:, order]
    data, *last = run(packed.data, packed.batch_sizes, states, _weights(function, arguments), *options)
    outputs, _ = pad_packed_sequence(packed._replace(data=data), batch_first=True, total_length=steps)
    last = [state.squeeze(0)[packed.unsorted_indices] for state in last]
    outputs = outputs[rows, (times - first) % steps]
    ended = times >= (padded.first + padded.lengths).unsqueeze(1)
    return torch.where(ended.unsqueeze(2), last[0].unsqueeze(1), outputs), last


def _weights(function: str, arguments: Arguments) -> list[Tensor]:
    """Turn Keras's weights into torch's, as views of one tensor: cuDNN would copy weights that stand apart."""
    order = ORDER[function]
    input_bias, recurrent_bias = (
        arguments.bias if function == "gru" else (arguments.bias, torch.zeros_like(arguments.bias))
    )
    parts = [
        _reordered(weight, order)
        for weight in (arguments.kernel, arguments.recurrent_kernel, input_bias, recurrent_bias)
    ]
    together = torch.cat([part.flatten() for part in parts])
    sizes = [part.numel() for part in parts]
    return [piece.view(part.shape) for piece, part in zip(together.split(sizes), parts, strict=True)]


def _reordered(weight: Tensor, order: tuple[int, ...]) -> Tensor:
    """Put gates into another order and the last axis first."""
    gates = weight.unflatten(-1, (len(order), -1))
    return torch.stack([gates.select(-2, index) for index in order], -2).flatten(-2).movedim(-1, 0)
