"""Keras's update rules as small optimizers, each with exactly the choices that are made, and its schedules."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from compare.errors import InputError

Config = Mapping[str, Any]

# What each rule does to a parameter `p` with the gradient `g`; `t` counts the steps from 1, `lr` is the learning rate.
ABOUT = {
    "Adam": "Keras's Adam: epsilon is added to the root before its bias is corrected, in torch.optim.Adam afterwards",
    "Adamax": "Keras's Adamax: epsilon is added in the quotient",
    "Nadam": "Keras's Nadam, with its own schedule of the momentum",
    "SGD": "Keras's SGD: the momentum holds the learning rate",
    "RMSprop": "Keras's RMSprop: epsilon stands under the root, in torch.optim.RMSprop outside",
    "Adagrad": "Keras's Adagrad: epsilon stands under the root, in torch.optim.Adagrad outside",
    "Adadelta": "Keras's Adadelta",
    "Lion": "Keras's Lion",
}


def number(value: Any) -> str:
    """A number as it was written before it was kept in float32."""
    value = float(value)
    short = float(np.format_float_positional(np.float32(value), unique=True))
    return repr(short if np.float32(short) == np.float32(value) and len(repr(short)) < len(repr(value)) else value)


def _slot(slot: str, name: str, start: Any = None) -> str:
    made = "torch.zeros_like(p)" if start is None else f"torch.full_like(p, {number(start)})"
    return f'{name} = state.setdefault("{slot}", {made})'


def _adam(c: Config) -> tuple[list[str], list[str]]:
    b1, b2, eps = (number(c[key]) for key in ("beta_1", "beta_2", "epsilon"))
    once = [f"rate = lr * math.sqrt(1 - {b2}**t) / (1 - {b1}**t)"]
    lines = [_slot("momentum", "m"), _slot("velocity", "v"), f"m.lerp_(g, 1 - {b1})", f"v.lerp_(g.square(), 1 - {b2})"]
    if c.get("amsgrad"):
        lines += [_slot("velocity_hat", "largest"), "v = torch.maximum(largest, v, out=largest)"]
    return once, [*lines, f"p.sub_(rate * m / (v.sqrt() + {eps}))"]


def _adamax(c: Config) -> tuple[list[str], list[str]]:
    b1, b2, eps = (number(c[key]) for key in ("beta_1", "beta_2", "epsilon"))
    lines = [_slot("momentum", "m"), _slot("norm", "u"), f"m.lerp_(g, 1 - {b1})"]
    lines += [f"torch.maximum({b2} * u, g.abs(), out=u)", f"p.sub_(lr / (1 - {b1}**t) * m / (u + {eps}))"]
    return [], lines


def _nadam(c: Config) -> tuple[list[str], list[str]]:
    b1, b2, eps = (number(c[key]) for key in ("beta_1", "beta_2", "epsilon"))
    once = [
        f"now, ahead = {b1} * (1 - 0.5 * 0.96**t), {b1} * (1 - 0.5 * 0.96 ** (t + 1))",
        'group["u_product"] = product = group.get("u_product", 1.0) * now',
    ]
    lines = [_slot("momentum", "m"), _slot("velocity", "v"), f"m.lerp_(g, 1 - {b1})", f"v.lerp_(g.square(), 1 - {b2})"]
    lines += ["step = ahead * m / (1 - product * ahead) + (1 - now) * g / (1 - product)"]
    return once, [*lines, f"p.sub_(lr * step / ((v / (1 - {b2}**t)).sqrt() + {eps}))"]


def _sgd(c: Config) -> tuple[list[str], list[str]]:
    momentum = float(c.get("momentum") or 0.0)
    if not momentum:
        return [], ["p.sub_(lr * g)"]
    lines = [_slot("momentum", "m"), f"m.mul_({number(momentum)}).sub_(lr * g)"]
    return [], [*lines, f"p.add_({number(momentum)} * m - lr * g)" if c.get("nesterov") else "p.add_(m)"]


def _rmsprop(c: Config) -> tuple[list[str], list[str]]:
    rho, eps = number(c["rho"]), number(c["epsilon"])
    lines = [_slot("velocity", "v"), f"v.mul_({rho}).add_((1 - {rho}) * g.square())"]
    root = f"(v + {eps}).sqrt()"
    if c.get("centered"):
        lines += [_slot("average_gradient", "mean"), f"mean.mul_({rho}).add_((1 - {rho}) * g)"]
        root = f"(v - mean.square() + {eps}).sqrt()"
    if c.get("momentum"):
        lines += [_slot("momentum", "m"), f"m.mul_({number(c['momentum'])}).add_(lr * g / {root})", "p.sub_(m)"]
        return [], lines
    return [], [*lines, f"p.sub_(lr * g / {root})"]


def _adagrad(c: Config) -> tuple[list[str], list[str]]:
    start = c.get("initial_accumulator_value", 0.1)
    lines = [_slot("accumulator", "a", start), "a.add_(g.square())"]
    return [], [*lines, f"p.sub_(lr * g / (a + {number(c['epsilon'])}).sqrt())"]


def _adadelta(c: Config) -> tuple[list[str], list[str]]:
    rho, eps = number(c["rho"]), number(c["epsilon"])
    lines = [_slot("accumulated_grad", "a"), _slot("accumulated_delta_var", "moved")]
    lines += [f"a.mul_({rho}).add_((1 - {rho}) * g.square())"]
    lines += [f"step = (moved + {eps}).sqrt() / (a + {eps}).sqrt() * g"]
    return [], [*lines, f"moved.mul_({rho}).add_((1 - {rho}) * step.square())", "p.sub_(lr * step)"]


def _lion(c: Config) -> tuple[list[str], list[str]]:
    b1, b2 = number(c["beta_1"]), number(c["beta_2"])
    lines = [_slot("momentum", "m"), f"p.sub_(lr * ({b1} * m + (1 - {b1}) * g).sign())"]
    return [], [*lines, f"m.mul_({b2}).add_((1 - {b2}) * g)"]


RULES: dict[str, Callable[[Config], tuple[list[str], list[str]]]] = {
    "Adam": _adam,
    "AdamW": _adam,
    "Adamax": _adamax,
    "Nadam": _nadam,
    "SGD": _sgd,
    "RMSprop": _rmsprop,
    "Adagrad": _adagrad,
    "Adadelta": _adadelta,
    "Lion": _lion,
}


def is_stock(optimizer: Mapping[str, Any]) -> bool:
    """Whether torch.optim.SGD computes the same: no momentum, no decay, no schedule."""
    config = optimizer["config"]
    plain = not config.get("momentum") and not config.get("weight_decay") and optimizer["schedule"] is None
    return optimizer["class"] == "SGD" and plain


def optimizer_text(optimizer: Mapping[str, Any]) -> str:
    """The class of an optimizer; raises InputError for a rule that is not known."""
    name, config = optimizer["class"], optimizer["config"]
    if name not in RULES or optimizer["own"]:
        raise InputError(f"the optimizer {name} is not known; known are {', '.join(RULES)}")
    once, lines = RULES[name](config)
    decay = float(config.get("weight_decay") or 0.0)
    about = ABOUT["Adam" if name == "AdamW" else name] + ("; its weight decay is decoupled" if decay else "")
    body = [f"p.mul_(1 - lr * {number(decay)})"] if decay else []
    uses_t = any("t)" in line or "**t" in line for line in [*once, *lines])
    head = 't, lr = group["iterations"], group["lr"]' if uses_t else 'lr = group["lr"]'
    state = ["g, state = p.grad, self.state[p]"] if any("state." in line for line in lines) else ["g = p.grad"]
    text = [
        f"class Keras{name}(torch.optim.Optimizer):",
        f'    """{about}."""',
        "",
        "    def __init__(self, parameters, lr):",
        '        super().__init__(parameters, {"lr": lr, "iterations": 0})',
        "",
        "    @torch.no_grad()",
        "    def step(self):",
        "        for group in self.param_groups:",
        '            group["iterations"] += 1',
        f"            {head}",
        *(f"            {line}" for line in once),
        '            for p in (p for p in group["params"] if p.grad is not None):',
        *(f"                {line}" for line in [*body, *state, *lines]),
    ]
    return "\n".join(text)


def schedule_text(schedule: Mapping[str, Any]) -> str:
    """A function of the learning rate; raises InputError for a schedule that is not known."""
    c = schedule.get("config", {})
    name = schedule.get("class_name")
    known = ("ExponentialDecay", "InverseTimeDecay", "PiecewiseConstantDecay", "PolynomialDecay", "CosineDecay")
    if name not in known:
        raise InputError(f"the learning rate's schedule {name} is not known; known are {', '.join(known)}")
    first = number(c.get("initial_learning_rate", 0.0))
    if name == "PiecewiseConstantDecay":
        body = [f"    for boundary, value in zip({list(c['boundaries'])}, {list(c['values'])[:-1]}, strict=True):"]
        body += ["        if step <= boundary:", "            return value", f"    return {list(c['values'])[-1]}"]
    elif name == "PolynomialDecay":
        if c.get("cycle"):
            raise InputError("a PolynomialDecay with cycle=True is not known")
        end, power = number(c["end_learning_rate"]), number(c["power"])
        body = [f"    rest = 1 - min(step / {c['decay_steps']}, 1)"]
        body += [f"    return ({first} - {end}) * rest**{power} + {end}"]
    elif name == "CosineDecay":
        if c.get("warmup_target") is not None or c.get("warmup_steps"):
            raise InputError("a CosineDecay with a warmup is not known")
        alpha = number(c.get("alpha", 0.0))
        body = [f"    cosine = (1 + math.cos(math.pi * min(step / {c['decay_steps']}, 1))) / 2"]
        body += [f"    return {first} * ((1 - {alpha}) * cosine + {alpha})"]
    else:
        p = f"step // {c['decay_steps']}" if c.get("staircase") else f"step / {c['decay_steps']}"
        rate = number(c["decay_rate"])
        value = f"{rate} ** ({p})" if name == "ExponentialDecay" else f"1 / (1 + {rate} * ({p}))"
        body = [f"    return {first} * {value}"]
    about = f'    """The learning rate of Keras\'s {name} after so many steps."""'
    return "\n".join(["def learning_rate(step):", about, *body])
