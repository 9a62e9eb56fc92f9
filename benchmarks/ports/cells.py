"""Recurrences that people write out: loops over nn.LSTMCell and its like, and cells of their own."""

from ports.port import Line, Port, Slip, block
from ports.recurrent import CODE, STEP, carry, freeze, keras_layers

LSTM, GRU = f"lstm-gate-order {CODE}", f"gru-gate-order {CODE}"
ACTIVATION, USED = f"activation recurrent-activation {CODE}", r"sigmoid|tanh|h = z"


def cell_loop(p: Port, cell: str, units: int, *, sequence: bool) -> None:
    """Put a recurrent layer on x, its PyTorch side a loop over timesteps in forward."""
    p.kinds |= {cell, "loop over a cell"}
    (name,) = keras_layers(p, cell, units, 1, None, sequence)
    attribute = p.unique("cell")
    carry(p, cell, attribute, name, None, "")
    p.make(f"self.{attribute} = nn.{cell.replace('Simple', '')}Cell({p.features}, {units})")
    freeze(p, cell, attribute, [""])
    zeros = p.pick(f"torch.zeros(x.size(0), {units})", f"x.new_zeros(x.size(0), {units})")
    called = rf"self\.{attribute}\("
    ones: Slip = ("zeros→ones", "initial-state", called)
    state = "(h, c)" if cell == "LSTM" else "h"
    p.say(f"h = {zeros}", ones)
    if cell == "LSTM":
        p.say(p.pick(f"c = {zeros}", "c = torch.zeros_like(h)"), ones)
    if sequence:
        p.say("outputs = []")
    slips: list[Slip] = [(f", {state})→)", f"initial-state stateful-reset {CODE}")]
    if p.chance(0.6):
        back: Slip = ("range(x.size(1))→reversed(range(x.size(1)))", f"{CODE} selection", called)
        short: Slip = ("x.size(1)→x.size(1) - 1", f"{STEP} {CODE}", called)
        p.say("for t in range(x.size(1)):", back, *([] if sequence else [short]))
        taken = p.pick("x[:, t]", "x[:, t, :]")
        slips.append((f"{taken}→{taken.replace('t', '0')}", f"selection {CODE}"))
    else:
        p.say("for step in x.unbind(1):", ("x.unbind→x.flip(1).unbind", f"{CODE} selection", called))
        taken = "step"
    if cell == "LSTM":
        slips.append(("(h, c)→(c, h)", "state-choice initial-state"))
    p.say(f"    {state.strip('()')} = self.{attribute}({taken}, {state})", *slips)
    memory: list[Slip] = [("h→c", "state-choice", r"torch\.stack")] if cell == "LSTM" else []
    if sequence:
        p.say("    outputs.append(h)", *([("(h)→(c)", *memory[0][1:])] if memory else []))
        wrong = f"x = torch.stack(outputs).reshape(-1, {p.time}, {units})"
        p.say(
            p.pick("x = torch.stack(outputs, 1)", "x = torch.stack(outputs, dim=1)"), (wrong, "axis-order join-order")
        )
    else:
        p.say("x = h", *memory)
    p.features = units


# Of each hand-written cell: its modules, its equations at one timestep, its parameters as functions of the Keras kernel
# k, recurrent kernel u and bias b (with n gates of h units), and its slips.
STATE = """
c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
h = torch.sigmoid(o) * torch.tanh(c)"""
STATE_SLIPS: list[Slip] = [
    ("torch.sigmoid(f) * c + torch.sigmoid(i)→torch.sigmoid(i) * c + torch.sigmoid(f)", LSTM),
    ("torch.sigmoid(f) * c→(1 - torch.sigmoid(i)) * c", CODE),
    ("torch.tanh(g)→g", ACTIVATION),
    ("* torch.tanh(c)→* c", ACTIVATION),
    ("h = torch.sigmoid(o)→h = torch.sigmoid(i)", LSTM),
]
GRU_SLIPS: list[Slip] = [("z * h + (1 - z) * n→(1 - z) * h + z * n", GRU), ("(1 - z) * n→n", CODE)]
GATES = "{0} = torch.{1}(v @ self.U_{0} + h @ self.V_{0} + self.b_{0})"
OWN: dict[str, dict[str, tuple[str, str, dict[str, str], list[Slip]]]] = {
    "LSTM": {
        "one linear": (
            "self.gates = nn.Linear(n + h, 4 * h)",
            "i, f, g, o = self.gates(torch.cat([v, h], 1)).chunk(4, 1)" + STATE,
            {"gates.weight": "np.concatenate([{k}, {u}]).T", "gates.bias": "{b}"},
            [("i, f, g, o→i, f, o, g", LSTM, USED), ("i, f, g, o→f, i, g, o", LSTM, USED), *STATE_SLIPS],
        ),
        "two linears": (
            "self.x2h = nn.Linear(n, 4 * h)\nself.h2h = nn.Linear(h, 4 * h, bias=False)",
            "i, f, g, o = (self.x2h(v) + self.h2h(h)).chunk(4, 1)" + STATE,
            {"x2h.weight": "{k}.T", "x2h.bias": "{b}", "h2h.weight": "{u}.T"},
            [("i, f, g, o→i, g, f, o", LSTM, USED), (" + self.h2h(h)→", f"{CODE} initial-state"), *STATE_SLIPS],
        ),
        "two a gate": (
            "\n".join(f"self.x_{g} = nn.Linear(n, h)\nself.h_{g} = nn.Linear(h, h, bias=False)" for g in "fiog"),
            "\n".join(
                f"{g} = torch.{'tanh' if g == 'g' else 'sigmoid'}(self.x_{g}(v) + self.h_{g}(h))" for g in "fiog"
            )
            + "\nc = f * c + i * g\nh = o * torch.tanh(c)",
            {f"{part}_{g}.{kind}": f"{{{source}}}[..., {{{'ifgo'.index(g)}}}]{turn}"
             for g in "fiog" for part, kind, source, turn in
             (("x", "weight", "k", ".T"), ("x", "bias", "b", ""), ("h", "weight", "u", ".T"))},
            [
                ("g = torch.tanh→g = torch.sigmoid", ACTIVATION), ("f * c + i * g→i * c + f * g", LSTM),
                ("f * c→(1 - i) * c", CODE), ("* torch.tanh(c)→* c", ACTIVATION), ("self.h_o(h)→self.h_o(c)", CODE),
            ],
        ),
        "by gates": (
            'for gate in "ifgo":\n'
            '    setattr(self, f"U_{gate}", nn.Parameter(torch.randn(n, h) / h))\n'
            '    setattr(self, f"V_{gate}", nn.Parameter(torch.randn(h, h) / h))\n'
            '    setattr(self, f"b_{gate}", nn.Parameter(torch.zeros(h)))',
            "\n".join(GATES.format(gate, "tanh" if gate == "g" else "sigmoid") for gate in "ifgo")
            + "\nc = f * c + i * g\nh = o * torch.tanh(c)",
            {f"{part}_{gate}": f"{{{source}}}[..., {{{number}}}]"
             for part, source in zip("UVb", "kub", strict=True) for number, gate in enumerate("ifgo")},
            [
                ("g = torch.tanh→g = torch.sigmoid", ACTIVATION), ("o = torch.sigmoid→o = torch.tanh", ACTIVATION),
                (" + self.b_i→", f"missing-bias {CODE}"), ("h @ self.V_f→c @ self.V_f", f"state-choice {CODE}"),
                ("f * c + i * g→i * c + f * g", LSTM), ("f * c→(1 - i) * c", CODE), ("* torch.tanh(c)→* c", ACTIVATION),
            ],
        ),
    },
    "GRU": {
        "six linears": (
            "\n".join(f"self.W{gate} = nn.Linear(n, h)\nself.U{gate} = nn.Linear(h, h)" for gate in "zrn"),
            "z = torch.sigmoid(self.Wz(v) + self.Uz(h))\nr = torch.sigmoid(self.Wr(v) + self.Ur(h))\n"
            "n = torch.tanh(self.Wn(v) + r * self.Un(h))\nh = z * h + (1 - z) * n",
            {f"{part}{gate}.{kind}": f"{{{source}}}{at}[..., {{{number}}}]{turn}"
             for part, matrix, row in (("W", "k", "[0]"), ("U", "u", "[1]")) for number, gate in enumerate("zrn")
             for kind, source, at, turn in (("weight", matrix, "", ".T"), ("bias", "b", row, ""))},
            [
                ("z = torch.sigmoid→z = torch.tanh", ACTIVATION), ("self.Wz→self.Wr", GRU), ("self.Ur→self.Uz", GRU),
                ("r * self.Un(h)→self.Un(r * h)", f"gru-reset-after {CODE}"), ("r * self→z * self", GRU), *GRU_SLIPS,
            ],
        ),
        "one linear each": (
            "self.x2h = nn.Linear(n, 3 * h)\nself.h2h = nn.Linear(h, 3 * h)",
            "xz, xr, xn = self.x2h(v).chunk(3, 1)\nhz, hr, hn = self.h2h(h).chunk(3, 1)\n"
            "z, r = torch.sigmoid(xz + hz), torch.sigmoid(xr + hr)\nn = torch.tanh(xn + r * hn)\n"
            "h = z * h + (1 - z) * n",
            {"x2h.weight": "{k}.T", "x2h.bias": "{b}[0]", "h2h.weight": "{u}.T", "h2h.bias": "{b}[1]"},
            [
                ("xz, xr, xn→xr, xz, xn", GRU, USED), ("hz, hr, hn→hr, hz, hn", GRU, USED),
                ("z, r = →r, z = ", GRU, USED), ("r * hn→hn", CODE),
                ("n = torch.tanh→n = torch.sigmoid", ACTIVATION), *GRU_SLIPS,
            ],
        ),
        "three joined": (
            "\n".join(f"self.{name} = nn.Linear(n + h, h)" for name in ("a", "b", "d")),
            "r = torch.sigmoid(self.a(torch.cat([h, v], 1)))\nz = torch.sigmoid(self.b(torch.cat([h, v], 1)))\n"
            "n = torch.tanh(self.d(torch.cat([r * h, v], 1)))\nh = z * h + (1 - z) * n",
            {f"{name}.{kind}": text for name, place in (("a", 1), ("b", 0), ("d", 2)) for kind, text in
             (("weight", f"np.concatenate([{{u}}, {{k}}])[:, {{{place}}}].T"), ("bias", f"{{b}}[{{{place}}}]"))},
            [("self.a→self.b", GRU), ("r * h→h", f"gru-reset-after {CODE}"), ("torch.tanh→torch.relu", ACTIVATION),
             *GRU_SLIPS],
        ),
        "reset before": (
            "self.gates = nn.Linear(n + h, 2 * h)\nself.new = nn.Linear(n + h, h)",
            "z, r = torch.sigmoid(self.gates(torch.cat([v, h], 1))).chunk(2, 1)\n"
            "n = torch.tanh(self.new(torch.cat([v, r * h], 1)))\nh = z * h + (1 - z) * n",
            {"gates.weight": "np.concatenate([{k}, {u}])[:, {01}].T", "gates.bias": "{b}[{01}]",
             "new.weight": "np.concatenate([{k}, {u}])[:, {2}].T", "new.bias": "{b}[{2}]"},
            [("z, r = →r, z = ", GRU, USED), ("r * h→h", f"gru-reset-after {CODE}"),
             ("torch.tanh→torch.relu", ACTIVATION), *GRU_SLIPS],
        ),
    },
    "SimpleRNN": {
        "joined": (
            "self.i2h = nn.Linear(n + h, h)",
            "h = torch.tanh(self.i2h(torch.cat((v, h), 1)))",
            {"i2h.weight": "np.concatenate([{k}, {u}]).T", "i2h.bias": "{b}"},
            [("torch.tanh→torch.relu", ACTIVATION), ("(v, h)→(h, v)", "join-order")],
        ),
        "two biases": (
            "self.i2h = nn.Linear(n, h)\nself.h2h = nn.Linear(h, h)\n"
            "nn.init.zeros_(self.h2h.bias).requires_grad_(False)",
            "h = torch.tanh(self.h2h(h) + self.i2h(v))",
            {"i2h.weight": "{k}.T", "i2h.bias": "{b}", "h2h.weight": "{u}.T", "h2h.bias": "0 * {b}"},
            [("torch.tanh→torch.sigmoid", ACTIVATION)],
        ),
        "matrices of one's own": (
            "self.W = nn.Parameter(torch.randn(n, h) / h)\nself.U = nn.Parameter(torch.randn(h, h) / h)\n"
            "self.b = nn.Parameter(torch.zeros(h))",
            "h = torch.tanh(v @ self.W + h @ self.U + self.b)",
            {"W": "{k}", "U": "{u}", "b": "{b}"},
            [("h @ self.U→h @ self.U.t()", f"transposed-kernel {CODE}"), (" + self.b→", f"missing-bias {CODE}")],
        ),
        "two matrices": (
            "self.i2h = nn.Linear(n, h)\nself.h2h = nn.Linear(h, h, bias=False)",
            "h = torch.tanh(self.i2h(v) + self.h2h(h))",
            {"i2h.weight": "{k}.T", "i2h.bias": "{b}", "h2h.weight": "{u}.T"},
            [("+ self.h2h→- self.h2h", CODE), ("torch.tanh→", ACTIVATION)],
        ),
    },
}  # fmt: skip


# Their GRUs reset the state before it is multiplied.
BEFORE = ("reset before", "three joined")


def own_cell(p: Port, cell: str, units: int, *, sequence: bool) -> None:
    """Put a recurrent layer on x, its PyTorch side a module with a loop and the cell's equations."""
    style = p.pick(*OWN[cell])
    modules, equations, parameters, slips = OWN[cell][style]
    p.kinds |= {cell, f"own {cell}: {style}"}
    extra = (", return_sequences=True" if sequence else "") + (", reset_after=False" if style in BEFORE else "")
    name = p.add(cell, f"{units}{extra}", named=True)
    attribute, kind = p.unique("rnn", "cell", "memory"), p.unique(f"My{cell.replace('Simple', '')}")
    told = p.chance(0.5)
    if not told:  # with the weights in another order these are no mistakes
        slips = [slip for slip in slips if "-order" not in slip[1] and "transposed" not in slip[1]]
    memory = cell == "LSTM"
    p.classes += block(f"class {kind}(nn.Module):\n    def __init__(self, n, h):\n        super().__init__()")
    p.classes += block(f"self.h = h\n{modules}", indent=8)
    start = p.pick("h = torch.zeros(x.size(0), self.h)", "h = torch.zeros(x.size(0), self.h, device=x.device)")
    start += ("\nc = torch.zeros_like(h)" if memory else "") + ("\noutputs = []" if sequence else "")
    p.classes += [Line(""), Line("    def forward(self, x):"), *block(start, indent=8)]
    back: Slip = ("range(x.size(1))→reversed(range(x.size(1)))", f"{CODE} selection", r"x\[:, t\]")
    p.classes += block("        for t in range(x.size(1)):", back)
    p.classes += block(f"v = x[:, t]\n{equations}", *slips, indent=12)
    if sequence:
        p.classes += block("            outputs.append(h)\n        return torch.stack(outputs, 1)")
    else:
        p.classes += block("        return h", *([("return h→return c", "state-choice")] if memory else []))
    p.classes.append(Line(""))
    p.make(f"self.{attribute} = {kind}({p.features}, {units})")
    p.say(f"x = self.{attribute}(x)")
    places = {
        letter: f'k["{name}/{weight}"]'
        for letter, weight in (("k", "kernel"), ("u", "recurrent_kernel"), ("b", "bias"))
    }
    for key, formula in parameters.items():
        text = formula.replace("{01}", f":{2 * units}")
        for number in range(4):
            text = text.replace(f"{{{number}}}", f"{number * units}:{(number + 1) * units}")
        p.weights[f"{attribute}.{key}"] = text.format(**places)
        if told:
            p.told[f"{attribute}.{key}"] = p.weights[f"{attribute}.{key}"]
    p.features = units
