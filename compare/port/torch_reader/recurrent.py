"""Recurrent modules: one Keras layer for each of PyTorch's layers, Bidirectional where there are two directions."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from compare.port.graph import Layer, Tensor
from compare.port.torch_reader.held import BATCH, Fixed, Held, Last, Packed, Stack, Sym
from compare.port.torch_reader.lowering import Lowering
from compare.port.torch_reader.products import dropped
from compare.port.torch_reader.program import Parameter, Step, Value
from compare.port.torch_reader.selecting import EVERYTHING

KERAS = {"LSTM": "LSTM", "GRU": "GRU", "RNN": "SimpleRNN"}
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
# PyTorch's gates r, z, n in Keras's order z, r, h.
GRU_ORDER = (1, 0, 2)
TWO_BIASES = (
    "{}: PyTorch has two biases, which are added into one. Each gets the gradient that Keras's gets, so that PyTorch's "
    "sum moves twice as far in a step; train.py trains this bias at twice the rate, which is the same"
)


def gates(kind: str, array: np.ndarray) -> np.ndarray:
    """The gates along the first axis in Keras's order."""
    if kind != "GRU":
        return array
    parts = np.split(array, 3)
    return np.concatenate([parts[i] for i in GRU_ORDER])


class Use:
    """Which outputs of a recurrent module are used, in all of its calls."""

    def __init__(self, low: Lowering, path: str) -> None:
        self.low, self.program = low, low.program
        calls = [(n, step) for n, step in enumerate(low.program.steps) if step.module == path]
        config = calls[0][1].config
        self.batch_first = bool(config.get("batch_first"))
        self.both, self.layers = bool(config["bidirectional"]), int(config["num_layers"])
        packed = any(self._is_packed(step) for _, step in calls)
        outs = [use for n, _ in calls for use in low.used(n, 0)]
        self.last_only = bool(outs) and not self.both and not packed and all(map(self._is_last, outs))
        self.sequences = bool(outs) and not self.last_only
        self.states: dict[int, set[int]] = {1: set(), 2: set()}
        for number, _ in calls:
            for output in (1, 2):
                for use in low.used(number, output):
                    self.states[output] |= self._parts(use, number, output)
        if self.last_only:
            self.states[1].add(self.layers - 1)

    def _is_packed(self, step: Step) -> bool:
        value = step.arguments[0] if step.arguments else step.keywords["input"]
        while isinstance(value, Value):
            source = self.program.steps[value.step]
            if source.name == "_pack_padded_sequence":
                return True
            if source.name not in ("LSTM", "GRU", "RNN") or value.output:
                return False
            value = source.arguments[0]
        return False

    def _is_last(self, use: Any) -> bool:
        if use == "output" or self.program.steps[use].name != "__getitem__":
            return False
        index = self.program.steps[use].arguments[1]
        index = index if isinstance(index, tuple) else (index,)
        index = tuple(item for item in index if item is not Ellipsis)
        wanted = (EVERYTHING, -1) if self.batch_first else (-1,)
        steps = self.program.steps[self.program.steps[use].values[0].step].shapes[0][1 if self.batch_first else 0]
        last = tuple(-1 if item == steps - 1 and isinstance(item, int) else item for item in index)
        return last[: len(wanted)] == wanted and all(item == EVERYTHING for item in last[len(wanted) :])

    def _parts(self, use: Any, number: int, output: int) -> set[int]:
        """Which of the states a step uses."""
        count = self.layers * (2 if self.both else 1)
        step = None if use == "output" else self.program.steps[use]
        if step is not None and step.name == "__getitem__" and Value(number, output) == step.arguments[0]:
            index = step.arguments[1]
            first = index[0] if isinstance(index, tuple) and index else index
            if isinstance(first, int) and not isinstance(first, bool):
                return {first % count}
            if isinstance(first, slice):
                return set(range(count)[first])
        return set(range(count))


def recurrent(low: Lowering, x: Held, hx: Held = None) -> list[Held]:
    """A call of LSTM, GRU or RNN: outputs and last states."""
    step, config = low.step, low.step.config
    kind, path = step.name, step.module or ""
    if config.get("proj_size"):
        raise low.refusal(
            f"{path}, an LSTM with proj_size={config['proj_size']}: Keras's LSTM gives its state as it is and has no "
            "projection in it; a cell of your own in keras.layers.RNN would be needed"
        )
    use = _use(low, path)
    directions = 2 if use.both else 1
    mask = x.mask if isinstance(x, Packed) else None
    if isinstance(x, Packed):
        sequence = low.plain(x.sequence)
    else:
        sym = low.sym(x)
        if sym.rank != 3:
            raise low.refusal(f"{low.told(step)}: without a batch, which a Keras layer needs")
        sequence = low.plain(sym) if use.batch_first else low.laid(sym, (1, 0, 2))
    initial = _initial(low, hx, kind, use.layers * directions)
    states: dict[int, list[Any]] = {1: [], 2: []}
    for number in range(use.layers):
        layer = _layer(low, kind, path, number, use)
        own = [state for i in range(directions) for state in initial[number * directions + i]]
        keywords: dict[str, Any] = {}
        if any(state is not None for state in own):
            keywords["initial_state"] = [
                low.plain(_zeros(low, config)) if state is None else low.plain(state) for state in own
            ]
            if kind != "LSTM" and len(keywords["initial_state"]) == 1:
                keywords["initial_state"] = keywords["initial_state"][0]
        if mask is not None:
            keywords["mask"] = mask
        tensor = low.apply(layer, sequence, **keywords)
        _last_states(low, kind, tensor, layer, use, states)
        if number < use.layers - 1:
            sequence = tensor
            if config["dropout"]:
                name = f"{layer.name}_dropout"
                units = config["hidden_size"] * directions
                seen = low.new(sequence, (BATCH, BATCH, units))
                sequence = dropped(low, seen, config["dropout"], name, path=name).tensor
    out = _out(low, tensor, use, x if isinstance(x, Packed) else None, states)
    results = [Stack(tuple(states[1]))] + ([Stack(tuple(states[2]))] if kind == "LSTM" else [])
    return [out, *results]


def _use(low: Lowering, path: str) -> Use:
    if path not in low.known:
        low.known[path] = Use(low, path)
    return low.known[path]


def _out(low: Lowering, tensor: Tensor, use: Use, packed: Packed | None, states: dict[int, list[Any]]) -> Held:
    if use.last_only:
        return Last(states[1][-1])
    if not use.sequences:
        return None
    directions = 2 if use.both else 1
    units = low.step.config["hidden_size"] * directions
    if packed is not None:
        # Zeros where nothing is, as pad_packed_sequence() gives them; an operation's output has no mask of Keras's own,
        # which would follow the tensor into layers that PyTorch gives the whole sequence.
        tensor = low.emit("ops.where", low.emit("ops.expand_dims", packed.mask, 2), tensor, 0.0)
        return Packed(Sym(tensor, (*packed.sequence.seen[:2], units), (0, 1, 2)), packed.mask)
    return low.result(tensor, (0, 1, 2) if use.batch_first else (1, 0, 2))


def _zeros(low: Lowering, config: dict[str, Any]) -> Sym:
    return low.filled(Fixed(np.zeros((1, 1), np.float32), (BATCH, config["hidden_size"])))


def _initial(low: Lowering, hx: Held, kind: str, count: int) -> list[list[Any]]:
    """For each layer and direction its initial states; None where they are zeros."""
    several = list(hx) if isinstance(hx, tuple | list) else [hx]
    if kind == "LSTM" and hx is None:
        several = [None, None]
    parts = [list(_parts(low, state, count)) for state in several]
    rows = [list(row) for row in zip(*parts, strict=True)]
    return [[None] * len(row) if all(state is None for state in row) else row for row in rows]


def _parts(low: Lowering, state: Held, count: int) -> Iterator[Any]:
    if state is None or (isinstance(state, Fixed) and state.number == 0):
        yield from [None] * count
        return
    if isinstance(state, Stack):
        flat = [part for group in state.parts for part in (group.parts if isinstance(group, Stack) else [group])]
        for part in flat:
            yield None if isinstance(part, Fixed) and part.number == 0 else part
        return
    if isinstance(state, Fixed | Parameter):
        state = low.sym(state)
    axis = state.axes[0]
    rest = tuple(size for i, size in enumerate(state.shape) if i != axis)
    axes = tuple(a - (a > axis) for a in state.axes[1:])
    for number in range(count):
        index = (*(EVERYTHING for _ in range(axis)), number)
        yield Sym(low.emit("ops.get_item", state.tensor, index if axis else number), rest, axes)


def _layer(low: Lowering, kind: str, path: str, number: int, use: Use) -> Layer:
    config = low.step.config
    last = number == use.layers - 1
    directions = 2 if use.both else 1
    own = range(number * directions, (number + 1) * directions)
    settings: dict[str, Any] = {"units": config["hidden_size"]}
    if kind == "RNN" and config.get("nonlinearity", "tanh") != "tanh":
        settings["activation"] = config["nonlinearity"]
    if not config["bias"]:
        settings["use_bias"] = False
    if use.sequences or not last:
        settings["return_sequences"] = True
    needed = any(part in use.states[output] for part in own for output in (1, 2))
    only_h = not any(part in use.states[2] for part in own)
    if needed and (use.both or use.sequences or not last or not only_h):
        settings["return_state"] = True
    suffix = f"_l{number}" if use.layers > 1 else ""
    inner = low.layer(KERAS[kind], settings, path, suffix) if not use.both else None
    if inner is not None:
        _weights(low, inner, kind, path, number, "", "cell")
        return inner
    wrapped = {"layer": {"kind": KERAS[kind], **settings}}
    layer = low.layer("Bidirectional", wrapped, path, suffix)
    _weights(low, layer, kind, path, number, "", "forward_layer/cell")
    _weights(low, layer, kind, path, number, "_reverse", "backward_layer/cell")
    return layer


def _weights(low: Lowering, layer: Layer, kind: str, path: str, number: int, suffix: str, role: str) -> None:
    def named(weight: str) -> str:
        return low.path(f"{weight}_l{number}{suffix}")

    cell_weights(low, layer, kind, role, [named(w) for w in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")], path)


def cell_weights(low: Lowering, layer: Layer, kind: str, role: str, names: Sequence[str], path: str) -> None:
    """A cell's kernels and biases: a GRU keeps both biases, the others have their sum."""
    kernel, recurrent_kernel, first, second = names
    low.weight(layer, f"{role}/kernel", [kernel], lambda w: gates(kind, w).T)
    low.weight(layer, f"{role}/recurrent_kernel", [recurrent_kernel], lambda w: gates(kind, w).T)
    if not low.step.config["bias"]:
        return
    if kind == "GRU":
        low.weight(layer, f"{role}/bias", [first, second], lambda a, b: np.stack([gates(kind, a), gates(kind, b)]))
        return
    low.weight(layer, f"{role}/bias", [first, second], lambda a, b: a + b, summed=True)
    low.note(TWO_BIASES.format(path))


def _last_states(
    low: Lowering, kind: str, tensor: Tensor, layer: Layer, use: Use, states: dict[int, list[Any]]
) -> None:
    settings = layer.config.get("layer", layer.config)
    step = low.step
    shape = (step.shapes[1][1], step.config["hidden_size"])
    each = 2 if kind == "LSTM" else 1
    if not settings.get("return_state"):
        states[1] += [low.new(tensor, shape)] * (2 if use.both else 1)
        states[2] += [None] * (2 if use.both else 1)
        return
    for direction in range(2 if use.both else 1):
        for output in range(each):
            part = Tensor(tensor.call, 1 + direction * each + output)
            states[1 + output].append(low.new(part, shape))
    if use.both and not settings.get("return_sequences"):
        ends = tuple(state.tensor for state in states[1][-2:])
        low.both[ends] = tensor


def cell(low: Lowering, x: Held, hx: Held = None) -> Held:
    """A call of LSTMCell, GRUCell or RNNCell."""
    kind = low.step.name.removesuffix("Cell")
    config = low.step.config
    settings: dict[str, Any] = {"units": config["hidden_size"], **({} if config["bias"] else {"use_bias": False})}
    if kind == "RNN" and config["nonlinearity"] != "tanh":
        settings["activation"] = config["nonlinearity"]
    layer = low.layer(f"{KERAS[kind]}Cell", settings)
    names = [low.path(w) for w in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    kernel, recurrent_kernel, first, second = names
    low.weight(layer, "kernel", [kernel], lambda w: gates(kind, w).T)
    low.weight(layer, "recurrent_kernel", [recurrent_kernel], lambda w: gates(kind, w).T)
    if config["bias"] and kind == "GRU":
        low.weight(layer, "bias", [first, second], lambda a, b: np.stack([gates(kind, a), gates(kind, b)]))
    elif config["bias"]:
        low.weight(layer, "bias", [first, second], lambda a, b: a + b, summed=True)
        low.note(TWO_BIASES.format(low.step.module))
    states = list(hx) if isinstance(hx, tuple | list) else [hx] * (2 if kind == "LSTM" else 1)
    given = [low.plain(_zeros(low, config) if state is None else state) for state in states]
    tensor = low.apply(layer, low.plain(x), given)
    results = [low.result(tensor, output=0)]
    if kind == "LSTM":
        results.append(low.result(Tensor(tensor.call, 2), output=1))
    return results
