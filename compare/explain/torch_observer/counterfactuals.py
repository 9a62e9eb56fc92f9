"""Counterfactuals on the PyTorch side; keras_observer/counterfactuals.py is its mirror.

Each changes exactly one thing of a session before its first step.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from compare.explain.torch_observer.functions import LOSSES
from compare.explain.torch_observer.session import Session
from compare.explain.torch_observer.update_rule import UpdateRule


def apply(session: Session, changes: Sequence[Mapping[str, Any]]) -> None:
    """Make changes, given as dicts with the name as "change"; raises KeyError for an unknown one."""
    for change in changes:
        options = {name: value for name, value in change.items() if name != "change"}
        CHANGES[change["change"]](session, **options)


def _layer(option: str) -> Any:
    def change(session: Session, path: str) -> None:
        setattr(session.changes.layers[path], option, True)

    return change


def _flag(name: str) -> Any:
    def change(session: Session) -> None:
        setattr(session.changes, name, True)

    return change


def _batch_first(session: Session, path: str, value: bool) -> None:
    _modules(session)[path].batch_first = value


def _modules(session: Session) -> dict[str, Any]:
    return dict(session.module.named_modules())


def _exchange(session: Session, paths: Sequence[str]) -> None:
    """Put two modules into each other's places."""
    modules = _modules(session)
    holders = [(modules[path.rpartition(".")[0]], path.rpartition(".")[2]) for path in paths]
    for (holder, name), path in zip(holders, reversed(paths), strict=True):
        holder._modules[name] = modules[path]


def _freeze(session: Session, parameters: Sequence[str], zero: bool = False) -> None:
    named = dict(session.module.named_parameters())
    for name in parameters:
        if zero:
            with torch.no_grad():
                named[name].zero_()
        named[name].requires_grad_(False)


def _train(session: Session, parameters: Sequence[str]) -> None:
    named = dict(session.module.named_parameters())
    held = {id(p) for group in session.optimizer.param_groups for p in group["params"]}
    for name in parameters:
        named[name].requires_grad_(True)
        if id(named[name]) not in held:
            session.optimizer.param_groups[0]["params"].append(named[name])


def _rewire(session: Session, key: str, **how: Any) -> None:
    session.changes.rewire[key] = how


def _dropout_rate(session: Session, call: int, rate: float) -> None:
    session.changes.dropout_rates[call] = rate


def _dropout_off(session: Session) -> None:
    session.changes.dropout = "off"


def _loss_divisor(session: Session, by: str) -> None:
    session.changes.loss_divisor = by


def _loss(session: Session, function: str, arguments: Mapping[str, Any]) -> None:
    session.changes.loss = lambda prediction, target: LOSSES[function](prediction, target, **arguments)


def _loss_attribute(session: Session, name: str, value: Any) -> None:
    setattr(session.user_loss, name, value)


def _penalty(session: Session, coefficients: Mapping[str, float]) -> None:
    """Add Keras's l2 penalties, by part and tensor, to the loss, and take the optimizer's own away."""
    for group in session.optimizer.param_groups:
        group["weight_decay"] = 0.0

    def penalty() -> torch.Tensor:
        total = torch.zeros(())
        for location, coefficient in coefficients.items():
            key, _, name = location.rpartition("/")
            part = session.observed.parts[key]
            for attribute in part.tensors[name]:
                total = total + coefficient * part.tensor(attribute).square().sum()
        return total

    session.changes.penalty = penalty


def _clip(session: Session, kind: str, limit: float | None = None) -> None:
    session.changes.clip = {"kind": kind, "limit": limit}


def _update_rule(session: Session, **choices: Any) -> None:
    rule = session.changes.rule
    if rule is None:
        session.changes.rule = UpdateRule(session.optimizer, choices)
    else:
        rates = choices.pop("learning_rates", None)
        rule.choices |= choices
        rule.rates = rates or rule.rates


def _epsilon(session: Session, path: str, value: float) -> None:
    _modules(session)[path].eps = value


def _running_statistics(session: Session, path: str, momentum: float) -> None:
    """Let a batch normalisation keep its statistics as Keras does: `momentum` of the old, and the biased variance."""
    module = _modules(session)[path]

    def after(module: Any, arguments: Any, result: Any) -> None:
        if not module.training:
            return
        x = arguments[0].detach()
        axes = [axis for axis in range(x.dim()) if axis != 1]
        with torch.no_grad():
            # New buffers: the old ones are kept for the backward pass.
            module.running_mean = before["mean"] * momentum + x.mean(axes) * (1 - momentum)
            module.running_var = before["variance"] * momentum + x.var(axes, unbiased=False) * (1 - momentum)

    before: dict[str, torch.Tensor] = {}

    def keep(module: Any, arguments: Any) -> None:
        before["mean"], before["variance"] = module.running_mean.clone(), module.running_var.clone()

    module.register_forward_pre_hook(keep)
    module.register_forward_hook(after)


def _load(session: Session, **_: Any) -> None:
    """Load a part by the standard conversion instead of the user's; the side does so when it loads the weights."""


def perturb(session: Session, seed: int) -> None:
    """Change every weight by the last bit at random: what this does to a step is what rounding may do."""
    draw = np.random.default_rng(seed)
    with torch.no_grad():
        for parameter in session.module.parameters():
            unit = torch.finfo(parameter.dtype).eps / 2 if parameter.dtype.is_floating_point else 0.0
            signs = torch.from_numpy(draw.integers(-1, 2, tuple(parameter.shape)).astype(np.float32))
            parameter.mul_(1 + unit * 2 * signs.to(parameter.dtype))
    # A bound and no sample: it must not count as many times as the rest of what a member does.
    session.updates.rate_noise = float(draw.choice([-1, 1])) * 2.0**-24 / 4


CHANGES: dict[str, Any] = {
    "batch_first": _batch_first,
    "zero_state": _layer("zero_state"),
    "reset_before": _layer("reset_before"),
    "step_by_step": _layer("step_by_step"),
    "masked": _layer("masked"),
    "return_last": _layer("return_last"),
    "exchange": _exchange,
    "freeze": _freeze,
    "train": _train,
    "rewire": _rewire,
    "dropout_rate": _dropout_rate,
    "dropout_off": _dropout_off,
    "keep_gradient": _flag("keep_gradient"),
    "plain_step": _flag("plain_step"),
    "always_training": _flag("always_training"),
    "reset_state": _flag("reset_state"),
    "own_target": _flag("own_target"),
    "restore_order": _flag("restore_order"),
    "no_autocast": _flag("no_autocast"),
    "no_tf32": _flag("no_tf32"),
    "no_dropout_in_evaluation": _flag("no_dropout_in_evaluation"),
    "target_like_prediction": _flag("target_like_prediction"),
    "loss_divisor": _loss_divisor,
    "loss": _loss,
    "loss_attribute": _loss_attribute,
    "penalty": _penalty,
    "clip": _clip,
    "update_rule": _update_rule,
    "epsilon": _epsilon,
    "running_statistics": _running_statistics,
    "load": _load,
}
