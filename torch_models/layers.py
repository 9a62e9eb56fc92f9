"""What PyTorch lacks of Keras's layers: cells that step through time themselves, merges, masks and normalisations.

Parameters have the names and the layout of `nn.RNN`, `nn.LSTM` and `nn.GRU`.
"""

from functools import partial

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from torch_models.weights import GATES, MASK_GATES

State = tuple[torch.Tensor, ...]

CELLS = {"simple_rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
MERGES = {
    "concat": lambda forward, backward: torch.cat([forward, backward], dim=-1),
    "sum": lambda forward, backward: forward + backward,
    "mul": lambda forward, backward: forward * backward,
    "ave": lambda forward, backward: (forward + backward) / 2,
}
ACTIVATIONS = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "linear": lambda x: x,
    "elu": nn.functional.elu,
    # Not nn.functional.hardsigmoid: in float64 its gradient is 1/6 rounded to float32.
    "hard_sigmoid": lambda x: torch.clamp(x / 6 + 0.5, 0, 1),
    "softplus": nn.functional.softplus,
    "softsign": nn.functional.softsign,
}

# Keras's defaults; torch's own are 1e-5 for both and a momentum of 0.1, with the opposite meaning.
EPSILON = 1e-3
BATCH_MOMENTUM = 0.99


class Stepped(nn.Module):
    """One recurrent layer over all timesteps, one step after the other."""

    def __init__(
        self,
        cell: str,
        features: int,
        units: int,
        activation: str,
        recurrent_activation: str,
        use_bias: bool,
        reset_after: bool,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        self.cell, self.hidden_size, self.reset_after = cell, units, reset_after
        self.activation, self.recurrent_activation = ACTIVATIONS[activation], ACTIVATIONS[recurrent_activation]
        rows = len(GATES[cell]) * units
        self.weight_ih_l0 = nn.Parameter(torch.empty(rows, features, dtype=dtype))
        self.weight_hh_l0 = nn.Parameter(torch.empty(rows, units, dtype=dtype))
        self.bias_ih_l0 = nn.Parameter(torch.empty(rows, dtype=dtype)) if use_bias else None
        # A second bias is of use only where the reset gate stands between the two.
        second = use_bias and cell == "gru" and reset_after
        self.bias_hh_l0 = nn.Parameter(torch.empty(rows, dtype=dtype)) if second else None
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -(units**-0.5), units**-0.5)

    def forward(
        self,
        inputs: torch.Tensor,
        state: State,
        input_masks: torch.Tensor | None = None,
        recurrent_masks: torch.Tensor | None = None,
    ) -> State:
        """Return the states after every timestep, each (batch, time, units); the first of them are the outputs.

        Inputs (batch, time, features), state (batch, units) each; masks (batch, gates, features) and (batch, gates,
        units), one gate where all share it, multiply the input and the state that each gate sees.
        """
        from_inputs = self._from_inputs(inputs, input_masks)
        step = {"simple_rnn": self._simple_rnn, "lstm": self._lstm, "gru": self._gru}[self.cell]
        states = []
        for time in range(inputs.shape[1]):
            state = step(from_inputs[:, time], state, recurrent_masks)
            states.append(state)
        return tuple(torch.stack(parts, dim=1) for parts in zip(*states, strict=True))

    def _from_inputs(self, inputs: torch.Tensor, masks: torch.Tensor | None) -> torch.Tensor:
        """What the inputs of all timesteps give to each gate: (batch, time, gates * units)."""
        if masks is None:
            return nn.functional.linear(inputs, self.weight_ih_l0, self.bias_ih_l0)
        kernels = self.weight_ih_l0.chunk(len(GATES[self.cell]))
        parts = [
            nn.functional.linear(inputs * self._mask(masks, gate)[:, None], kernel)
            for gate, kernel in zip(GATES[self.cell], kernels, strict=True)
        ]
        whole = torch.cat(parts, dim=-1)
        return whole if self.bias_ih_l0 is None else whole + self.bias_ih_l0

    def _from_state(self, h: torch.Tensor, masks: torch.Tensor | None) -> list[torch.Tensor]:
        """What the state gives to each gate, in the order of the parameters."""
        gates = GATES[self.cell]
        if masks is None:
            return list(nn.functional.linear(h, self.weight_hh_l0, self.bias_hh_l0).chunk(len(gates), dim=-1))
        kernels = self.weight_hh_l0.chunk(len(gates))
        biases = [None] * len(gates) if self.bias_hh_l0 is None else self.bias_hh_l0.chunk(len(gates))
        return [
            nn.functional.linear(h * self._mask(masks, gate), kernel, bias)
            for gate, kernel, bias in zip(gates, kernels, biases, strict=True)
        ]

    def _mask(self, masks: torch.Tensor, gate: str) -> torch.Tensor:
        return masks[:, 0 if masks.shape[1] == 1 else MASK_GATES[self.cell].index(gate)]

    def _simple_rnn(self, from_inputs: torch.Tensor, state: State, masks: torch.Tensor | None) -> State:
        (from_state,) = self._from_state(state[0], masks)
        return (self.activation(from_inputs + from_state),)

    def _lstm(self, from_inputs: torch.Tensor, state: State, masks: torch.Tensor | None) -> State:
        h, c = state
        parts = zip(GATES["lstm"], from_inputs.chunk(4, dim=-1), self._from_state(h, masks), strict=True)
        gates = {gate: from_x + from_h for gate, from_x, from_h in parts}
        i, f, o = (self.recurrent_activation(gates[gate]) for gate in ("input", "forget", "output"))
        c = f * c + i * self.activation(gates["candidate"])
        return o * self.activation(c), c

    def _gru(self, from_inputs: torch.Tensor, state: State, masks: torch.Tensor | None) -> State:
        (h,) = state
        x = dict(zip(GATES["gru"], from_inputs.chunk(3, dim=-1), strict=True))
        if self.reset_after:
            u = dict(zip(GATES["gru"], self._from_state(h, masks), strict=True))
            r, z = (self.recurrent_activation(x[gate] + u[gate]) for gate in ("reset", "update"))
            n = self.activation(x["candidate"] + r * u["candidate"])
        else:
            kernels = dict(zip(GATES["gru"], self.weight_hh_l0.chunk(3), strict=True))
            seen = {gate: h if masks is None else h * self._mask(masks, gate) for gate in kernels}
            r, z = (
                self.recurrent_activation(x[gate] + nn.functional.linear(seen[gate], kernels[gate]))
                for gate in ("reset", "update")
            )
            n = self.activation(x["candidate"] + nn.functional.linear(r * seen["candidate"], kernels["candidate"]))
        return (z * h + (1 - z) * n,)


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
    layer = CELLS[cell](features, units, bias=use_bias, batch_first=batch_first, dtype=dtype, **options)
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

    first = None if state is None else tuple(part[None].contiguous() for part in state)
    first = first[0] if first is not None and len(first) == 1 else first
    if lengths is None:
        outputs, last = layer(inputs if layer.batch_first else inputs.transpose(0, 1), first)
        outputs = outputs if layer.batch_first else outputs.transpose(0, 1)
    else:
        packed = pack_padded_sequence(inputs, lengths.cpu(), batch_first=True, enforce_sorted=False)
        packed, last = layer(packed, first)
        outputs, _ = pad_packed_sequence(packed, batch_first=True, total_length=inputs.shape[1])
    last = last if isinstance(last, tuple) else (last,)
    return outputs, tuple(part[0] for part in last)


class KerasBatchNorm(nn.BatchNorm1d):
    """Batch normalisation of the last axis over all others, whose running variance is the biased one, as in Keras."""

    def __init__(self, width: int, dtype: torch.dtype) -> None:
        super().__init__(width, eps=EPSILON, momentum=1 - BATCH_MOMENTUM, dtype=dtype)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Map (batch, width) or (batch, time, width) to the same shape; in training the running figures move."""
        rows = inputs.reshape(-1, self.num_features)
        if self.training:
            with torch.no_grad():
                variance, mean = torch.var_mean(rows, dim=0, correction=0)
                self.running_mean.mul_(BATCH_MOMENTUM).add_(mean * (1 - BATCH_MOMENTUM))
                self.running_var.mul_(BATCH_MOMENTUM).add_(variance * (1 - BATCH_MOMENTUM))
            normalized = nn.functional.batch_norm(rows, None, None, self.weight, self.bias, True, 0.0, self.eps)
        else:
            normalized = nn.functional.batch_norm(
                rows, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
            )
        return normalized.view_as(inputs)


NORMALIZATIONS = {"layer": partial(nn.LayerNorm, eps=EPSILON), "batch": KerasBatchNorm}
