"""Whole ports with one input and one output: the architectures and the tasks that are drawn."""

from ports import blocks
from ports.cells import cell_loop, own_cell
from ports.port import Port
from ports.recurrent import CODE, carry, freeze, fused, keras_layers, two_modules
from ports.training import Task, choose_loss, finish_output, write_training

CELLS = ("SimpleRNN", "LSTM", "GRU")


def sizes(p: Port) -> None:
    """Draw the number of timesteps, features and rows of the input."""
    p.time, p.features = p.random.randint(5, 12), p.random.randint(2, 5)
    p.batch = p.random.choice([8, 8, 16])
    if p.chance(0.05):
        p.time, p.batch = p.random.randint(30, 60), 32
    p.rows = 4 * p.batch


def series_data(p: Port, name: str = "x") -> None:
    """Write the input of a series of features."""
    shape = f"({p.rows}, {p.time}, {p.features})"
    p.data = [f"r = np.random.default_rng({p.seed})", f'{name} = r.standard_normal({shape}).astype("float32")']
    p.inputs = [f"{name} = keras.Input(({p.time}, {p.features}))"]


def token_data(p: Port, words: int, *, padded: bool = False, name: str = "x") -> None:
    """Write the input of a series of tokens."""
    p.data = [f"r = np.random.default_rng({p.seed})", f"{name} = r.integers(1, {words}, ({p.rows}, {p.time}))"]
    if padded:
        p.data += [f"for row, length in zip({name}, r.integers(2, {p.time + 1}, {p.rows})):", "    row[length:] = 0"]
    p.inputs = [f"{name} = keras.Input(({p.time},)" + p.pick(")", ', dtype="int32")')]


def recurrence(p: Port, *, sequence: bool) -> None:
    """Put recurrent layers of any style on x."""
    cell, units = p.pick(*CELLS), p.random.choice([4, 5, 6, 8])
    draw = 0.0 if p.masked else p.random.random()
    if draw < 0.6:
        depth = p.random.choice([1, 1, 1, 2, 2, 3])
        merge = None
        if p.chance(0.35):
            merge = "concat" if depth > 1 else p.pick("concat", "concat", "sum", "mul", "ave")
        rate = 0.25 if depth > 1 and not p.masked and p.chance(0.2) else 0.0
        if rate:
            p.kinds.add("dropout")
        fused(p, cell, units, depth=depth, merge=merge, sequence=sequence, rate=rate)
    elif draw < 0.72:
        cell_loop(p, cell, units, sequence=sequence)
    elif draw < 0.9:
        own_cell(p, cell, units, sequence=sequence)
    else:
        two_modules(p, cell, units, sequence=sequence)


def _targets(task: Task, words: bool) -> str:
    """The targets, made of x."""
    axes, flat = ("2" if task.sequence else "(1, 2)"), "" if task.flat else "[:, None]"
    if task.kind == "binary":
        return ("(x.sum(1) % 2)" if words else "(x[:, :, 0].sum(1) > 0)") + f'.astype("float32"){flat}'
    if task.kind == "classes" and not words:
        return f'(7 * np.abs(x).sum({axes})).astype("int64") % {task.outputs}'
    if task.kind == "classes":
        whole = f"x % {task.outputs}" if task.sequence else f"x.sum(1) % {task.outputs}"
        return f"np.where(x == 0, 0, 1 + x % {task.outputs - 1})" if task.padded else whole
    if words:
        return f"(x % 7).mean(1){flat}"
    if task.sequence:
        return f"np.cumsum(x, 1)[:, :, :{task.outputs}] / 2"
    return "x[:, -1, 0] - x[:, 0, 1]" if task.flat else f"x[:, -1, :{task.outputs}] + x[:, 0, :{task.outputs}] / 2"


def finish(p: Port, task: Task, *, words: bool = False) -> None:
    """Write the head, the targets and the training."""
    choose_loss(p, task)
    usual = task.kind == "regression" and task.loss == "criterion"
    extra = p.random.choices(["weights", "penalty", "scaled", ""], [0.12, 0.1, 0.12, 0.66])[0] if usual else ""
    if extra == "weights" and task.sequence:
        extra = ""
    penalty = ", kernel_regularizer=keras.regularizers.l2(0.01)" if extra == "penalty" else ""
    attribute = blocks.head(p, task.outputs, sequence=task.sequence, more=task.more + penalty)
    finish_output(p, task)
    if extra == "weights":
        p.kinds.add("sample weights")
        task.criterion = task.criterion[:-1] + (", " if "=" in task.criterion else "") + 'reduction="none")'
        task.slips, task.loss = [], "lambda p, y, weight: (criterion(p, y).mean(-1) * weight).mean()"
        task.loss_slips = [(" * weight→", "class-weights loss-reduction loss-function")]
    elif extra == "penalty":
        p.kinds.add("l2 penalty")
        task.loss = f"lambda p, y: criterion(p, y) + 0.01 * (net.{attribute}.weight**2).sum()"
        task.loss_slips = [("criterion", "l2-penalty"), ("0.01→0.005", "l2-penalty")]
    targets = _targets(task, words)
    p.data.append(f"y = 40 * ({targets})" if extra == "scaled" else f"y = {targets}")
    weights = ""
    if extra == "weights":
        p.data.append(f'w = r.uniform(0.2, 2.0, {p.rows}).astype("float32")')
        weights = ", w"
    p.data.append("return x, " + ('y.astype("float32")' if task.kind == "regression" else "y") + weights)
    write_training(p, task, scaled=extra == "scaled")


def _task(p: Port, sequence: bool) -> Task:
    kind = p.pick("regression", "regression", "classes", "classes" if sequence else "binary")
    outputs = {"regression": p.random.randint(1, 2), "binary": 1, "classes": p.random.randint(3, 5)}[kind]
    return Task(kind, outputs, sequence)


def series(p: Port) -> None:
    """A series of features: a convolution or not, recurrent layers, what people put between and behind them."""
    sizes(p)
    series_data(p)
    sequence = p.chance(0.35)
    task = _task(p, sequence)
    if p.chance(0.25):
        blocks.convolution(p, p.random.randint(4, 6), same=sequence)
    elif p.chance(0.15):
        blocks.dense(p, 6)
    ends = "sequence" if sequence else p.pick("last", "last", "last", "pooling", "attention")
    several = p.chance(0.4)
    if several or ends in ("pooling", "attention"):
        recurrence(p, sequence=True)
        _between(p)
    if several or ends in ("last", "sequence"):
        recurrence(p, sequence=ends != "last")
    if ends == "pooling":
        blocks.pooling(p)
    elif ends == "attention":
        blocks.pooled_attention(p)
    if ends != "sequence" and p.chance(0.25):
        blocks.norm(p, sequence=False) if p.chance(0.5) else blocks.dense(p, 5)
    if p.chance(0.12):
        blocks.dropout(p)
    finish(p, task)


def _between(p: Port) -> None:
    """What stands between two recurrent layers."""
    kind = p.pick("", "norm", "residual", "attention", "dropout")
    if kind == "norm":
        blocks.norm(p, sequence=True)
    elif kind == "attention":
        blocks.attention(p)
    elif kind == "dropout":
        blocks.dropout(p)
    elif kind == "residual":
        p.kinds.add("residual")
        _, text = p.layer("Add")
        p.keras_line("skip = x")
        p.say("skip = x")
        fused(p, p.pick(*CELLS), p.features, sequence=True)
        p.keras_line(f"x = {text}([skip, x])")
        p.say(p.pick("x = x + skip", "x = skip + x"), (None, CODE), ("x = x * skip", CODE))
        if p.chance(0.5):
            blocks.norm(p, sequence=True)


def tokens(p: Port) -> None:
    """Tokens, an embedding, perhaps a mask with packed sequences."""
    sizes(p)
    words, mask, sequence = p.random.randint(12, 30), p.chance(0.6), p.chance(0.35)
    token_data(p, words, padded=mask)
    blocks.embedding(p, words, p.random.randint(3, 6), mask=mask)
    task = Task("classes", p.random.randint(3, 5), True, padded=mask) if sequence else _task(p, False)
    task.outputs = 1 if task.kind == "regression" else task.outputs
    if p.chance(0.3):
        recurrence(p, sequence=True)
        if p.chance(0.4) and not mask:
            _between(p)
    recurrence(p, sequence=sequence)
    p.masked = False
    if p.chance(0.15):
        blocks.dropout(p)
    finish(p, task, words=True)


def repeated(p: Port) -> None:
    """An encoder whose last output is repeated for a decoder."""
    sizes(p)
    series_data(p)
    recurrence(p, sequence=False)
    p.add("RepeatVector", f"{p.time}")
    expand = p.pick(f"x = x.unsqueeze(1).repeat(1, {p.time}, 1)", f"x = x[:, None, :].expand(-1, {p.time}, -1)")
    p.say(
        expand,
        (f"x = x.repeat(1, {p.time}).reshape(x.size(0), x.size(1), {p.time}).transpose(1, 2)", f"axis-order {CODE}"),
    )
    recurrence(p, sequence=True)
    finish(p, Task("regression", 2, True))


def stateful(p: Port) -> None:
    """Batches that go on where the last one ended: stateful=True, and states that are detached and kept."""
    sizes(p)
    series_data(p)
    p.inputs = [f"x = keras.Input(batch_shape=({p.batch}, {p.time}, {p.features}))"]
    cell, units = p.pick(*CELLS), p.random.randint(4, 7)
    (name,) = keras_layers(p, cell, units, 1, None, True, extra=", stateful=True")
    text = f"self.rnn = nn.{cell.replace('Simple', '')}({p.features}, {units}, batch_first=True)"
    p.make(text, (", batch_first=True→", "batch-first"))
    p.make("self.state = None")
    carry(p, cell, "rnn", name, None, "_l0")
    freeze(p, cell, "rnn", ["_l0"])
    p.say("x, state = self.rnn(x, self.state)", (", self.state→", "stateful-reset initial-state"))
    kept = "tuple(s.detach() for s in state)" if cell == "LSTM" else "state.detach()"
    p.say(f"self.state = {kept}", (None, "stateful-reset initial-state", r"self\.rnn\("))
    p.features = units
    finish(p, Task("regression", 2, True))
