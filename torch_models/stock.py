"""PyTorch's own optimizers with their own defaults, scheduled and clipped as a PyTorch user does it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from torch_models.schedules import scheduled_learning_rate


@dataclass(frozen=True)
class StockRule:
    """An optimizer of torch.optim: Keras's names of its slots, and what it takes beside the learning rate.

    In Keras the slots of `scaled` hold that factor times the learning rate times what they hold in PyTorch.
    """

    kind: type[torch.optim.Optimizer]
    slots: Mapping[str, str]
    takes: frozenset[str] = frozenset({"weight_decay"})
    scaled: Mapping[str, float] = field(default_factory=dict)


STOCK_RULES = {
    # Keras: m = momentum * m - lr * g; w += m. PyTorch: m = momentum * m + g; w -= lr * m.
    "sgd": StockRule(
        torch.optim.SGD,
        {"momentum": "momentum_buffer"},
        frozenset({"weight_decay", "momentum", "nesterov"}),
        {"momentum": -1.0},
    ),
    "rmsprop": StockRule(
        torch.optim.RMSprop,
        {"velocity": "square_avg", "momentum": "momentum_buffer"},
        frozenset({"weight_decay", "momentum"}),
        {"momentum": 1.0},
    ),
    "adam": StockRule(torch.optim.Adam, {"momentum": "exp_avg", "velocity": "exp_avg_sq"}),
    "adamw": StockRule(torch.optim.AdamW, {"momentum": "exp_avg", "velocity": "exp_avg_sq"}),
    "adamax": StockRule(torch.optim.Adamax, {"momentum": "exp_avg", "norm": "exp_inf"}),
    "nadam": StockRule(torch.optim.NAdam, {"momentum": "exp_avg", "velocity": "exp_avg_sq"}),
    "adagrad": StockRule(torch.optim.Adagrad, {"accumulator": "sum"}),
    "adadelta": StockRule(
        torch.optim.Adadelta, {"accumulated_grad": "square_avg", "accumulated_delta_var": "acc_delta"}
    ),
}


def build_stock_optimizer(
    params: list[Any], name: str, learning_rate: float, rule: Mapping[str, Any], common: Mapping[str, Any]
) -> torch.optim.Optimizer:
    """Build an optimizer of torch.optim that clips the gradients and sets the learning rate before each step.

    `rule`: momentum, nesterov, weight_decay, of which the optimizer gets what it takes and what is not None.
    `common`: the limits of clipping and the options of the schedule.
    """
    stock = STOCK_RULES[name]
    options = {option: value for option, value in rule.items() if option in stock.takes and value is not None}
    optimizer = stock.kind(params, lr=learning_rate, **options)
    for group in optimizer.param_groups:
        group.update(common, initial_lr=learning_rate, iterations=0)
    unclipped: list[torch.Tensor | None] = []

    def before_step(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        for group in optimizer.param_groups:
            group["lr"] = stock_learning_rate(group)
            group["iterations"] += 1
        parameters = _with_gradients(optimizer)
        unclipped[:] = [parameter.grad for parameter in parameters]
        for parameter, gradient in zip(parameters, clip_stock(unclipped, common), strict=True):
            parameter.grad = gradient

    def after_step(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        # The gradient that stands there after a step is that of the loss, as in Keras.
        for parameter, gradient in zip(_with_gradients(optimizer), unclipped, strict=True):
            parameter.grad = gradient

    optimizer.register_step_pre_hook(before_step)
    optimizer.register_step_post_hook(after_step)
    return optimizer


def stock_learning_rate(group: Mapping[str, Any]) -> float:
    """Return the learning rate of the next step, in float64 as PyTorch's schedulers compute it."""
    return scheduled_learning_rate({**group, "lr": group["initial_lr"]}, group["iterations"], np.float64)


def clip_stock(gradients: list[torch.Tensor], limits: Mapping[str, Any]) -> list[torch.Tensor]:
    """Return what `torch.nn.utils` makes of gradients, which are not changed themselves."""
    if all(limits[limit] is None for limit in ("clipvalue", "clipnorm", "global_clipnorm")):
        return gradients
    holders = [torch.empty_like(gradient) for gradient in gradients]
    for holder, gradient in zip(holders, gradients, strict=True):
        holder.grad = gradient.clone()
    if limits["clipvalue"] is not None:
        nn.utils.clip_grad_value_(holders, limits["clipvalue"])
    if limits["clipnorm"] is not None:
        for holder in holders:
            nn.utils.clip_grad_norm_([holder], limits["clipnorm"])
    if limits["global_clipnorm"] is not None:
        nn.utils.clip_grad_norm_(holders, limits["global_clipnorm"])
    return [holder.grad for holder in holders]


def _with_gradients(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [
        parameter for group in optimizer.param_groups for parameter in group["params"] if parameter.grad is not None
    ]


def read_stock_slots(
    optimizer: torch.optim.Optimizer, parameter: nn.Parameter, group: Mapping[str, Any]
) -> dict[str, torch.Tensor]:
    """Return the slots of a parameter under Keras's names and in Keras's scale; zeros before the first step."""
    state = optimizer.state[parameter]
    return {
        slot: state.get(own, torch.zeros_like(parameter)) * _scale(optimizer, slot, group)
        for slot, own in _slots(optimizer, group).items()
    }


def load_stock_slots(
    optimizer: torch.optim.Optimizer,
    parameter: nn.Parameter,
    group: Mapping[str, Any],
    slots: Mapping[str, torch.Tensor],
    u_product: float,
    iterations: int,
) -> None:
    """Put the slots of a parameter where the optimizer has its own; the inverse of `read_stock_slots`."""
    state = {own: slots[slot] / _scale(optimizer, slot, group) for slot, own in _slots(optimizer, group).items()}
    if not isinstance(optimizer, torch.optim.SGD):
        state["step"] = torch.tensor(float(iterations))
    if isinstance(optimizer, torch.optim.NAdam):
        state["mu_product"] = torch.tensor(u_product)
    optimizer.state[parameter] = state


def _rule(optimizer: torch.optim.Optimizer) -> StockRule:
    return next(rule for rule in STOCK_RULES.values() if rule.kind is type(optimizer))


def _slots(optimizer: torch.optim.Optimizer, group: Mapping[str, Any]) -> dict[str, str]:
    """Name the slots that there are: SGD and RMSprop keep a momentum only where one is asked for."""
    slots = _rule(optimizer).slots
    return {slot: own for slot, own in slots.items() if own != "momentum_buffer" or group["momentum"]}


def _scale(optimizer: torch.optim.Optimizer, slot: str, group: Mapping[str, Any]) -> float:
    # The first learning rate: a scheduled one changes from step to step, and may be zero.
    scaled = _rule(optimizer).scaled
    return scaled[slot] * group["initial_lr"] if slot in scaled else 1.0
