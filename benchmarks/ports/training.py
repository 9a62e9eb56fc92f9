"""Losses, update rules, schedules and step functions in which Keras and PyTorch compute the same."""

from dataclasses import dataclass, field

from ports.port import Line, Port, Slip, block, line

WRITTEN = "activation from-logits loss-function"


@dataclass
class Task:
    """What is learned: kind and size of the target, whether every timestep has one; the loss in both dialects."""

    kind: str  # regression, binary, classes
    outputs: int
    sequence: bool = False
    padded: bool = False
    activation: str = ""
    keras_loss: str = ""
    criterion: str = ""
    slips: list[Slip] = field(default_factory=list)
    loss: str = "criterion"
    loss_slips: list[Slip] = field(default_factory=list)
    flat: bool = False

    @property
    def more(self) -> str:
        """The last Keras layer's further arguments."""
        return f', activation="{self.activation}"' if self.activation else ""


def choose_loss(p: Port, task: Task) -> None:
    """Draw the loss of both sides, and with it the activation of the last Keras layer."""
    if task.kind == "regression":
        _regression(p, task)
    elif task.kind == "binary":
        task.activation, task.keras_loss = "sigmoid", '"binary_crossentropy"'
        if p.chance(0.3):
            task.activation, task.keras_loss = "", "keras.losses.BinaryCrossentropy(from_logits=True)"
        task.criterion = p.pick("nn.BCEWithLogitsLoss()", "nn.BCELoss()")
        task.slips = [("nn.MSELoss()", "loss-function")]
        if task.criterion == "nn.BCELoss()":
            task.slips.append(("nn.BCEWithLogitsLoss()", WRITTEN))
        else:
            task.slips.append(('()→(reduction="sum")', "loss-reduction"))
        if p.chance(0.35):
            task.flat, task.loss = True, "lambda p, y: criterion(p.squeeze(1), y)"
    else:
        task.keras_loss = "keras.losses.SparseCategoricalCrossentropy(from_logits=True)"
        if p.chance(0.5):
            task.activation, task.keras_loss = "softmax", '"sparse_categorical_crossentropy"'
        _classes(task, "CrossEntropyLoss")
        task.slips.append(
            (")→label_smoothing=0.1)" if not task.padded else ")→, label_smoothing=0.1)", "loss-function")
        )


def _classes(task: Task, loss: str) -> None:
    task.criterion = f"nn.{loss}({'ignore_index=0' if task.padded else ''})"
    task.slips = [(')→, reduction="sum")' if task.padded else ')→reduction="sum")', "loss-reduction")]
    if task.padded:
        task.slips.append(("ignore_index=0→", "loss-function missing-mask target-encoding loss-reduction padding-row"))


def _regression(p: Port, task: Task) -> None:
    delta = p.pick("0.3", "0.5")
    choices = {"nn.MSELoss()": '"mse"', "nn.L1Loss()": '"mae"', "nn.SmoothL1Loss()": "keras.losses.Huber()"}
    choices[f"nn.HuberLoss(delta={delta})"] = f"keras.losses.Huber(delta={delta})"
    task.criterion = p.pick("nn.MSELoss()", *choices)
    task.keras_loss = choices[task.criterion]
    other = "nn.MSELoss()" if task.criterion != "nn.MSELoss()" else "nn.L1Loss()"
    task.slips = [
        (other, "loss-function"),
        (')→, reduction="sum")' if "=" in task.criterion else ')→reduction="sum")', "loss-reduction"),
    ]
    if not task.sequence and task.outputs == 1 and p.chance(0.35):
        squeeze = p.pick("p.squeeze(1)", "p[:, 0]", "p.view(-1)")
        task.flat, task.loss = True, f"lambda p, y: criterion({squeeze}, y)"
        task.loss_slips = [(f"{squeeze}→p", "loss-broadcast")]
    elif task.sequence and p.chance(0.15):
        task.loss = "lambda p, y: sum(criterion(p[:, t], y[:, t]) for t in range(y.size(1))) / y.size(1)"
        task.loss_slips = [(" / y.size(1)→", "loss-reduction")]


def finish_output(p: Port, task: Task) -> None:
    """Write what stands between the last linear layer and the loss on the PyTorch side."""
    if task.criterion == "nn.BCELoss()":
        p.say("x = torch.sigmoid(x)", (None, WRITTEN, "BCE|return|loss"))
    if task.kind != "classes":
        return
    if p.chance(0.25):
        p.kinds.add("log_softmax + NLLLoss")
        _classes(task, "NLLLoss")
        axis = 2 if task.sequence else 1
        slips = (
            (f"x = torch.log_softmax(x, {axis - 1})", "reduction-axis"),
            (None, WRITTEN),
            ("log_softmax→softmax", WRITTEN),
        )
        p.say(p.pick("x = torch.log_softmax(x, -1)", f"x = torch.log_softmax(x, {axis})"), *slips)
    if not task.sequence:
        return
    c = task.outputs
    form = p.pick("forward", "loss", "rows")
    p.kinds.add(f"class scores: {form}")
    if form == "forward":
        wrong = f"x = x.reshape(x.size(0), {c}, -1)"
        p.say(p.pick("x = x.permute(0, 2, 1)", "x = x.transpose(1, 2)"), (wrong, "axis-order"))
    elif form == "loss":
        task.loss = "lambda p, y: criterion(p.transpose(1, 2), y)"
        task.loss_slips = [(f"p.transpose(1, 2)→p.reshape(p.size(0), {c}, -1)", "axis-order")]
    else:
        task.loss = f"lambda p, y: criterion(p.reshape(-1, {c}), y.reshape(-1))"
        task.loss_slips = [
            ("p.reshape→p.transpose(0, 1).reshape", "axis-order"),
            ("y.reshape→y.t().reshape", "axis-order target-encoding"),
        ]


@dataclass
class Rule:
    """An update rule in both dialects."""

    keras: str
    torch: str
    slips: list[Slip]
    before_step: list[Line] = field(default_factory=list)
    scheduled: bool = True


RMSPROP = """
class KerasRMSprop(torch.optim.Optimizer):
    def __init__(self, parameters, lr):
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            lr = group["lr"]
            for p in group["params"]:
                if p.grad is not None:
                    v = self.state[p].setdefault("v", torch.zeros_like(p))
                    v.mul_(0.9).addcmul_(p.grad, p.grad, value=0.1)
                    p -= lr * p.grad / (v + 1e-7).sqrt()
"""
EPSILON = """
done = [int(state["step"]) for state in optimizer.state.values() if "step" in state]
for group in optimizer.param_groups:
    group["eps"] = 1e-7 / (1 - 0.999 ** (1 + max(done, default=0))) ** 0.5
"""


def choose_rule(p: Port) -> Rule:
    """Draw the optimizer."""
    what = p.pick("net.parameters()", "net.parameters()", "[p for p in net.parameters() if p.requires_grad]")
    kind = p.pick("SGD", "SGD", "SGD", "SGD", "momentum", "Adam", "Adam", "AdamW", "RMSprop", "Adagrad")
    if "sample weights" in p.kinds and "Adam" in kind:  # its epsilon needs a step function, which is given no weights
        kind = "SGD"
    p.kinds.add(kind)
    if kind in ("SGD", "momentum"):
        lr, more = p.pick("0.05", "0.1", "0.2"), ""
        slips: list[Slip] = [(f"lr={lr}→lr=0.02", "learning-rate")]
        if kind == "momentum":
            more = ", momentum=0.9" + p.pick("", ", nesterov=True")
            causes = "momentum-rule optimizer-rule"
            slips += [(f"{more}→", causes), ("0.9→0.5", causes)]
            slips += [(", nesterov=True→", causes)] if "nesterov" in more else []
        return Rule(
            f"keras.optimizers.SGD({lr}{more}", f"torch.optim.SGD({what}, lr={lr}{more})", slips, scheduled=not more
        )
    if kind in ("Adam", "AdamW"):
        lr, decay = p.pick("0.001", "0.003", "0.01"), ", weight_decay=0.05" if kind == "AdamW" else ""
        slips = [(f"lr={lr}→lr={lr}, betas=(0.9, 0.98)", "adam-betas"), (f"lr={lr}→lr=0.002", "learning-rate")]
        if decay:
            slips += [("AdamW→Adam", "weight-decay-coupling"), (f"{decay}→", "weight-decay-coupling optimizer-rule")]
        torch = f"torch.optim.{kind}({what}, lr={lr}, eps=1e-7{decay})"
        return Rule(f"keras.optimizers.{kind}({lr}{decay}", torch, slips, block(EPSILON))
    if kind == "Adagrad":
        torch = f"torch.optim.Adagrad({what}, lr=0.05, initial_accumulator_value=0.1 + 1e-7, eps=0)"
        slips = [
            (" initial_accumulator_value=0.1 + 1e-7, eps=0→ eps=1e-7", "initial-accumulator"),
            ("0.05→0.02", "learning-rate"),
        ]
        return Rule("keras.optimizers.Adagrad(0.05", torch, slips)
    rules: list[Slip] = [
        (
            "v.mul_(0.9).addcmul_(p.grad, p.grad, value=0.1)→v.mul_(0.99).addcmul_(p.grad, p.grad, value=0.01)",
            "optimizer-rule",
        ),
        ("(v + 1e-7).sqrt()→(v.sqrt() + 1e-4)", "rmsprop-epsilon-placement optimizer-rule"),
        (".sqrt()→", "optimizer-rule"),
    ]
    p.classes += [*block(RMSPROP, *rules), Line("")]
    lr = p.pick("0.001", "0.003")
    return Rule(
        f"keras.optimizers.RMSprop({lr}", f"KerasRMSprop({what}, lr={lr})", [(f"lr={lr}→lr=0.01", "learning-rate")]
    )


def write_training(
    p: Port, task: Task, *, call: str = "module(x)", loss_weights: str = "", scaled: bool = False
) -> None:
    """Write compile, the three things that torch_side returns, and the step and scheduler if there are such."""
    rule, weighted = choose_rule(p), "sample weights" in p.kinds
    more, clip, accumulate = "", [], False
    forgotten: Slip = (None, "gradient-clipping", r"optimizer\.step")
    if scaled:
        p.kinds.add("clipped norm")
        more = ", global_clipnorm=1.0"
        text = f"torch.nn.utils.clip_grad_norm_(module.parameters(), {p.pick('1.0', 'max_norm=1.0')})"
        clip = [line(text, forgotten, ("1.0→2.0", "gradient-clipping"))]
    elif not weighted and p.chance(0.08):
        p.kinds.add("clipped values")
        more = ", clipvalue=0.01"
        text = "torch.nn.utils.clip_grad_value_(module.parameters(), 0.01)"
        clip = [line(text, forgotten, ("0.01→0.05", "gradient-clipping"))]
    elif not weighted and "SGD" in p.kinds and p.chance(0.12):
        p.kinds.add("gradient accumulation")
        accumulate = True
        more = ", gradient_accumulation_steps=2"
    keras_rule = _schedule(p, rule) if rule.scheduled and not accumulate and p.chance(0.2) else rule.keras
    p.compile = f"{keras_rule}{more}), {task.keras_loss}{loss_weights}"
    p.end = [*_returned(p, task, rule), *p.end]
    needed = clip or accumulate or rule.before_step or call != "module(x)"
    if needed or (not weighted and p.chance(0.2)):
        _step(p, rule, clip, accumulate, call)


def _returned(p: Port, task: Task, rule: Rule) -> list[Line]:
    criterion, optimizer = (
        line(text, *slips) for text, slips in ((task.criterion, task.slips), (rule.torch, rule.slips))
    )
    loss = line(task.loss, *task.loss_slips)
    also = r"loss\(|criterion\(", r"optimizer\.step", r"loss\("
    forms = "    criterion = {}", "    optimizer = {}", "    return net, {}, optimizer"
    if task.loss == "criterion" and p.chance(0.5):
        forms = f"    return net, {{}}, {rule.torch}", f"    return net, {task.criterion}, {{}}"
    rows = [
        Line(form.format(part.text), tuple((form.format(wrong), causes, where) for wrong, causes, *_ in part.slips))
        for form, part, where in zip(forms, (criterion, optimizer, loss), also, strict=False)
    ]
    return rows if len(rows) == 3 else [Line(rows[0].text, rows[0].slips + rows[1].slips)]


def _schedule(p: Port, rule: Rule) -> str:
    p.kinds.add("schedule")
    name, rate = rule.keras.split("(", 1)
    rate, *rest = rate.split(",", 1)
    keras, torch, slip = p.random.choice([
        ("ExponentialDecay({}, decay_steps=2, decay_rate=0.8)", "ExponentialLR(optimizer, 0.8**0.5)", "0.8**0.5→0.8"),
        ("ExponentialDecay({}, decay_steps=2, decay_rate=0.5, staircase=True)",
         "StepLR(optimizer, step_size=2, gamma=0.5)", "0.5→0.8"),
        ("InverseTimeDecay({}, decay_steps=1, decay_rate=0.3)",
         "LambdaLR(optimizer, lambda step: 1 / (1 + 0.3 * step))", "0.3→0.1"),
        ("CosineDecay({}, decay_steps=20)", "CosineAnnealingLR(optimizer, T_max=20)", "20→5"),
    ])  # fmt: skip
    text = f"def scheduler(optimizer):\n    import torch\n\n    return torch.optim.lr_scheduler.{torch}"
    p.end += [Line(""), Line(""), *block(text, (slip, "learning-rate-schedule"))]
    return f"{name}(keras.optimizers.schedules.{keras.format(rate)}" + (f",{rest[0]}" if rest else "")


def _step(p: Port, rule: Rule, clip: list[Line], accumulate: bool, call: str) -> None:
    p.kinds.add("own step")
    body = [Line("import torch"), Line("")] if clip else []
    if p.chance(0.4):
        random = p.kinds & {"dropout", "batch norm"}
        body += block(
            "module.train()",
            *([("train→eval", "train-eval-mode dropout-active", r"self\.(drop|bn)\b")] if random else []),
        )
    body += rule.before_step
    forgotten: Slip = (None, "gradient-accumulation", r"optimizer\.step|backward")
    value = line(f"value = loss({call}, y)")
    if accumulate:
        p.top.append('_seen = {"steps": 0}')
        body.append(value)
        body += block(
            '(value / 2).backward()\n_seen["steps"] += 1\nif _seen["steps"] % 2 == 0:\n'
            "    optimizer.step()\n    optimizer.zero_grad()",
            ("(value / 2)→value", "gradient-accumulation loss-reduction learning-rate"),
            ("% 2→% 4", "gradient-accumulation"),
            ("optimizer.zero_grad()→pass", *forgotten[1:]),
        )  # fmt: skip
    else:
        body += [
            line("optimizer.zero_grad()", forgotten),
            value,
            Line("value.backward()"),
            *clip,
            Line("optimizer.step()"),
        ]
    p.end += [Line(""), Line(""), Line("def torch_step(module, loss, optimizer, x, y):")]
    p.end += [Line("    " + row.text if row.text else "", row.slips) for row in [*body, Line("return value")]]
