"""Whole ports of several inputs, outputs or calls of one module, and the port of a seed."""

from ports import blocks
from ports.port import Line, Port, Slip
from ports.recipes import CELLS, finish, recurrence, repeated, series, series_data, sizes, stateful, token_data, tokens
from ports.recurrent import CODE, SIDE, STEP, carry, freeze
from ports.training import Task, choose_loss, finish_output, write_training


def port(seed: int) -> Port:
    """Write the port of a seed."""
    p = Port(seed)
    recipes = (series, tokens, repeated, translation, siamese, two_inputs, two_outputs, stateful)
    recipe = p.random.choices(recipes, (42, 20, 6, 8, 6, 8, 5, 5))[0]
    p.kinds.add(recipe.__name__.replace("_", " "))
    recipe(p)
    return p


def _module(p: Port, attribute: str, cell: str, units: int, size: int, *, both: bool = False) -> None:
    more = ", bidirectional=True" if both else ""
    text = f"self.{attribute} = nn.{cell.replace('Simple', '')}({size}, {units}{more}"
    p.make(f"{text}, batch_first=True)", (", batch_first=True→", "batch-first"))


def translation(p: Port) -> None:
    """An encoder that hands its states to a decoder with teacher forcing: two inputs."""
    sizes(p)
    cell, units, words, size = p.pick(*CELLS), p.random.randint(5, 8), p.random.randint(12, 18), p.random.randint(3, 5)
    token_data(p, words, name="source")
    ones = f"np.ones(({p.rows}, 1), int)"
    p.data += ["target = source[:, ::-1].copy()", f"fed = np.concatenate([{ones}, target[:, :-1]], 1)"]
    p.inputs = [f"source = keras.Input(({p.time},))", f"fed = keras.Input(({p.time},))"]
    states, held = ("h, c", "[h, c]") if cell == "LSTM" else ("h", "h")
    for variable, module, embed in (("source", "encoder", "src"), ("fed", "decoder", "trg")):
        encoder = variable == "source"
        e, embedding = p.layer("Embedding", f"{words}, {size}")
        n, layer = p.layer(cell, f"{units}, {'return_state=True' if encoder else 'return_sequences=True'}")
        left, more = (f"_, {states}", "") if encoder else ("x", f", initial_state={held}")
        p.keras_line(f"{left} = {layer}({embedding}({variable}){more})")
        p.make(f"self.{embed} = nn.Embedding({words}, {size})")
        _module(p, module, cell, units, size)
        p.weights[f"{embed}.weight"] = f"k['{e}/embeddings']"
        carry(p, cell, module, n, None, "_l0")
    freeze(p, cell, "encoder", ["_l0", "_l0"])
    state, slips = "state", [(", state→", "initial-state")]
    if cell == "LSTM" and p.chance(0.5):
        state, exchanged = "(h, c)", "state-choice initial-state"
        slips = [(", (h, c)→", "initial-state"), ("(h, c)→(c, h)", exchanged), ("(h, c)→(h, h)", exchanged)]
    p.say(f"_, {state} = self.encoder(self.src(source))")
    p.say(f"x, _ = self.decoder(self.trg(fed), {state})", *slips)
    p.arguments, p.features = "source, fed", units
    task = Task("classes", words, True)
    choose_loss(p, task)
    blocks.head(p, words, sequence=True, more=task.more)
    finish_output(p, task)
    p.data.append("return [source, fed], target")
    write_training(p, task, call="module(*x)")


def siamese(p: Port) -> None:
    """One encoder for two halves of the input, joined afterwards."""
    sizes(p)
    words, size, units, cut = (
        p.random.randint(12, 25),
        p.random.randint(3, 6),
        p.random.randint(4, 7),
        p.random.randint(2, p.time - 2),
    )
    cell, both, concat = p.pick(*CELLS), p.chance(0.3), p.chance(0.67)
    token_data(p, words)
    name, embedding = p.layer("Embedding", f"{words}, {size}")
    key, layer = p.layer(cell, f"{units}")
    if both:
        key, layer = p.layer("Bidirectional", layer)
    p.keras_line(f"embed, rnn = {embedding}, {layer}")
    join = p.layer("Concatenate" if concat else "Subtract")[1]
    p.keras_line(f"x = {join}([rnn(embed(x[:, :{cut}])), rnn(embed(x[:, {cut}:]))])")
    p.make(f"self.embed = nn.Embedding({words}, {size})")
    _module(p, "rnn", cell, units, size, both=both)
    p.weights["embed.weight"] = f"k['{name}/embeddings']"
    for direction, suffix in (("forward", "_l0"), ("backward", "_l0_reverse")) if both else ((None, "_l0"),):
        carry(p, cell, "rnn", key, direction, suffix)
    freeze(p, cell, "rnn", ["_l0", "_l0"] if both else ["_l0"])
    p.say("    out, _ = self.rnn(self.embed(half))")
    if both:
        a, b = f"out[:, -1, :{units}]", f"out[:, 0, {units}:]"
        slips: list[Slip] = [("return out[:, -1]", SIDE), (f"return torch.cat([{b}, {a}], 1)", "join-order selection")]
        p.say(f"    return torch.cat([{a}, {b}], 1)", *slips)
    else:
        p.say("    return out[:, -1]", ("return out.mean(1)", f"{STEP} {CODE}"), ("-1→0", STEP))
    p.methods, p.forward = [Line(""), Line("def encode(self, half):"), *p.forward], []
    p.features = units * (1 + both) * (1 + concat)
    one, two = f"self.encode(x[:, :{cut}])", f"self.encode(x[:, {cut}:])"
    if concat:
        other = (
            (f"{two}→self.encode(x[:, {cut - 1}:])", f"selection window-offset {CODE}"),
            (f"{two}→{one}", f"selection {CODE}"),
        )
        p.say(f"x = torch.cat([{one}, {two}], 1)", (f"{one}, {two}→{two}, {one}", "join-order"), *other)
    else:
        p.say(f"x = {one} - {two}", (f"x = {two} - {one}", f"{CODE} join-order"), (" - → + ", CODE))
    finish(p, Task(p.pick("binary", "binary", "regression"), 1), words=True)


def two_inputs(p: Port) -> None:
    """A series and fixed features, given as a list or a dict."""
    sizes(p)
    series_data(p, "series")
    named = p.chance(0.4)
    p.kinds.add("dict of inputs" if named else "list of inputs")
    p.data.append(f'static = r.standard_normal(({p.rows}, 3)).astype("float32")')
    p.inputs = [
        f'series = keras.Input(({p.time}, {p.features}), name="series")',
        'static = keras.Input((3,), name="static")',
    ]
    p.keras_line("x = series")
    p.say('x, static = inputs["series"], inputs["static"]' if named else "x = series")
    recurrence(p, sequence=False)
    p.keras_line(f"x = {p.layer('Concatenate')[1]}([x, static])")
    p.say(
        p.pick("x = torch.cat([x, static], 1)", "x = torch.cat((x, static), dim=-1)"),
        ("x, static→static, x", "join-order"),
    )
    p.features += 3
    if p.chance(0.5):
        blocks.dense(p, 6)
    p.arguments = "inputs" if named else "series, static"
    task = Task(p.pick("regression", "binary"), 1)
    choose_loss(p, task)
    blocks.head(p, 1, sequence=False, more=task.more)
    finish_output(p, task)
    whole = (
        "(series[:, :, :1].sum(1) + static[:, :1] > 0)"
        if task.kind == "binary"
        else "(series[:, -1, :1] + static[:, 1:2])"
    )
    p.data.append(f'y = {whole}.astype("float32")' + ("[:, 0]" if task.flat else ""))
    p.data.append("return " + ('{"series": series, "static": static}' if named else "[series, static]") + ", y")
    if named:
        p.end += [Line(text) for text in ("", "", "def torch_predict(module, x):", "    return module(x)")]
    write_training(p, task, call="module(x)" if named else "module(*x)")


def two_outputs(p: Port) -> None:
    """One recurrent trunk with two heads and the sum of two losses."""
    sizes(p)
    series_data(p)
    recurrence(p, sequence=False)
    weight = p.pick("0.3", "0.5")
    blocks.head(p, 1, sequence=False, variable="level")
    blocks.head(p, 1, sequence=False, variable="rises", more=', activation="sigmoid"')
    if p.chance(0.5):  # the heads of one side are made and used in another order than those of the other
        p.init[-2:], p.forward[-2:] = p.init[:-3:-1], p.forward[:-3:-1]
    p.result, p.outputs = "level, rises", "[level, rises]"
    p.data.append('return x, [x[:, -1, :1] + 0.5, (x[:, :, :1].sum(1) > 0).astype("float32")]')
    task = Task("regression", 1, criterion="nn.MSELoss()", keras_loss='["mse", "binary_crossentropy"]')
    second = "torch.nn.functional.binary_cross_entropy_with_logits(p[1], y[1])"
    task.loss = f"lambda p, y: criterion(p[0], y[0]) + {weight} * {second}"
    task.slips, task.loss_slips = (
        [("nn.L1Loss()", "loss-function")],
        [(f"{weight} * →", "loss-function loss-reduction")],
    )
    write_training(p, task, loss_weights=f", loss_weights=[1.0, {weight}]")
