"""The cells that PyTorch has not: written into the file as a class, for exactly the configuration that is needed."""

from collections.abc import Mapping
from typing import Any

from compare.port.graph import Call, Layer
from compare.port.torch_writer.activations import activated, name_of
from compare.port.torch_writer.code import File, Module, literal

UNROLL = '''
def unroll(cell, x, *states):
    """Apply a cell to one timestep after the other; returns all outputs and the last states."""
    states = states or [x.new_zeros(len(x), size) for size in cell.state_sizes]
    outputs = []
    for step in x.unbind(1):
        output, *states = cell(step, *states)
        outputs.append(output)
    return torch.stack(outputs, 1), *states
'''
UNROLL_MASKED = '''
def unroll_masked(cell, x, mask, *states, zero_output=False):
    """Apply a cell to the timesteps whose mask is True; elsewhere its states and its output stay (or that is zero)."""
    states = states or [x.new_zeros(len(x), size) for size in cell.state_sizes]
    output, outputs = 0.0, []
    for step, counts in zip(x.unbind(1), mask.unbind(1), strict=True):
        new_output, *new_states = cell(step, *states)
        output = torch.where(counts[:, None], new_output, 0.0 if zero_output else output)
        states = [torch.where(counts[:, None], new, old) for new, old in zip(new_states, states, strict=True)]
        outputs.append(output)
    return torch.stack(outputs, 1), *states
'''
STACKED = '''
class StackedCells(nn.Module):
    """Cells one upon the other, as one cell."""

    def __init__(self, *cells):
        super().__init__()
        self.cells = nn.ModuleList(cells)
        self.state_sizes = [size for cell in cells for size in cell.state_sizes]

    def forward(self, x, *states):
        states, new_states = list(states), []
        for cell in self.cells:
            count = len(cell.state_sizes)
            x, *new = cell(x, *states[:count])
            states, new_states = states[count:], new_states + new
        return x, *new_states
'''
GATES = {"LSTM": 4, "GRU": 3, "SimpleRNN": 1}
STATES = {"LSTM": 2, "GRU": 1, "SimpleRNN": 1}


def kind_of_cell(kind: str) -> str:
    """The kind of a layer or of its cell: "LSTM" for LSTM and LSTMCell."""
    return kind.removesuffix("Cell")


def mask_counts(kind: str, config: Mapping[str, Any]) -> int:
    """How many masks each of a cell's dropouts draws: one for each gate where Keras computes them apart."""
    by_gate = config.get("recurrent_dropout") or config.get("implementation") == 1
    return GATES[kind] if by_gate and kind != "SimpleRNN" else 1


def own_cell(module: Module, call: Call, layer: Layer, path: str, tensors: str, features: int) -> str:
    """Have a class for a cell in the file, and its weights in their places; returns what makes one."""
    file, config, kind = module.file, layer.config, kind_of_cell(layer.kind)
    gates, units, bias = GATES[kind], int(config["units"]), bool(config.get("use_bias", True))
    second = kind == "GRU" and bool(config.get("reset_after", True)) and bias
    text = cell_text(file, call, kind, config, second)
    name = file.helper(f"{kind}Cell", text)
    file.imports |= {"torch"}
    module.weight(f"{tensors}.input.weight", f"{path}kernel", lambda v: v.T)
    module.weight(f"{tensors}.recurrent.weight", f"{path}recurrent_kernel", lambda v: v.T)
    if bias:
        module.weight(f"{tensors}.input.bias", f"{path}bias", lambda v: v[0] if second else v)
    if second:
        module.weight(f"{tensors}.recurrent.bias", f"{path}bias", lambda v: v[1])
    assert gates
    return f"{name}({features}, {units})"


def cell_text(file: File, call: Call, kind: str, config: Mapping[str, Any], second: bool) -> str:
    """The class of a cell."""
    act = name_of(config.get("activation", "tanh"), call)
    gate = name_of(config.get("recurrent_activation", "sigmoid"), call)
    gates, count = GATES[kind], mask_counts(kind, config)
    rates = [float(config.get(name) or 0.0) for name in ("dropout", "recurrent_dropout")]
    bias = "" if config.get("use_bias", True) else ", bias=False"
    width = "units" if gates == 1 else f"{gates} * units"
    sizes = "units, units" if kind == "LSTM" else "(units,)"
    lines = [
        f"class {kind}Cell(nn.Module):",
        f'    """Keras\'s {kind} cell{_said(kind, act, gate, config)}."""',
        "",
        "    def __init__(self, features, units):",
        "        super().__init__()",
        f"        self.state_sizes = {sizes}",
        f"        self.input = nn.Linear(features, {width}{bias})",
        f"        self.recurrent = nn.Linear(units, {width}{'' if second else ', bias=False'})",
        "",
    ]
    if any(rates):
        lines += _masks(file, rates, count)
    names = {"LSTM": "x, h, c", "GRU": "x, h", "SimpleRNN": "x, h"}[kind]
    lines.append(f"    def forward(self, {names}):")
    lines += [f"        {line}" for line in _equations(file, kind, act, gate, config, rates, count)]
    return "\n".join(lines)


def _said(kind: str, act: str, gate: str, config: Mapping[str, Any]) -> str:
    told = [] if act == "tanh" else [f"activation {act}"]
    told += [f"gates {gate}"] if kind != "SimpleRNN" and gate != "sigmoid" else []
    if kind == "GRU" and not config.get("reset_after", True):
        told.append("reset before the product")
    told += ["dropout of the state"] if config.get("recurrent_dropout") else []
    return f": {', '.join(told)}" if told else ""


def _masks(file: File, rates: list[float], count: int) -> list[str]:
    """A function that draws the masks of a sequence: one for all timesteps."""
    file.imports.add("F")
    lines = ["    def draw_masks(self, x):", '        """Draw what is dropped in all timesteps of a sequence."""']
    for rate, name, width in zip(
        rates, ("input", "recurrent"), ("x.shape[-1]", "self.recurrent.in_features"), strict=True
    ):
        if rate:
            draw = f"F.dropout1d(x.new_ones(len(x), {width}, 1), {literal(rate)}, self.training)[..., 0]"
            drawn = draw if count == 1 else f"[{draw} for _ in range({count})]"
            lines.append(f"        self.{name}_mask{'s' if count > 1 else ''} = {drawn}")
    return [*lines, ""]


def _product(owner: str, value: str, rate: float, count: int) -> tuple[list[str], str]:
    """Lines, and an expression, for what a kernel makes of a value that may be dropped."""
    if not rate:
        return [], f"self.{owner}({value})"
    if count == 1:
        return [], f"self.{owner}({value} * self.{owner}_mask)"
    kernels = f"zip(self.{owner}_masks, self.{owner}.weight.chunk({count}), strict=True)"
    name = f"from_{owner}"
    lines = [f"{name} = torch.cat([({value} * mask) @ kernel.T for mask, kernel in {kernels}], -1)"]
    return lines, name


def _equations(
    file: File, kind: str, act: str, gate: str, config: Mapping[str, Any], rates: list[float], count: int
) -> list[str]:
    by_gate = count > 1
    before, from_x = _product("input", "x", rates[0], count)
    more, from_h = _product("recurrent", "h", rates[1], count)
    if by_gate and rates[0] and config.get("use_bias", True):
        from_x = f"{from_x} + self.input.bias"
    if by_gate and rates[1] and kind == "GRU" and config.get("reset_after", True) and config.get("use_bias", True):
        from_h = f"{from_h} + self.recurrent.bias"

    def activate(name: str, text: str) -> str:
        return activated(file, name, text)

    if kind == "SimpleRNN":
        return [f"h = {activate(act, f'{from_x} + {from_h}')}", "return h, h"]
    if kind == "LSTM":
        return [
            *before,
            *more,
            f"i, f, g, o = ({from_x} + {from_h}).chunk(4, -1)",
            f"c = {activate(gate, 'f')} * c + {activate(gate, 'i')} * {activate(act, 'g')}",
            f"h = {activate(gate, 'o')} * {activate(act, 'c')}",
            "return h, h, c",
        ]
    if config.get("reset_after", True):
        return [
            *before,
            *more,
            f"x_z, x_r, x_n = ({from_x}).chunk(3, -1)",
            f"h_z, h_r, h_n = ({from_h}).chunk(3, -1)",
            f"z, r = {activate(gate, 'x_z + h_z')}, {activate(gate, 'x_r + h_r')}",
            f"n = {activate(act, 'x_n + r * h_n')}",
            "h = z * h + (1 - z) * n",
            "return h, h",
        ]
    seen = ["h", "h", "h"]
    if rates[1]:
        seen = ["h * m_z", "h * m_r", "h * m_n"]
        more = ["m_z, m_r, m_n = self.recurrent_masks"]
    else:
        more = []
    z, r, n = (f"({text}) @ {{}}.T" if "*" in text else f"{text} @ {{}}.T" for text in seen)
    reset = f"(r * {seen[2]}) @ u_n.T"
    assert n
    return [
        *before,
        *more,
        f"x_z, x_r, x_n = ({from_x}).chunk(3, -1)",
        "u_z, u_r, u_n = self.recurrent.weight.chunk(3)",
        f"z, r = {activate(gate, 'x_z + ' + z.format('u_z'))}, {activate(gate, 'x_r + ' + r.format('u_r'))}",
        f"n = {activate(act, f'x_n + {reset}')}",
        "h = z * h + (1 - z) * n",
        "return h, h",
    ]
