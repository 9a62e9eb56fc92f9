"""A user's recurrent layer computed layer by layer, so that what is between its layers can be seen and changed."""

from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

# What a fused layer of each kind is called inside PyTorch.
FUSED = {"lstm": torch._VF.lstm, "gru": torch._VF.gru, "tanh": torch._VF.rnn_tanh, "relu": torch._VF.rnn_relu}


class LayerOptions:
    """What a counterfactual changes in how a recurrent module is computed."""

    def __init__(self) -> None:
        self.zero_state = False
        self.reset_before = False
        self.step_by_step = False
        self.masked = False
        self.return_last = False

    @property
    def own_loop(self) -> bool:
        """Whether the equations are computed timestep by timestep instead of by PyTorch's fused layer."""
        return self.reset_before or self.step_by_step or self.masked


def run(module: Any, session: Any, path: str, options: LayerOptions, sequence: Any, state: Any = None) -> Any:
    """Compute nn.RNN, nn.LSTM or nn.GRU; all inputs and outputs go to the session, batch first, in time order.

    Returns what the module itself would: (outputs, last states).
    """
    packed = isinstance(sequence, PackedSequence)
    if packed:
        x, lengths = pad_packed_sequence(sequence, batch_first=True)
        # As long as the windows are, also where the longest sequence of a batch is shorter: so it can be compared.
        missing = session.timesteps() - x.shape[1]
        x = nn.functional.pad(x, (0, 0, 0, missing)) if missing > 0 else x
        session.seen_packed.add(path)
    else:
        x, lengths = (sequence if module.batch_first else sequence.transpose(0, 1)), None
    x = session.rewired(f"{path}|0|forward", x)
    mask = session.mask(path) if options.masked else None
    if mask is not None and packed:
        # What was packed is cut; the whole sequence is what the layer before gave.
        x, lengths = session.before_packing(x), None
    states = None if options.zero_state else state
    session.saw_state(path, state)
    last: list[Any] = []
    directions = ("forward", "backward")[: 2 if module.bidirectional else 1]
    for layer in range(module.num_layers):
        if layer:
            x = session.rewired(f"{path}|{layer}|forward", x)
        outputs = []
        for index, direction in enumerate(directions):
            key = f"{path}|{layer}|{direction}"
            number = layer * len(directions) + index
            start = _state_of(states, number)
            session.entered(key, x)
            if options.own_loop or mask is not None:
                y, final = _own_loop(module, layer, direction, x, start, options.reset_before, mask)
            else:
                y, final = _fused(module, layer, direction, x, start, lengths)
            session.left(key, y)
            outputs.append(y)
            last.append(final)
        x = torch.cat(outputs, -1)
        if layer < module.num_layers - 1 and module.dropout:
            x = nn.functional.dropout(x, module.dropout, module.training)
    if options.return_last:
        x, last = _last_everywhere(x, len(directions), last)
    finals = (
        tuple(torch.stack(part) for part in zip(*last, strict=True))
        if isinstance(module, nn.LSTM)
        else torch.stack(last)
    )
    if packed:
        kept = sequence.batch_sizes
        counts = (kept.unsqueeze(0) > torch.arange(int(kept[0])).unsqueeze(1)).sum(1)
        if sequence.unsorted_indices is not None:
            counts = counts[sequence.unsorted_indices]
        return pack_padded_sequence(x, counts, batch_first=True, enforce_sorted=False), finals
    return (x if module.batch_first else x.transpose(0, 1)), finals


def _state_of(states: Any, number: int) -> Any:
    if states is None:
        return None
    return tuple(part[number] for part in states) if isinstance(states, tuple) else states[number]


def _weights(module: Any, layer: int, direction: str) -> list[torch.Tensor]:
    end = f"_l{layer}" + ("_reverse" if direction == "backward" else "")
    names = ["weight_ih", "weight_hh", *(["bias_ih", "bias_hh"] if module.bias else [])]
    return [getattr(module, name + end) for name in names]


def _fused(module: Any, layer: int, direction: str, x: Any, state: Any, lengths: Any) -> Any:
    lstm = isinstance(module, nn.LSTM)
    zeros = x.new_zeros(1, x.shape[0], module.hidden_size)
    if state is None:
        start = (zeros, zeros) if lstm else zeros
    else:
        start = tuple(part.unsqueeze(0) for part in state) if lstm else state.unsqueeze(0)
    kind = "lstm" if lstm else "gru" if isinstance(module, nn.GRU) else module.nonlinearity
    weights = _weights(module, layer, direction)
    sequence = x
    if direction == "backward":
        sequence = _reversed(x, lengths)
    if lengths is None:
        result = FUSED[kind](sequence, start, weights, module.bias, 1, 0.0, module.training, False, True)
    else:
        bundle = pack_padded_sequence(sequence, lengths, batch_first=True, enforce_sorted=False)
        if bundle.sorted_indices is not None:
            order = bundle.sorted_indices
            start = tuple(part[:, order] for part in start) if lstm else start[:, order]
        result = FUSED[kind](
            bundle.data, bundle.batch_sizes, start, weights, module.bias, 1, 0.0, module.training, False
        )
    y, *final = result
    if lengths is not None:
        back = bundle.unsorted_indices
        bundle = PackedSequence(y, bundle.batch_sizes, bundle.sorted_indices, back)
        y, _ = pad_packed_sequence(bundle, batch_first=True, total_length=x.shape[1])
        if back is not None:
            final = [part[:, back] for part in final]
    if direction == "backward":
        y = _reversed(y, lengths)
    final = [part[0] for part in final]
    return y, (tuple(final) if lstm else final[0])


def _reversed(x: torch.Tensor, lengths: Any) -> torch.Tensor:
    if lengths is None:
        return x.flip(1)
    steps = torch.arange(x.shape[1]).unsqueeze(0)
    ends = lengths.unsqueeze(1)
    order = torch.where(steps < ends, ends - 1 - steps, steps)
    return torch.gather(x, 1, order.unsqueeze(-1).expand_as(x))


def _own_loop(
    module: Any, layer: int, direction: str, x: Any, state: Any, reset_before: bool, mask: torch.Tensor | None
) -> Any:
    """The cells' equations, one timestep after the other; where the mask is False the state is carried."""
    lstm = isinstance(module, nn.LSTM)
    w, u, *biases = _weights(module, layer, direction)
    b, c = biases if biases else (x.new_zeros(w.shape[0]), x.new_zeros(w.shape[0]))
    zeros = x.new_zeros(x.shape[0], module.hidden_size)
    h, memory = (zeros, zeros) if state is None else state if lstm else (state, zeros)
    steps = range(x.shape[1])
    outputs: dict[int, torch.Tensor] = {}
    for t in reversed(steps) if direction == "backward" else steps:
        new_memory = memory
        if lstm:
            i, f, g, o = (x[:, t] @ w.T + b + h @ u.T + c).chunk(4, -1)
            new_memory = f.sigmoid() * memory + i.sigmoid() * g.tanh()
            new = o.sigmoid() * new_memory.tanh()
        elif isinstance(module, nn.GRU):
            new = _gru_step(x[:, t], h, w, u, b, c, reset_before)
        else:
            new = x[:, t] @ w.T + b + h @ u.T + c
            new = new.tanh() if module.nonlinearity == "tanh" else new.relu()
        if mask is not None:
            kept = mask[:, t].unsqueeze(-1)
            new, new_memory = torch.where(kept, new, h), torch.where(kept, new_memory, memory)
        h, memory = new, new_memory
        outputs[t] = h
    y = torch.stack([outputs[t] for t in steps], 1)
    return y, ((h, memory) if lstm else h)


def _gru_step(x: Any, h: Any, w: Any, u: Any, b: Any, c: Any, reset_before: bool) -> Any:
    xr, xz, xn = (x @ w.T + b).chunk(3, -1)
    if reset_before:
        ur, uz, un = u.chunk(3, 0)
        cr, cz, cn = c.chunk(3, 0)
        r, z = (xr + h @ ur.T + cr).sigmoid(), (xz + h @ uz.T + cz).sigmoid()
        n = (xn + (r * h) @ un.T + cn).tanh()
    else:
        hr, hz, hn = (h @ u.T + c).chunk(3, -1)
        r, z = (xr + hr).sigmoid(), (xz + hz).sigmoid()
        n = (xn + r * hn).tanh()
    return z * h + (1 - z) * n


def _last_everywhere(x: torch.Tensor, directions: int, last: list[Any]) -> tuple[torch.Tensor, list[Any]]:
    """The state with which each direction of the last layer ends, at every timestep and as every layer's last state."""
    units = x.shape[-1] // directions
    ends = [x[:, -1, :units], x[:, 0, units:]][:directions]
    whole = torch.cat(ends, -1).unsqueeze(1).expand(-1, x.shape[1], -1)
    return whole, last[-directions:] * (len(last) // directions)
