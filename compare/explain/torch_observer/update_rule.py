"""Update rules with every choice open, so that one choice at a time can be made as Keras makes it.

A rule is a dict. `rule` names it; the other keys are the choices that `rule_of` lists.
"""

import itertools
import math
from collections.abc import Mapping
from typing import Any

import torch


def rule_of(optimizer: torch.optim.Optimizer) -> dict[str, Any] | None:
    """Say what a PyTorch optimizer computes, from its first group; None for one that is not known."""
    group = optimizer.param_groups[0]
    name = type(optimizer).__name__
    decay = float(group.get("weight_decay", 0.0))
    common = {"learning_rate": float(group["lr"]), "coupled_decay": decay, "decoupled_decay": 0.0}
    if name in ("Adam", "AdamW"):
        if name == "AdamW" or group.get("decoupled_weight_decay"):
            common |= {"coupled_decay": 0.0, "decoupled_decay": decay}
        betas = {"beta_1": float(group["betas"][0]), "beta_2": float(group["betas"][1])}
        choices = {"epsilon": float(group["eps"]), "epsilon_placement": "after", "amsgrad": bool(group["amsgrad"])}
        return {"rule": "adam", **common, **betas, **choices}
    if name in ("Adamax", "NAdam"):
        choices = {
            "rule": name.lower(),
            **common,
            "beta_1": float(group["betas"][0]),
            "beta_2": float(group["betas"][1]),
        }
        choices |= {"epsilon": float(group["eps"]), "epsilon_placement": "after" if name == "NAdam" else "inside"}
        return choices | ({"momentum_decay": float(group["momentum_decay"])} if name == "NAdam" else {})
    if name == "SGD":
        choices = {name: float(group[name]) for name in ("momentum", "dampening")}
        return {"rule": "sgd", **common, **choices, "nesterov": bool(group["nesterov"]), "momentum_form": "outside"}
    if name == "RMSprop":
        choices = {"rho": float(group["alpha"]), "epsilon": float(group["eps"]), "epsilon_placement": "outside"}
        return {
            "rule": "rmsprop",
            **common,
            **choices,
            "momentum": float(group["momentum"]),
            "momentum_form": "outside",
            "centered": bool(group["centered"]),
        }
    if name == "Adagrad":
        start = float(group["initial_accumulator_value"])
        choices = {"epsilon": float(group["eps"]), "epsilon_placement": "outside", "initial_accumulator": start}
        return {"rule": "adagrad", **common, **choices}
    if name == "Adadelta":
        return {"rule": "adadelta", **common, "rho": float(group["rho"]), "epsilon": float(group["eps"])}
    return None


def replace_step(optimizer: torch.optim.Optimizer, choices: Mapping[str, Any]) -> None:
    """Let an optimizer's steps be taken with some choices otherwise; its hooks run as they do for its own step.

    `learning_rates` are those of all steps. Where they are all that is chosen, the optimizer's own step runs with them,
    whatever it computes.
    """
    rest = {name: value for name, value in choices.items() if name != "learning_rates"}
    rates, own = choices.get("learning_rates"), type(optimizer).step
    rule, steps = UpdateRule(optimizer, rest), itertools.count()

    @torch.optim.Optimizer.profile_hook_step
    def hooked(instance: Any, closure: Any = None) -> None:
        rule.step()

    def step(closure: Any = None) -> None:
        before = [group["lr"] for group in optimizer.param_groups]
        if rates is not None:
            rate = rates[min(next(steps), len(rates) - 1)]
            for group in optimizer.param_groups:
                group["lr"] = rate
        if rest:
            hooked(optimizer)
        else:
            own(optimizer)
        for group, rate in zip(optimizer.param_groups, before, strict=True):
            group["lr"] = rate
        optimizer._opt_called = True  # a scheduler asks for it

    optimizer.step = step


class UpdateRule:
    """Takes an optimizer's steps itself: as its groups say, but for the choices that are given."""

    def __init__(self, optimizer: torch.optim.Optimizer, choices: Mapping[str, Any]) -> None:
        self.optimizer, self.choices = optimizer, dict(choices)
        self.slots: dict[Any, dict[str, Any]] = {}

    @torch.no_grad()
    def step(self) -> None:
        """Update every parameter that has a gradient; the count of steps stands where the optimizer has it."""
        for group in self.optimizer.param_groups:
            rule = {**rule_of_group(self.optimizer, group), **self.choices}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, rule)
                    self.optimizer.state[parameter]["step"] = torch.tensor(float(self.slots[parameter]["t"]))

    def _update(self, w: torch.Tensor, gradient: torch.Tensor, rule: dict[str, Any]) -> None:
        slots = self.slots.setdefault(w, {"t": 0})
        slots["t"] += 1
        rate = rule["learning_rate"]
        if rule["decoupled_decay"]:
            w.mul_(1 - rate * rule["decoupled_decay"])
        g = gradient + rule["coupled_decay"] * w if rule["coupled_decay"] else gradient
        w.add_(RULES[rule["rule"]](slots, g, rate, rule))


def rule_of_group(optimizer: torch.optim.Optimizer, group: dict[str, Any]) -> dict[str, Any]:
    """As `rule_of`, of one group."""
    known = optimizer.param_groups
    try:
        optimizer.param_groups = [group]
        return rule_of(optimizer) or {"learning_rate": group["lr"], "coupled_decay": 0.0, "decoupled_decay": 0.0}
    finally:
        optimizer.param_groups = known


def _slot(slots: dict[str, Any], name: str, like: torch.Tensor, start: float = 0.0) -> Any:
    if name not in slots:
        slots[name] = torch.full_like(like, start)
    return slots[name]


def _adam(slots: Any, g: Any, rate: float, rule: Any) -> Any:
    b1, b2, t = rule["beta_1"], rule["beta_2"], slots["t"]
    m = _slot(slots, "m", g).mul_(b1).add_(g, alpha=1 - b1)
    v = _slot(slots, "v", g).mul_(b2).addcmul_(g, g, value=1 - b2)
    if rule.get("amsgrad"):
        v = torch.maximum(_slot(slots, "maximum", g), v, out=slots["maximum"])
    root = math.sqrt(1 - b2**t)
    if rule["epsilon_placement"] == "before":
        return -rate * root / (1 - b1**t) * m / (v.sqrt() + rule["epsilon"])
    return -rate / (1 - b1**t) * m / (v.sqrt() / root + rule["epsilon"])


def _adamax(slots: Any, g: Any, rate: float, rule: Any) -> Any:
    b1, b2, t = rule["beta_1"], rule["beta_2"], slots["t"]
    m = _slot(slots, "m", g).mul_(b1).add_(g, alpha=1 - b1)
    u = _slot(slots, "u", g)
    inside = rule["epsilon_placement"] == "inside"
    slots["u"] = u = torch.maximum(b2 * u, g.abs() + (rule["epsilon"] if inside else 0.0))
    return -rate / (1 - b1**t) * m / (u if inside else u + rule["epsilon"])


def _nadam(slots: Any, g: Any, rate: float, rule: Any) -> Any:
    b1, b2, t = rule["beta_1"], rule["beta_2"], slots["t"]
    decay = rule["momentum_decay"]
    now, following = (b1 * (1 - 0.5 * 0.96 ** (step * decay)) for step in (t, t + 1))
    product = slots["product"] = slots.get("product", 1.0) * now
    m = _slot(slots, "m", g).mul_(b1).add_(g, alpha=1 - b1)
    v = _slot(slots, "v", g).mul_(b2).addcmul_(g, g, value=1 - b2)
    ahead = following * m / (1 - product * following) + (1 - now) * g / (1 - product)
    return -rate * ahead / ((v / (1 - b2**t)).sqrt() + rule["epsilon"])


def _momentum(slots: Any, direction: Any, rate: float, rule: Any) -> Any:
    beta = rule.get("momentum", 0.0)
    if not beta:
        return -rate * direction
    if rule["momentum_form"] == "inside":
        m = _slot(slots, "momentum", direction).mul_(beta).sub_(rate * direction)
        return beta * m - rate * direction if rule.get("nesterov") else m.clone()
    if "momentum" not in slots:
        m = slots["momentum"] = direction.clone()
    else:
        m = slots["momentum"].mul_(beta).add_(direction, alpha=1 - rule.get("dampening", 0.0))
    return -rate * (direction + beta * m) if rule.get("nesterov") else -rate * m


def _rmsprop(slots: Any, g: Any, rate: float, rule: Any) -> Any:
    v = _slot(slots, "v", g).mul_(rule["rho"]).addcmul_(g, g, value=1 - rule["rho"])
    if rule.get("centered"):
        mean = _slot(slots, "mean", g).mul_(rule["rho"]).add_(g, alpha=1 - rule["rho"])
        v = v - mean.square()
    inside = rule["epsilon_placement"] == "inside"
    root = (v + rule["epsilon"]).sqrt() if inside else v.sqrt() + rule["epsilon"]
    return _momentum(slots, g / root, rate, rule)


def _adagrad(slots: Any, g: Any, rate: float, rule: Any) -> Any:
    a = _slot(slots, "a", g, rule["initial_accumulator"]).addcmul_(g, g)
    inside = rule["epsilon_placement"] == "inside"
    return -rate * g / ((a + rule["epsilon"]).sqrt() if inside else a.sqrt() + rule["epsilon"])


def _adadelta(slots: Any, g: Any, rate: float, rule: Any) -> Any:
    rho, epsilon = rule["rho"], rule["epsilon"]
    a = _slot(slots, "a", g).mul_(rho).addcmul_(g, g, value=1 - rho)
    moved = _slot(slots, "moved", g)
    step = (moved + epsilon).sqrt() / (a + epsilon).sqrt() * g
    moved.mul_(rho).addcmul_(step, step, value=1 - rho)
    return -rate * step


def _lion(slots: Any, g: Any, rate: float, rule: Any) -> Any:
    m = _slot(slots, "m", g)
    step = -rate * (rule["beta_1"] * m + (1 - rule["beta_1"]) * g).sign()
    m.mul_(rule["beta_2"]).add_(g, alpha=1 - rule["beta_2"])
    return step


RULES = {
    "adam": _adam,
    "adamax": _adamax,
    "nadam": _nadam,
    "sgd": _momentum,
    "rmsprop": _rmsprop,
    "adagrad": _adagrad,
    "adadelta": _adadelta,
    "lion": _lion,
}
