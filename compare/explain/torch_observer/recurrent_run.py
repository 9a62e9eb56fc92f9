"""A user's recurrent layer computed layer by layer, so that what is between its layers can be seen and changed."""

from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from compare.explain.torch_observer.changes import LayerChanges
from compare.explain.torch_observer.observed import Observed

# What a fused layer of each kind is called inside PyTorch.
FUSED = {"lstm": torch._VF.lstm, "gru": torch._VF.gru, "tanh": torch._VF.rnn_tanh, "relu": torch._VF.rnn_relu}


def run(module: Any, layers: Any, path: str, changes: LayerChanges, sequence: Any, state: Any = None) -> Any:
    """Compute nn.RNN, nn.LSTM or nn.GRU; what each layer is given and gives is noted, batch first, in time order.

    Returns what the module itself would: (outputs, last states).
    """
    x, lengths = _unpacked(module, layers.observed, path, sequence)
    x = layers.rewired(f"{path}|0|forward", x)
    mask = layers.mask() if changes.masked else None
    if mask is not None and lengths is not None:
        # What was packed is cut; the whole sequence is what the layer before gave.
        x, lengths = layers.observed.before_packing(), None
    layers.observed.started_from(path, state)
    state = None if changes.zero_state else state
    last: list[Any] = []
    directions = ("forward", "backward")[: 2 if module.bidirectional else 1]
    for layer in range(module.num_layers):
        if layer:
            x = layers.rewired(f"{path}|{layer}|forward", x)
        outputs = []
        for direction in directions:
            key, start = f"{path}|{layer}|{direction}", _state_of(state, len(last))
            layers.observed.entered(key, x)
            if changes.own_loop or mask is not None:
                y, final = _own_loop(module, layer, direction, x, start, changes.reset_before, mask)
            else:
                y, final = _fused(module, layer, direction, x, start, lengths)
            layers.observed.left(key, y)
            outputs.append(y)
            last.append(final)
        x = torch.cat(outputs, -1)
        if layer < module.num_layers - 1 and module.dropout:
            x = nn.functional.dropout(x, module.dropout, module.training)
    if changes.return_last:
        x, last = _last_everywhere(x, len(directions), last)
    return _packed_again(module, sequence, x), _stacked(module, last)


def _unpacked(module: Any, observed: Observed, path: str, sequence: Any) -> tuple[Any, Any]:
    """A sequence, batch first, and where it is packed its lengths."""
    if not isinstance(sequence, PackedSequence):
        return (sequence if module.batch_first else sequence.transpose(0, 1)), None
    observed.packed.add(path)
    x, lengths = pad_packed_sequence(sequence, batch_first=True)
    # As long as the windows are, also where the longest sequence of a batch is shorter: so it can be compared.
    missing = observed.timesteps() - x.shape[1]
    return (nn.functional.pad(x, (0, 0, 0, missing)) if missing > 0 else x), lengths


def _packed_again(module: Any, sequence: Any, x: torch.Tensor) -> Any:
    """Outputs as the module gives them: packed as its sequence was, or with its order of axes."""
    if not isinstance(sequence, PackedSequence):
        return x if module.batch_first else x.transpose(0, 1)
    sizes = sequence.batch_sizes
    counts = (sizes.unsqueeze(0) > torch.arange(int(sizes[0])).unsqueeze(1)).sum(1)
    if sequence.unsorted_indices is not None:
        counts = counts[sequence.unsorted_indices]
    return pack_padded_sequence(x, counts, batch_first=True, enforce_sorted=False)


def _stacked(module: Any, states: list[Any]) -> Any:
    if isinstance(module, nn.LSTM):
        return tuple(torch.stack(part) for part in zip(*states, strict=True))
    return torch.stack(states)


def _state_of(states: Any, number: int) -> Any:
    if states is None:
        return None
    return tuple(part[number] for part in states) if isinstance(states, tuple) else states[number]


def _weights(module: Any, layer: int, direction: str) -> list[torch.Tensor]:
    end = f"_l{layer}" + ("_reverse" if direction == "backward" else "")
    names = ["weight_ih", "weight_hh", *(["bias_ih", "bias_hh"] if module.bias else [])]
    return [getattr(module, name + end) for name in names]


def _fused(module: Any, layer: int, direction: str, x: Any, state: Any, lengths: Any) -> Any:
    """PyTorch's fused kernel of one layer and direction; outputs in time order, and the last state."""
    lstm = isinstance(module, nn.LSTM)
    start: Any
    if state is None:
        zeros = x.new_zeros(1, x.shape[0], module.hidden_size)
        start = (zeros, zeros) if lstm else zeros
    else:
        start = tuple(part.unsqueeze(0) for part in state) if lstm else state.unsqueeze(0)
    kernel = FUSED["lstm" if lstm else "gru" if isinstance(module, nn.GRU) else module.nonlinearity]
    options = (_weights(module, layer, direction), module.bias, 1, 0.0, module.training, False)
    sequence = _reversed(x, lengths) if direction == "backward" else x
    if lengths is None:
        y, *final = kernel(sequence, start, *options, True)
    else:
        bundle = pack_padded_sequence(sequence, lengths, batch_first=True, enforce_sorted=False)
        order, back = bundle.sorted_indices, bundle.unsorted_indices
        if order is not None:
            start = tuple(part[:, order] for part in start) if lstm else start[:, order]
        y, *final = kernel(bundle.data, bundle.batch_sizes, start, *options)
        bundle = PackedSequence(y, bundle.batch_sizes, order, back)
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
    """The cells' equations, one timestep after the other; where the mask is False the state stays."""
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
            computed = mask[:, t].unsqueeze(-1)
            new, new_memory = torch.where(computed, new, h), torch.where(computed, new_memory, memory)
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
