"""Run one recurrent layer as Keras does: backwards, from given states, over any pattern of masked timesteps."""

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from torch_models.cells import State, Stepped

FUSED = {"simple_rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


def build_layer(
    cell: str,
    features: int,
    units: int,
    *,
    activation: str = "tanh",
    recurrent_activation: str = "sigmoid",
    use_bias: bool = True,
    reset_after: bool = True,
    recurrent_dropout: float = 0.0,
    batch_first: bool = True,
    dtype: torch.dtype = torch.float32,
) -> nn.RNNBase | Stepped:
    """Return torch's fused module where it computes the same thing, else a layer that steps through time itself.

    LSTM and SimpleRNN get the one trainable bias that Keras has: the second is frozen at zero.
    """
    fused = activation == "tanh" or (cell == "simple_rnn" and activation == "relu")
    if not (fused and recurrent_activation == "sigmoid" and reset_after and not recurrent_dropout):
        return Stepped(cell, features, units, activation, recurrent_activation, use_bias, reset_after, dtype)
    options = {"nonlinearity": activation} if cell == "simple_rnn" else {}
    layer = FUSED[cell](features, units, bias=use_bias, batch_first=batch_first, dtype=dtype, **options)
    if use_bias and cell != "gru":  # Keras's GRU has two biases too, because reset_after applies the reset between them
        nn.init.zeros_(layer.bias_hh_l0)
        layer.bias_hh_l0.requires_grad_(False)
    return layer


def run(
    layer: nn.RNNBase | Stepped,
    inputs: torch.Tensor,
    state: State | None = None,
    mask: torch.Tensor | None = None,
    input_masks: torch.Tensor | None = None,
    recurrent_masks: torch.Tensor | None = None,
    go_backwards: bool = False,
    zero_output_for_mask: bool = False,
) -> tuple[torch.Tensor, State]:
    """Return the outputs (batch, time, units), in the order in which they are computed, and the last states.

    Inputs (batch, time, features); state (batch, units) each, zeros by default; the mask (batch, time) is False where a
    timestep is skipped: its output is the one before it (zeros at first), or zeros with `zero_output_for_mask`.
    """
    if go_backwards:
        inputs = inputs.flip(1)
        mask = None if mask is None else mask.flip(1)
    if input_masks is not None and input_masks.shape[1] == 1:
        inputs, input_masks = inputs * input_masks, None  # one mask for all gates and all timesteps
    if mask is None:
        return _run(layer, inputs, None, state, input_masks, recurrent_masks)

    # Skipped timesteps change nothing, so the others are moved to the front, whatever the pattern, and run packed.
    order = torch.argsort((~mask).to(torch.uint8), dim=1, stable=True)
    lengths = mask.sum(dim=1)
    moved = inputs.gather(1, order[:, :, None].expand_as(inputs))
    # A packed row has at least one timestep; what that gives to a row without any is not looked at.
    outputs, last = _run(layer, moved, lengths.clamp(min=1), state, input_masks, recurrent_masks)
    seen = mask.cumsum(dim=1)
    outputs = outputs.gather(1, (seen - 1).clamp(min=0)[:, :, None].expand_as(outputs))
    zeros = torch.zeros((), dtype=outputs.dtype, device=outputs.device)
    outputs = torch.where((mask if zero_output_for_mask else seen > 0)[:, :, None], outputs, zeros)
    before = [zeros] * len(last) if state is None else state
    moved_on = (lengths > 0)[:, None]
    return outputs, tuple(torch.where(moved_on, new, old) for new, old in zip(last, before, strict=True))


def _run(
    layer: nn.RNNBase | Stepped,
    inputs: torch.Tensor,
    lengths: torch.Tensor | None,
    state: State | None,
    input_masks: torch.Tensor | None,
    recurrent_masks: torch.Tensor | None,
) -> tuple[torch.Tensor, State]:
    """Run the first `lengths` timesteps of each row, all by default."""
    if isinstance(layer, Stepped):
        if state is None:
            zeros = inputs.new_zeros(inputs.shape[0], layer.hidden_size)
            state = (zeros, zeros) if layer.cell == "lstm" else (zeros,)
        states = layer(inputs, state, input_masks, recurrent_masks)
        if lengths is None:
            return states[0], tuple(part[:, -1] for part in states)
        rows = torch.arange(len(inputs), device=inputs.device)
        return states[0], tuple(part[rows, lengths - 1] for part in states)

    given = None if state is None else tuple(part[None].contiguous() for part in state)
    given = given[0] if given is not None and len(given) == 1 else given
    if lengths is None:
        outputs, last = layer(inputs if layer.batch_first else inputs.transpose(0, 1), given)
        outputs = outputs if layer.batch_first else outputs.transpose(0, 1)
    else:
        packed = pack_padded_sequence(inputs, lengths.cpu(), batch_first=True, enforce_sorted=False)
        packed, last = layer(packed, given)
        outputs, _ = pad_packed_sequence(packed, batch_first=True, total_length=inputs.shape[1])
    last = last if isinstance(last, tuple) else (last,)
    return outputs, tuple(part[0] for part in last)
