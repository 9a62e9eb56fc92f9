"""Recurrent layers: nn.LSTM, nn.GRU and nn.RNN where they compute the same, else a cell of the file's own, unrolled."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from compare.explain.layer_maps import GRU_ORDER
from compare.explain.weight_maps import gates
from compare.port.graph import Call, Layer, Tensor
from compare.port.torch_writer.activations import name_of
from compare.port.torch_writer.cells import (
    STACKED,
    STATES,
    UNROLL,
    UNROLL_MASKED,
    kind_of_cell,
    mask_counts,
    own_cell,
)
from compare.port.torch_writer.code import Module, Refused, literal

MODULES = {"LSTM": "nn.LSTM", "GRU": "nn.GRU", "SimpleRNN": "nn.RNN"}

RUN_MASKED = '''
def run_masked(rnn, x, mask, state=None, zero_output=False):
    """Run a layer over the timesteps whose mask is True; elsewhere its state and its output stay (or that is zero)."""
    order = torch.argsort((~mask).int(), dim=1, stable=True)  # the timesteps that count, first
    lengths, seen = mask.sum(1), mask.cumsum(1)
    moved = x.gather(1, order[..., None].expand_as(x))
    packed = pack_padded_sequence(moved, lengths.clamp(min=1).cpu(), batch_first=True, enforce_sorted=False)
    outputs, last = rnn(packed, state)
    outputs, _ = pad_packed_sequence(outputs, batch_first=True, total_length=x.shape[1])
    outputs = outputs.gather(1, (seen - 1).clamp(min=0)[..., None].expand_as(outputs))
    outputs = torch.where((mask if zero_output else seen > 0)[..., None], outputs, 0.0)
    runs = (lengths > 0)[:, None]
    if isinstance(last, tuple):
        return outputs, tuple(torch.where(runs, new, 0.0 if state is None else state[i]) for i, new in enumerate(last))
    return outputs, torch.where(runs, last, 0.0 if state is None else state)
'''


@dataclass
class Run:
    """One recurrent layer as it is called: what it is given, and what is wanted of it."""

    attribute: str
    layer: Layer
    x: str
    mask: str | None
    states: Sequence[str] | None
    sequences: bool
    wants_states: bool


def recurrent(module: Module, call: Call) -> None:
    """LSTM, GRU, SimpleRNN, and RNN with any cell."""
    layer = module.layer_of(call)
    config = layer.config
    states = given_states(module, call)
    number = sum(len(Tensor(call.name, i).call) > 0 for i in range(1, len(call.shapes)))
    stateful, sequences = bool(config.get("stateful")), bool(config.get("return_sequences"))
    used = any(module.is_used(Tensor(call.name, i)) for i in range(1, number + 1))
    attribute = make(module, call, layer, module.path_of(call), module.shape(first(call))[-1])
    x, mask = module.text(first(call)), mask_of(module, call)
    if stateful and states is None:
        kept = f"{attribute}_state"
        if f"{kept} = None" not in module.init:
            module.init.append(f"{kept} = None")
            module.resets.append(f"{kept} = None")
        output, last = run_stateful(module, call, Run(attribute, layer, x, mask, None, sequences, True), kept)
    else:
        output, last = run(module, call, Run(attribute, layer, x, mask, states, sequences, used))
    finish(module, call, output, last)


def finish(module: Module, call: Call, output: str, states: Sequence[str]) -> None:
    """Keep what a run gave under the names of the call's outputs."""
    pairs = [(Tensor(call.name, 0), output)]
    pairs += [(Tensor(call.name, i + 1), text) for i, text in enumerate(states)] if len(call.shapes) > 1 else []
    pairs = [(tensor, text) for tensor, text in pairs if module.is_used(tensor)]
    for tensor, text in pairs[1:]:
        module.alias(tensor, text)
    if pairs and pairs[0][0].number == 0:
        tensor, text = pairs[0]
        if text.isidentifier():
            module.alias(tensor, text)
        else:
            module.line(f"{module.bind(tensor)} = {text}")
    elif pairs:
        module.alias(*pairs[0])


def first(call: Call) -> Any:
    """What a layer is given first."""
    return call.arguments[0] if call.arguments else call.keywords["sequences"]


def given_states(module: Module, call: Call) -> list[str] | None:
    """The initial states that a call is given."""
    value = call.arguments[1] if len(call.arguments) > 1 else call.keywords.get("initial_state")
    if value is None:
        return None
    flat = value if isinstance(value, list | tuple) else [value]
    return [module.text(state) for state in flat]


def mask_of(module: Module, call: Call) -> str | None:
    """The mask that a call is given."""
    mask = call.keywords.get("mask")
    while isinstance(mask, list | tuple):
        mask = mask[0]
    return None if mask is None else module.text(mask)


# Layers


def cell_of(layer: Layer) -> Layer:
    """The cell of a recurrent layer."""
    return layer.layers["cell"]


def is_fused(layer: Layer, call: Call) -> bool:
    """Whether PyTorch's own layer computes the same."""
    cell = cell_of(layer)
    kind, config = kind_of_cell(cell.kind), cell.config
    if kind not in MODULES or config.get("recurrent_dropout"):
        return False
    if config.get("dropout") and mask_counts(kind, config) > 1:
        return False
    act = name_of(config.get("activation", "tanh"), call)
    if kind == "SimpleRNN":
        return act in ("tanh", "relu")
    gate = name_of(config.get("recurrent_activation", "sigmoid"), call)
    return act == "tanh" and gate == "sigmoid" and (kind == "LSTM" or bool(config.get("reset_after", True)))


def make(module: Module, call: Call, layer: Layer, path: str, features: int | None, attribute: str = "") -> str:
    """Have a recurrent layer in the class; returns `self.<attribute>`."""
    key = attribute or str(call.layer)
    if features is None:
        raise Refused(call, "the number of its inputs is not known")
    if key in module.attributes:
        return f"self.{module.attributes[key]}"
    name = module.attribute(key)
    cell = cell_of(layer)
    if is_fused(layer, call):
        options = fused_options(cell, call)
        module.init.append(
            f"self.{name} = {MODULES[kind_of_cell(cell.kind)]}({features}, {cell.config['units']}{options})"
        )
        fused_weights(module, cell, f"{path}cell/", name)
        freeze(module, cell, name)
    else:
        made, _ = _cell(module, call, cell, f"{path}cell/", name, features)
        module.init.append(f"self.{name} = {made}")
    return f"self.{name}"


def fused_options(cell: Layer, call: Call) -> str:
    """What a layer of PyTorch's is given beside its sizes."""
    bias = "" if cell.config.get("use_bias", True) else ", bias=False"
    act = name_of(cell.config.get("activation", "tanh"), call)
    relu = ', nonlinearity="relu"' if kind_of_cell(cell.kind) == "SimpleRNN" and act == "relu" else ""
    return f"{relu}{bias}, batch_first=True"


def freeze(module: Module, cell: Layer, name: str, suffixes: Sequence[str] = ("",)) -> None:
    """Keras has one bias where PyTorch has two: the second is zero and is not trained."""
    if kind_of_cell(cell.kind) != "GRU" and cell.config.get("use_bias", True):
        module.init += [
            f"self.{name}.bias_hh_l0{suffix}.requires_grad_(False)  # Keras has one bias" for suffix in suffixes
        ]


def fused_weights(module: Module, cell: Layer, path: str, name: str, suffix: str = "") -> None:
    """Say where the weights of PyTorch's own layer come from."""
    kind, units = kind_of_cell(cell.kind), int(cell.config["units"])
    order = GRU_ORDER if kind == "GRU" else (0,)
    module.weight(f"{name}.weight_ih_l0{suffix}", f"{path}kernel", lambda v: gates(v, order).T)
    module.weight(f"{name}.weight_hh_l0{suffix}", f"{path}recurrent_kernel", lambda v: gates(v, order).T)
    if not cell.config.get("use_bias", True):
        return
    if kind == "GRU":
        module.weight(f"{name}.bias_ih_l0{suffix}", f"{path}bias", lambda v: gates(v[0], order))
        module.weight(f"{name}.bias_hh_l0{suffix}", f"{path}bias", lambda v: gates(v[1], order))
    else:
        module.weight(f"{name}.bias_ih_l0{suffix}", f"{path}bias")
        module.zeros(f"{name}.bias_hh_l0{suffix}", units * (4 if kind == "LSTM" else 1))


def _cell(module: Module, call: Call, cell: Layer, path: str, tensors: str, features: int) -> tuple[str, int]:
    """What makes a cell, and how many outputs it has."""
    if cell.kind == "StackedRNNCells":
        parts = []
        for number in range(len(cell.layers)):
            inner = cell.layers[f"cells/{number}"]
            text, features = _cell(module, call, inner, f"{path}cells/{number}/", f"{tensors}.cells.{number}", features)
            parts.append(text)
        return f"{module.file.helper('StackedCells', STACKED)}({', '.join(parts)})", features
    if cell.graph is not None:
        from compare.port.torch_writer.module import write_class  # a cell may be a graph of its own

        sizes = f"self.state_sizes = {cell.config['state_sizes']}"
        prefix = f"{module.prefix}{tensors}."
        name = write_class(cell.graph, module.file, cell.kind, f"{module.path}{path}", prefix, [sizes])
        return f"{name}()", int(cell.config["output_size"])
    if kind_of_cell(cell.kind) not in MODULES:
        needed = "write its counterpart, and port what is before and after it by itself"
        raise Refused(call, f"its cell {cell.kind} is not known here: {needed}")
    return own_cell(module, call, cell, path, tensors, features), int(cell.config["units"])


# Runs


def run(module: Module, call: Call, wanted: Run) -> tuple[str, list[str]]:
    """Write the lines of a run; returns the text of its output, and the names of its last states."""
    config, cell = wanted.layer.config, cell_of(wanted.layer)
    fused = is_fused(wanted.layer, call)
    x, mask = wanted.x, wanted.mask
    rate = cell.config.get("dropout") if fused else None
    if rate:
        module.file.imports.add("F")
        x = f"F.dropout1d({x}.transpose(1, 2), {literal(float(rate))}, self.training).transpose(1, 2)"
        if mask is not None or config.get("go_backwards"):
            name = module.temporary("dropped")
            module.line(f"{name} = {x}")
            x = name
    if config.get("go_backwards"):
        x, mask = f"{x}.flip(1)", None if mask is None else f"{mask}.flip(1)"
    zero = bool(config.get("zero_output_for_mask")) and mask is not None
    arguments = [wanted.attribute, x] if mask else [x]
    arguments += [mask] if mask else []
    if fused:
        return _run_fused(module, wanted, arguments, zero)
    return _run_unrolled(module, wanted, x, mask, zero)


def _run_fused(module: Module, wanted: Run, arguments: list[str], zero: bool) -> tuple[str, list[str]]:
    kind = kind_of_cell(cell_of(wanted.layer).kind)
    if wanted.states is not None:
        parts = [f"{state}[None]" for state in wanted.states]
        arguments = [*arguments, f"({', '.join(parts)})" if kind == "LSTM" else parts[0]]
    arguments = [*arguments, *(["zero_output=True"] if zero else [])]
    function = wanted.attribute
    if wanted.mask:
        module.file.imports |= {"torch", "packing"}
        function = module.file.helper("run_masked", RUN_MASKED)
    text = f"{function}({', '.join(arguments)})"
    if not wanted.wants_states:
        return (f"{text}[0]" if wanted.sequences else f"{text}[0][:, -1]"), []
    names = _state_names(module, wanted)
    output = module.temporary("outputs")
    inner = f"({', '.join(names)})" if kind == "LSTM" else names[0]
    needs_output = wanted.sequences or zero
    module.line(f"{output if needs_output else '_'}, {inner} = {text}")
    module.line(f"{', '.join(names)} = {', '.join(f'{name}[0]' for name in names)}")
    if wanted.sequences:
        return output, names
    return (f"{output}[:, -1]" if zero else names[0]), names


def _state_names(module: Module, wanted: Run) -> list[str]:
    stem = wanted.attribute.removeprefix("self.")
    cell = cell_of(wanted.layer)
    kind = kind_of_cell(cell.kind)
    count = STATES.get(kind) or _count_states(cell)
    names = ["h", "c"] if kind == "LSTM" else ["h"] if count == 1 else [f"h{i + 1}" for i in range(count)]
    plain = [module.temporary(name) for name in names]
    return plain if plain == names else [module.temporary(f"{stem}_{name}") for name in names]


def _count_states(cell: Layer) -> int:
    if cell.kind == "StackedRNNCells":
        return sum(_count_states(inner) for inner in cell.layers.values())
    return STATES.get(kind_of_cell(cell.kind)) or len(cell.config.get("state_sizes", [0]))


def _run_unrolled(module: Module, wanted: Run, x: str, mask: str | None, zero: bool) -> tuple[str, list[str]]:
    module.file.imports.add("torch")
    cell = cell_of(wanted.layer)
    for inner, owner in _cells_with_dropout(cell, wanted.attribute):
        rates = inner.config
        assert rates
        module.line(f"{owner}.draw_masks({x})")
    states = list(wanted.states or [])
    if mask:
        function = module.file.helper("unroll_masked", UNROLL_MASKED)
        arguments = [wanted.attribute, x, mask, *states, *(["zero_output=True"] if zero else [])]
    else:
        function = module.file.helper("unroll", UNROLL)
        arguments = [wanted.attribute, x, *states]
    text = f"{function}({', '.join(arguments)})"
    if not wanted.wants_states:
        return (f"{text}[0]" if wanted.sequences else f"{text}[0][:, -1]"), []
    names, output = _state_names(module, wanted), module.temporary("outputs")
    module.line(f"{output}, {', '.join(names)} = {text}")
    return (output if wanted.sequences else f"{output}[:, -1]"), names


def _cells_with_dropout(cell: Layer, owner: str) -> list[tuple[Layer, str]]:
    if cell.kind == "StackedRNNCells":
        inner = [(cell.layers[f"cells/{i}"], f"{owner}.cells[{i}]") for i in range(len(cell.layers))]
        return [pair for layer, name in inner for pair in _cells_with_dropout(layer, name)]
    return [(cell, owner)] if cell.config.get("dropout") or cell.config.get("recurrent_dropout") else []


def run_stateful(module: Module, call: Call, wanted: Run, kept: str) -> tuple[str, list[str]]:
    """A run that begins where the last batch ended."""
    fused = is_fused(wanted.layer, call)
    names = _state_names(module, wanted)
    if fused and not wanted.mask and not wanted.layer.config.get("go_backwards"):
        kind = kind_of_cell(cell_of(wanted.layer).kind)
        output, state = module.temporary("outputs"), module.temporary("state")
        module.line(f"{output}, {state} = {wanted.attribute}({wanted.x}, {kept})")
        held = f"tuple(part.detach() for part in {state})" if kind == "LSTM" else f"{state}.detach()"
        module.line(f"{kept} = {held}")
        texts = [f"{state}[{i}][0]" for i in range(2)] if kind == "LSTM" else [f"{state}[0]"]
        return (output if wanted.sequences else f"{output}[:, -1]"), texts
    module.line(f"states = {kept} or [{wanted.x}.new_zeros(len({wanted.x}), n) for n in {_sizes(wanted.layer)}]")
    given = [f"states[{i}]" for i in range(len(names))]
    output, last = run(
        module, call, Run(wanted.attribute, wanted.layer, wanted.x, wanted.mask, given, wanted.sequences, True)
    )
    module.line(f"{kept} = [part.detach() for part in ({', '.join(last)},)]")
    return output, last


def _sizes(layer: Layer) -> list[int]:
    def sizes(cell: Layer) -> list[int]:
        if cell.kind == "StackedRNNCells":
            return [size for inner in cell.layers.values() for size in sizes(inner)]
        if cell.graph is not None:
            return [int(size) for size in cell.config["state_sizes"]]
        return [int(cell.config["units"])] * STATES[kind_of_cell(cell.kind)]

    return sizes(cell_of(layer))
