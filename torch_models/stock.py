"""PyTorch's own optimizers with their own defaults, scheduled and clipped as a PyTorch user does it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from torch_models.schedules import scheduled_learning_rate

# Which optimizer of torch.optim a name stands for, and what it takes beside the learning rate and the weight decay.
STOCK_RULES: dict[str, tuple[type[torch.optim.Optimizer], tuple[str, ...]]] = {
    "sgd": (torch.optim.SGD, ("momentum", "nesterov")),
    "rmsprop": (torch.optim.RMSprop, ("momentum",)),
    "adam": (torch.optim.Adam, ()),
    "adamw": (torch.optim.AdamW, ()),
    "adamax": (torch.optim.Adamax, ()),
    "nadam": (torch.optim.NAdam, ()),
    "adagrad": (torch.optim.Adagrad, ()),
    "adadelta": (torch.optim.Adadelta, ()),
}


def build_stock_optimizer(
    params: list[Any], name: str, learning_rate: float, rule: Mapping[str, Any], common: Mapping[str, Any]
) -> torch.optim.Optimizer:
    """Build an optimizer of torch.optim that clips the gradients and sets the learning rate before each step.

    `rule`: momentum, nesterov, weight_decay, of which the optimizer gets what it takes and what is not None.
    `common`: the limits of clipping and the options of the schedule.
    """
    kind, takes = STOCK_RULES[name]
    options: dict[str, Any] = {
        option: value for option, value in rule.items() if option in (*takes, "weight_decay") and value is not None
    }
    optimizer = kind(params, lr=learning_rate, **options)
    for group in optimizer.param_groups:
        group.update(common, initial_lr=learning_rate, iterations=0)
    unclipped: list[torch.Tensor | None] = []

    def before_step(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        for group in optimizer.param_groups:
            # In float64, as PyTorch's schedulers compute it.
            start = {**group, "lr": group["initial_lr"]}
            group["lr"] = scheduled_learning_rate(start, group["iterations"], np.float64)
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
