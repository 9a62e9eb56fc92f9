"""Recurrent layers that step through time themselves: what torch's fused modules do not compute, and Keras's cells do.

Parameters have the names and the layout of `nn.RNN`, `nn.LSTM` and `nn.GRU`.
"""

import torch
from torch import nn

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

# The order in which the parameters have the gates, and that in which masks for single gates come (Keras's).
GATES = {
    "simple_rnn": ("",),
    "lstm": ("input", "forget", "candidate", "output"),
    "gru": ("reset", "update", "candidate"),
}
MASK_GATES = {**GATES, "gru": ("update", "reset", "candidate")}

State = tuple[torch.Tensor, ...]


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

    def _simple_rnn(self, x: torch.Tensor, state: State, masks: torch.Tensor | None) -> State:
        (from_state,) = self._from_state(state[0], masks)
        return (self.activation(x + from_state),)

    def _lstm(self, x: torch.Tensor, state: State, masks: torch.Tensor | None) -> State:
        h, c = state
        gates = zip(x.chunk(4, dim=-1), self._from_state(h, masks), strict=True)
        i, f, g, o = (from_x + from_h for from_x, from_h in gates)
        c = self.recurrent_activation(f) * c + self.recurrent_activation(i) * self.activation(g)
        return self.recurrent_activation(o) * self.activation(c), c

    def _gru(self, x: torch.Tensor, state: State, masks: torch.Tensor | None) -> State:
        (h,) = state
        x_r, x_z, x_n = x.chunk(3, dim=-1)
        if self.reset_after:
            h_r, h_z, h_n = self._from_state(h, masks)
            r, z = self.recurrent_activation(x_r + h_r), self.recurrent_activation(x_z + h_z)
            n = self.activation(x_n + r * h_n)
        else:
            w_r, w_z, w_n = self.weight_hh_l0.chunk(3)
            seen = {gate: h if masks is None else h * self._mask(masks, gate) for gate in GATES["gru"]}
            r = self.recurrent_activation(x_r + nn.functional.linear(seen["reset"], w_r))
            z = self.recurrent_activation(x_z + nn.functional.linear(seen["update"], w_z))
            n = self.activation(x_n + nn.functional.linear(r * seen["candidate"], w_n))
        return (z * h + (1 - z) * n,)
