"""Random PyTorch modules as people write them, for ports to Keras: `architecture(seed)` is a file and its examples."""

import random

from torch_blocks import (
    HEAD,
    OPTIMIZERS,
    Architecture,
    add_activation,
    add_attention,
    add_convolution,
    add_decoder,
    add_dropout,
    add_inputs,
    add_linear,
    add_norm,
    add_own_attention,
    add_own_cell,
    add_positions,
    add_recurrent,
    add_residual,
    add_sequential,
    add_split_directions,
    add_standardised,
    add_step_by_step,
    add_views,
)

SEQUENCE = [
    (add_recurrent, 9), (add_linear, 4), (add_dropout, 2), (add_norm, 2), (add_residual, 2), (add_convolution, 3),
    (add_attention, 2),
    (add_own_attention, 2), (add_positions, 1), (add_views, 1), (add_step_by_step, 1), (add_activation, 1),
    (add_own_cell, 1), (add_decoder, 2), (add_split_directions, 1),
    (add_standardised, 2), (add_sequential, 1),
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
        a.random.choice([add_linear, add_dropout, add_norm, add_residual])(a)
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
    add_inputs(a)
    handlers, weights = zip(*SEQUENCE, strict=True)
    recurrent = False
    for _ in range(a.random.randint(1, 4)):
        handler = a.random.choices(handlers, weights)[0]
        handler(a)
        recurrent |= handler is add_recurrent
        if hasattr(a, "last") and handler is not add_recurrent and a.chance(0.5):
            del a.last
    if not recurrent:
        add_recurrent(a)
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
