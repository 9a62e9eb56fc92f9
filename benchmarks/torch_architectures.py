"""Random PyTorch modules as people write them, for ports to Keras: `architecture(seed)` is a file and its examples."""

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


def _inputs(a: Architecture) -> None:
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


def _activation(a: Architecture) -> None:
    if a.chance(0.5):
        a.say(f"x = {a.module('act', f'nn.{a.choice(*ACTIVATIONS)}()')}(x)")
    else:
        a.say(f"x = {a.choice(*FUNCTIONS)}(x)")


def _linear(a: Architecture) -> None:
    width = a.random.randint(3, 9)
    bias = ", bias=False" if a.chance(0.2) else ""
    a.say(f"x = {a.module('linear', f'nn.Linear({a.width}, {width}{bias})')}(x)")
    a.width = width
    if a.chance(0.6):
        _activation(a)


def _dropout(a: Architecture) -> None:
    a.dropped = True
    if a.chance(0.6):
        a.say(f"x = {a.module('dropout', f'nn.Dropout({a.choice(0.1, 0.3, 0.5)})')}(x)")
    else:
        a.say(f"x = F.dropout(x, {a.choice(0.1, 0.4)}, self.training)")


def _norm(a: Architecture) -> None:
    a.say(f"x = {a.module('norm', f'nn.LayerNorm({a.width})')}(x)")


def _residual(a: Architecture) -> None:
    inner = a.module("linear", f"nn.Linear({a.width}, {a.width})")
    a.say(f"x = x + {a.choice(*FUNCTIONS)}({inner}(x))" if a.chance(0.5) else f"x = x * torch.sigmoid({inner}(x))")


def _recurrent(a: Architecture) -> None:
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


def _convolution(a: Architecture) -> None:
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
        _activation(a)
    if a.chance(0.4) and a.steps >= 4:
        kind = a.choice("MaxPool1d", "AvgPool1d")
        a.say(f"x = {a.module('pool', f'nn.{kind}(2)')}(x)")
        a.steps //= 2
    a.say("x = x.permute(0, 2, 1)" if a.chance(0.5) else "x = x.transpose(1, 2)")
    a.lengths = False


def _attention(a: Architecture) -> None:
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


def _own_attention(a: Architecture) -> None:
    query, key = (a.module(kind, f"nn.Linear({a.width}, {a.width})") for kind in ("query", "key"))
    a.say(f"scores = {query}(x) @ {key}(x).transpose(-2, -1) / {a.width} ** 0.5")
    if a.chance(0.3):
        a.say(f"scores = scores.masked_fill(torch.tril(torch.ones({a.steps}, {a.steps})) == 0, float('-inf'))")
    a.say("x = torch.matmul(F.softmax(scores, dim=-1), x)")


def _positions(a: Architecture) -> None:
    name = a.name("position")
    a.init.append(f"self.{name} = nn.Parameter(torch.randn(1, {a.steps}, {a.width}) * 0.1)")
    a.say(f"x = x + self.{name}")


def _views(a: Architecture) -> None:
    inner = a.module("linear", f"nn.Linear({a.width}, {a.width})")
    a.say(
        "batch, steps, features = x.shape",
        f"x = {inner}(x.reshape(batch * steps, features)).view(batch, steps, -1)",
    )


def _step_by_step(a: Architecture) -> None:
    units, kind = a.random.randint(3, 6), str(a.choice("GRUCell", "LSTMCell", "RNNCell"))
    cell = a.module("cell", f"nn.{kind}({a.width}, {units})")
    a.say(f"h = torch.zeros(x.size(0), {units})")
    if kind == "LSTMCell":
        a.say("c = torch.zeros_like(h)")
    a.say("outputs = []", "for t in range(x.size(1)):")
    a.say(f"    h, c = {cell}(x[:, t], (h, c))" if kind == "LSTMCell" else f"    h = {cell}(x[:, t, :], h)")
    a.say("    outputs.append(h)", "x = torch.stack(outputs, dim=1)")
    a.width = units


def _own_cell(a: Architecture) -> None:
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


def _decoder(a: Architecture) -> None:
    """The last state of one layer begins another."""
    units, kind = a.random.randint(2, 5), str(a.choice("GRU", "LSTM"))
    encoder = a.module("encoder", f"nn.{kind}({a.width}, {units}, batch_first=True)")
    decoder = a.module("decoder", f"nn.{kind}({a.width}, {units}, batch_first=True)")
    a.say(
        f"_, state = {encoder}(x)",
        f"x, _ = {decoder}(x, state)" if a.chance(0.5) else f"x, _ = {decoder}(x.flip(1), state)",
    )
    a.width = units


def _split_directions(a: Architecture) -> None:
    units = a.random.randint(2, 5)
    rnn = a.module("bilstm", f"nn.LSTM({a.width}, {units}, batch_first=True, bidirectional=True)")
    a.say(f"x, _ = {rnn}(x)")
    if a.chance(0.5):
        a.say(f"x = x[:, :, :{units}] + x[:, :, {units}:]")
    else:
        a.say(f"x = x.view(x.size(0), x.size(1), 2, {units}).sum(2)")
    a.width = units


def _standardised(a: Architecture) -> None:
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


def _sequential(a: Architecture) -> None:
    width, out = a.random.randint(3, 8), a.random.randint(3, 8)
    parts = [
        f"nn.Linear({a.width}, {width})",
        f"nn.{a.choice(*ACTIVATIONS)}()",
        "nn.Dropout(0.2)",
        f"nn.Linear({width}, {out})",
    ]
    a.say(f"x = {a.module('mlp', f'nn.Sequential({chr(44).join(parts)})')}(x)")
    a.width = out


SEQUENCE = [
    (_recurrent, 9), (_linear, 4), (_dropout, 2), (_norm, 2), (_residual, 2), (_convolution, 3), (_attention, 2),
    (_own_attention, 2), (_positions, 1), (_views, 1), (_step_by_step, 1), (_activation, 1),
    (_own_cell, 1), (_decoder, 2), (_split_directions, 1), (_standardised, 2), (_sequential, 1),
]  # fmt: skip


def _reduced(a: Architecture) -> None:
    """A sequence to a vector."""
    last = getattr(a, "last", None)
    forms = ["x[:, -1, :]", "x[:, -1]", "x.mean(dim=1)", "x.max(dim=1).values", "x.flatten(1)", "x[:, 0]", "x.sum(1)"]
    forms += ["attention", "state", "state"] if last else ["attention"]
    if a.lengths:
        forms += ["index", "gather", "masked mean"] * 2
    form = str(a.choice(*forms))
    if form == "index":
        a.say("x = x[torch.arange(x.size(0)), lengths - 1]")
    elif form == "gather":
        a.say("places = (lengths - 1).view(-1, 1, 1).expand(-1, 1, x.size(2))", "x = x.gather(1, places).squeeze(1)")
    elif form == "masked mean":
        a.say("mask = torch.arange(x.size(1))[None, :] < lengths[:, None]", "mask = mask.unsqueeze(-1).float()")
        a.say("x = (x * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)")
    elif form == "attention":
        score = a.module("score", f"nn.Linear({a.width}, 1)")
        a.say(f"weights = torch.softmax({score}(x), dim=1)", "x = (weights * x).sum(dim=1)")
    elif form == "state":
        rows, units, both = last
        if both and a.chance(0.7):
            a.say("x = torch.cat([h[-2], h[-1]], dim=1)" if a.chance(0.5) else "x = torch.cat((h[-2], h[-1]), -1)")
            a.width = 2 * units
        elif rows > 1 and a.chance(0.3):
            a.say("x = h.transpose(0, 1).reshape(h.size(1), -1)")
            a.width = rows * units
        else:
            a.say("x = h.squeeze(0)" if rows == 1 and a.chance(0.4) else "x = h[-1]")
            a.width = units
    else:
        a.say(f"x = {form}")
        a.width *= a.steps if form == "x.flatten(1)" else 1


def _head(a: Architecture, vector: bool) -> str:
    """The last layers; returns the loss."""
    if vector and a.chance(0.25):
        a.arguments.append("known")
        known = a.random.randint(2, 4)
        a.examples.append(f"8,{known}")
        a.say("x = torch.cat([x, known], dim=-1)")
        a.width += known
    if vector and a.chance(0.2):
        a.say(f"x = {a.module('bn', f'nn.BatchNorm1d({a.width})')}(x)")
    for _ in range(a.random.randint(0, 2)):
        a.random.choice([_linear, _dropout, _norm, _residual])(a)
    kind = a.choice("regression", "regression", "classes", "truth", "logs")
    width = a.random.randint(1, 3) if kind in ("regression", "truth") else a.random.randint(2, 5)
    a.say(f"x = {a.module('head', f'nn.Linear({a.width}, {width})')}(x)")
    if kind == "regression":
        if width == 1 and a.chance(0.3):
            a.say("x = x.squeeze(-1)")
        return str(
            a.choice(
                "nn.MSELoss()",
                "nn.L1Loss()",
                "nn.SmoothL1Loss()",
                "nn.HuberLoss(delta=0.5)",
                "nn.MSELoss(reduction='sum')",
            )
        )
    if kind == "truth":
        if a.chance(0.3):
            a.say("x = torch.sigmoid(x)")
            return "nn.BCELoss()"
        return "nn.BCEWithLogitsLoss()"
    if kind == "logs":
        a.say("x = F.log_softmax(x, dim=-1)")
    if not vector:
        a.say("x = x.permute(0, 2, 1)")
    return "nn.NLLLoss()" if kind == "logs" else "nn.CrossEntropyLoss()"


def architecture(seed: int) -> tuple[str, list[str]]:
    """The text of a file with `factory()`, and the shapes of its inputs."""
    a = Architecture(random.Random(seed))  # noqa: S311 - repeatable
    _inputs(a)
    handlers, weights = zip(*SEQUENCE, strict=True)
    recurrent = False
    for _ in range(a.random.randint(1, 4)):
        handler = a.random.choices(handlers, weights)[0]
        handler(a)
        recurrent |= handler is _recurrent
        if hasattr(a, "last") and handler is not _recurrent and a.chance(0.5):
            del a.last
    if not recurrent:
        _recurrent(a)
    vector = a.chance(0.7)
    if vector:
        _reduced(a)
    loss = _head(a, vector)
    result, extra = "x", []
    if "MSELoss()" in loss and a.chance(0.3):
        result, loss = "x, x * 2", "loss"
        extra = ["", "", "def loss(outputs, target):", "    first, second = outputs"]
        extra += [
            f"    return F.mse_loss(first, target) + {a.choice('second.abs().mean()', '0.1 * (second ** 2).mean()')}"
        ]
    optimizer = str(a.choice(*OPTIMIZERS)).format(p="model.parameters()")
    lines = [HEAD.rstrip("\n"), *(f"        {line}" for line in a.init)]
    lines += ["", f"    def forward(self, {', '.join(a.arguments)}):", *(f"        {line}" for line in a.forward)]
    lines += [
        f"        return {result}",
        *extra,
        "",
        "",
        "def factory():",
        f"    torch.manual_seed({seed})",
        "    model = Model()",
    ]
    lines += [f"    optimizer = {optimizer}"]
    if a.chance(0.3):
        lines += [
            "    for _ in range(2):",
            "        optimizer.zero_grad()",
            "        for parameter in model.parameters():",
        ]
        lines += [
            "            torch.manual_seed(len(parameter))",
            "            parameter.grad = torch.randn_like(parameter) * 0.1",
            "        optimizer.step()",
        ]
    lines += [f"    return model, {loss}, optimizer", ""]
    return "\n".join(lines), a.examples
