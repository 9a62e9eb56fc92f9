"""The blocks of random PyTorch modules as people write them: each adds its lines to an architecture."""

import random
from dataclasses import dataclass, field

HEAD = '''"""A random module."""

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


class Model(nn.Module):
    def __init__(self):
        super().__init__()
'''
ACTIVATIONS = [
    "ReLU",
    "Tanh",
    "Sigmoid",
    "GELU",
    "SiLU",
    "ELU",
    "LeakyReLU",
    "Softplus",
    "Hardtanh",
    "SELU",
    "Softsign",
]
FUNCTIONS = ["torch.tanh", "torch.sigmoid", "F.relu", "F.gelu", "F.silu", "F.elu", "F.softplus", "F.leaky_relu"]
OPTIMIZERS = [
    "torch.optim.Adam({p}, lr=1e-3)",
    "torch.optim.Adam({p}, lr=2e-3, weight_decay=1e-4)",
    "torch.optim.Adam({p}, lr=1e-3, amsgrad=True)",
    "torch.optim.AdamW({p}, lr=1e-3)",
    "torch.optim.SGD({p}, lr=0.05)",
    "torch.optim.SGD({p}, lr=0.05, momentum=0.9, nesterov=True)",
    "torch.optim.SGD({p}, lr=0.05, momentum=0.8, weight_decay=1e-3)",
    "torch.optim.RMSprop({p}, lr=1e-3)",
    "torch.optim.RMSprop({p}, lr=1e-3, momentum=0.5, centered=True)",
    "torch.optim.Adagrad({p}, lr=0.01)",
    "torch.optim.Adadelta({p}, lr=0.5)",
    "torch.optim.Adamax({p}, lr=2e-3)",
]


@dataclass
class Architecture:
    """A module under construction: lines of __init__ and of forward, and what `x` is now."""

    random: random.Random
    init: list[str] = field(default_factory=list)
    forward: list[str] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)
    examples: list[str] = field(default_factory=list)
    steps: int = 0
    width: int = 0
    lengths: bool = False
    count: int = 0
    dropped: bool = False

    def name(self, kind: str) -> str:
        """A new attribute's name."""
        self.count += 1
        return f"{kind}{self.count}"

    def choice(self, *options: object) -> object:
        """One of some options."""
        return self.random.choice(options)

    def chance(self, probability: float) -> bool:
        """True as often as that."""
        return self.random.random() < probability

    def module(self, kind: str, construction: str) -> str:
        """Add a module; returns how forward calls it."""
        name = self.name(kind)
        self.init.append(f"self.{name} = {construction}")
        return f"self.{name}"

    def say(self, *lines: str) -> None:
        """Add lines to forward."""
        self.forward.extend(lines)


def add_inputs(a: Architecture) -> None:
    """Add the inputs."""
    a.steps, a.width = a.random.randint(3, 9), a.random.randint(2, 6)
    kind = a.random.choices(["series", "tokens", "packed", "time_first"], [5, 4, 2, 2])[0]
    if kind == "tokens" or (kind == "packed" and a.chance(0.5)):
        size = a.random.randint(10, 40)
        padding = ", padding_idx=0" if a.chance(0.3) else ""
        a.width = a.random.randint(3, 8)
        embedding = a.module("embedding", f"nn.Embedding({size}, {a.width}{padding})")
        a.arguments.append("tokens")
        a.examples.append(f"8,{a.steps}:int<{size}")
        a.say(f"x = {embedding}(tokens)")
        if a.chance(0.2):
            a.say("x = x * (tokens != 0).unsqueeze(-1).float()")
    elif kind == "time_first":
        a.arguments.append("x")
        a.examples.append(f"{a.steps},8b,{a.width}")
        a.say("x = x.transpose(0, 1)" if a.chance(0.5) else "x = x.permute(1, 0, 2)")
    else:
        a.arguments.append("x")
        a.examples.append(f"8,{a.steps},{a.width}")
    if kind == "packed":
        a.lengths = True
        a.arguments.append("lengths")
        a.examples.append(f"8:1<=int<{a.steps + 1}")


def add_activation(a: Architecture) -> None:
    """Add an activation."""
    if a.chance(0.5):
        a.say(f"x = {a.module('act', f'nn.{a.choice(*ACTIVATIONS)}()')}(x)")
    else:
        a.say(f"x = {a.choice(*FUNCTIONS)}(x)")


def add_linear(a: Architecture) -> None:
    """Add a dense layer."""
    width = a.random.randint(3, 9)
    bias = ", bias=False" if a.chance(0.2) else ""
    a.say(f"x = {a.module('linear', f'nn.Linear({a.width}, {width}{bias})')}(x)")
    a.width = width
    if a.chance(0.6):
        add_activation(a)


def add_dropout(a: Architecture) -> None:
    """Add a dropout."""
    a.dropped = True
    if a.chance(0.6):
        a.say(f"x = {a.module('dropout', f'nn.Dropout({a.choice(0.1, 0.3, 0.5)})')}(x)")
    else:
        a.say(f"x = F.dropout(x, {a.choice(0.1, 0.4)}, self.training)")


def add_norm(a: Architecture) -> None:
    """Add a layer normalisation."""
    a.say(f"x = {a.module('norm', f'nn.LayerNorm({a.width})')}(x)")


def add_residual(a: Architecture) -> None:
    """Add a residual connection."""
    inner = a.module("linear", f"nn.Linear({a.width}, {a.width})")
    a.say(f"x = x + {a.choice(*FUNCTIONS)}({inner}(x))" if a.chance(0.5) else f"x = x * torch.sigmoid({inner}(x))")


def add_recurrent(a: Architecture) -> None:
    """Add recurrent layers of one kind."""
    kind = str(a.choice("LSTM", "LSTM", "GRU", "GRU", "RNN"))
    units, layers, both = a.random.randint(2, 7), a.choice(1, 1, 2, 3), a.chance(0.35)
    first = a.chance(0.7)
    options = [f"nn.{kind}({a.width}, {units}"]
    options += [f"num_layers={layers}"] if layers != 1 else []
    options += ["batch_first=True"] if first else []
    options += ["bidirectional=True"] if both else []
    options += ["dropout=0.2"] if layers != 1 and a.chance(0.4) else []
    options += ["bias=False"] if a.chance(0.15) else []
    options += ["nonlinearity='relu'"] if kind == "RNN" and a.chance(0.4) else []
    rnn = a.module(kind.lower(), f"{', '.join(options)})")
    rows = int(layers) * (2 if both else 1)
    given = "x" if first else "x.transpose(0, 1)"
    states = _initial_states(a, kind, rows, units)
    if a.lengths and not states and a.chance(0.7):
        tail = "batch_first=True, enforce_sorted=False"
        if not first:
            tail = "enforce_sorted=False"
        a.say(f"packed = pack_padded_sequence({given}, lengths, {tail})")
        a.say(f"out, state = {rnn}(packed)")
        a.say(f"x, _ = pad_packed_sequence(out{', batch_first=True' if first else ''})")
    else:
        a.say(f"x, state = {rnn}({given}{states})")
    if not first:
        a.say("x = x.transpose(0, 1)")
    a.say("h = state[0]" if kind == "LSTM" else "h = state")
    a.width = units * (2 if both else 1)
    a.last = (rows, units, both)  # type: ignore[attr-defined]


def _initial_states(a: Architecture, kind: str, rows: int, units: int) -> str:
    form = a.random.choices(["none", "zeros", "learned"], [6, 3, 1])[0]
    if form == "none":
        return ""
    if form == "zeros":
        made = a.choice(
            f"torch.zeros({rows}, x.size(0), {units})",
            f"torch.zeros({rows}, x.shape[0], {units}, device=x.device)",
            f"x.new_zeros({rows}, x.size(0), {units})",
        )
        a.say(f"h0 = {made}")
    else:
        name = a.name("start")
        a.init.append(f"self.{name} = nn.Parameter(torch.randn({rows}, 1, {units}) * 0.1)")
        a.say(f"h0 = self.{name}.expand(-1, x.size(0), -1).contiguous()")
    if kind == "LSTM":
        a.say("c0 = torch.zeros_like(h0)")
        return ", (h0, c0)"
    return ", h0"


def add_convolution(a: Architecture) -> None:
    """Add a convolution over time."""
    channels, size = a.random.randint(3, 8), a.choice(1, 2, 3)
    padding = a.choice(0, int(size) // 2, "'same'")
    after = a.steps if padding == "'same'" else a.steps + 2 * int(padding) - int(size) + 1
    if after < 2:
        return
    extra = f", padding={padding}" if padding else ""
    convolution = a.module("conv", f"nn.Conv1d({a.width}, {channels}, {size}{extra})")
    a.say("x = x.permute(0, 2, 1)", f"x = {convolution}(x)")
    a.width, a.steps = channels, after
    if a.chance(0.4):
        a.say(f"x = {a.module('bn', f'nn.BatchNorm1d({a.width})')}(x)")
    if a.chance(0.6):
        add_activation(a)
    if a.chance(0.4) and a.steps >= 4:
        kind = a.choice("MaxPool1d", "AvgPool1d")
        a.say(f"x = {a.module('pool', f'nn.{kind}(2)')}(x)")
        a.steps //= 2
    a.say("x = x.permute(0, 2, 1)" if a.chance(0.5) else "x = x.transpose(1, 2)")
    a.lengths = False


def add_attention(a: Architecture) -> None:
    """Add an attention of torch.nn."""
    heads = 2 if a.width % 2 == 0 else 1
    first = a.chance(0.6)
    attention = a.module(
        "attention", f"nn.MultiheadAttention({a.width}, {heads}{', batch_first=True' if first else ''})"
    )
    mask = ""
    if a.chance(0.3):
        a.say(f"mask = torch.triu(torch.ones({a.steps}, {a.steps}, dtype=torch.bool), diagonal=1)")
        mask = ", attn_mask=mask"
    given = "x" if first else "x.transpose(0, 1)"
    a.say(f"y = {given}", f"y, _ = {attention}(y, y, y{mask})")
    a.say("x = x + y" if first else "x = x + y.transpose(0, 1)")


def add_own_attention(a: Architecture) -> None:
    """Add an attention that is written out."""
    query, key = (a.module(kind, f"nn.Linear({a.width}, {a.width})") for kind in ("query", "key"))
    a.say(f"scores = {query}(x) @ {key}(x).transpose(-2, -1) / {a.width} ** 0.5")
    if a.chance(0.3):
        a.say(f"scores = scores.masked_fill(torch.tril(torch.ones({a.steps}, {a.steps})) == 0, float('-inf'))")
    a.say("x = torch.matmul(F.softmax(scores, dim=-1), x)")


def add_positions(a: Architecture) -> None:
    """Add learned positions."""
    name = a.name("position")
    a.init.append(f"self.{name} = nn.Parameter(torch.randn(1, {a.steps}, {a.width}) * 0.1)")
    a.say(f"x = x + self.{name}")


def add_views(a: Architecture) -> None:
    """Add a reshape there and back."""
    inner = a.module("linear", f"nn.Linear({a.width}, {a.width})")
    a.say(
        "batch, steps, features = x.shape",
        f"x = {inner}(x.reshape(batch * steps, features)).view(batch, steps, -1)",
    )


def add_step_by_step(a: Architecture) -> None:
    """Add a loop over a cell."""
    units, kind = a.random.randint(3, 6), str(a.choice("GRUCell", "LSTMCell", "RNNCell"))
    cell = a.module("cell", f"nn.{kind}({a.width}, {units})")
    a.say(f"h = torch.zeros(x.size(0), {units})")
    if kind == "LSTMCell":
        a.say("c = torch.zeros_like(h)")
    a.say("outputs = []", "for t in range(x.size(1)):")
    a.say(f"    h, c = {cell}(x[:, t], (h, c))" if kind == "LSTMCell" else f"    h = {cell}(x[:, t, :], h)")
    a.say("    outputs.append(h)", "x = torch.stack(outputs, dim=1)")
    a.width = units


def add_own_cell(a: Architecture) -> None:
    """A cell of raw matrices or linears, in a loop."""
    units = a.random.randint(3, 5)
    form = a.choice("minimal", "lstm", "rnn")
    if form == "minimal":
        name = a.name("cell")
        a.init.append(f"self.{name}_w = nn.Parameter(torch.randn({a.width}, {2 * units}) * 0.3)")
        a.init.append(f"self.{name}_u = nn.Parameter(torch.randn({units}, {2 * units}) * 0.3)")
        a.init.append(f"self.{name}_b = nn.Parameter(torch.zeros({2 * units}))")
        a.say(f"h = x.new_zeros(x.size(0), {units})", "outputs = []", "for t in range(x.shape[1]):")
        a.say(f"    gates = x[:, t] @ self.{name}_w + h @ self.{name}_u + self.{name}_b")
        a.say(f"    f, n = torch.sigmoid(gates[:, :{units}]), torch.tanh(gates[:, {units}:])")
        a.say("    h = f * h + (1 - f) * n", "    outputs.append(h.unsqueeze(1))", "x = torch.cat(outputs, dim=1)")
    elif form == "lstm":
        both = a.module("gates", f"nn.Linear({a.width + units}, {4 * units})")
        a.say(f"h = torch.zeros(x.size(0), {units})", f"c = torch.zeros(x.size(0), {units})")
        a.say(f"out = torch.zeros(x.size(0), x.size(1), {units})", "for t in range(x.size(1)):")
        a.say(f"    i, f, g, o = {both}(torch.cat([x[:, t], h], dim=1)).chunk(4, 1)")
        a.say(
            "    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)",
            "    h = torch.sigmoid(o) * torch.tanh(c)",
        )
        a.say("    out[:, t] = h", "x = out")
    else:
        inner, outer = (
            a.module("i2h", f"nn.Linear({a.width}, {units})"),
            a.module("h2h", f"nn.Linear({units}, {units})"),
        )
        a.say(f"h = torch.zeros(x.size(0), {units}, device=x.device)", "outputs = []")
        a.say("for step in x.unbind(1):", f"    h = torch.tanh({inner}(step) + {outer}(h))", "    outputs += [h]")
        a.say("x = torch.stack(outputs, 1)")
    a.width = units


def add_decoder(a: Architecture) -> None:
    """The last state of one layer begins another."""
    units, kind = a.random.randint(2, 5), str(a.choice("GRU", "LSTM"))
    encoder = a.module("encoder", f"nn.{kind}({a.width}, {units}, batch_first=True)")
    decoder = a.module("decoder", f"nn.{kind}({a.width}, {units}, batch_first=True)")
    a.say(
        f"_, state = {encoder}(x)",
        f"x, _ = {decoder}(x, state)" if a.chance(0.5) else f"x, _ = {decoder}(x.flip(1), state)",
    )
    a.width = units


def add_split_directions(a: Architecture) -> None:
    """Add both directions, taken apart."""
    units = a.random.randint(2, 5)
    rnn = a.module("bilstm", f"nn.LSTM({a.width}, {units}, batch_first=True, bidirectional=True)")
    a.say(f"x, _ = {rnn}(x)")
    if a.chance(0.5):
        a.say(f"x = x[:, :, :{units}] + x[:, :, {units}:]")
    else:
        a.say(f"x = x.view(x.size(0), x.size(1), 2, {units}).sum(2)")
    a.width = units


def add_standardised(a: Architecture) -> None:
    """Add a standardisation by hand."""
    a.say(
        str(
            a.choice(
                "x = (x - x.mean(dim=1, keepdim=True)) / (x.std(dim=1, keepdim=True) + 1e-3)",
                "x = F.normalize(x, dim=-1)",
                "x = x - x.mean(1, keepdim=True)",
                "x = x.clamp(-2, 2)",
                "x = x.cumsum(1) / 4",
                "x = torch.where(x > 0, x, 0.1 * x)",
                "x = x + 0.5",
                "x = F.pad(x[:, 1:], (0, 0, 1, 0))",
                "x = torch.roll(x, 1, 1)",
            )
        )
    )


def add_sequential(a: Architecture) -> None:
    """Add an nn.Sequential."""
    width, out = a.random.randint(3, 8), a.random.randint(3, 8)
    parts = [
        f"nn.Linear({a.width}, {width})",
        f"nn.{a.choice(*ACTIVATIONS)}()",
        "nn.Dropout(0.2)",
        f"nn.Linear({width}, {out})",
    ]
    a.say(f"x = {a.module('mlp', f'nn.Sequential({chr(44).join(parts)})')}(x)")
    a.width = out
