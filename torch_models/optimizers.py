"""Optimizers for the PyTorch side by name, and their slots; `keras_models/optimizers.py` is the mirror."""

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import nn

from torch_models.stock import build_stock_optimizer
from torch_models.update_rules import (
    KerasAdadelta,
    KerasAdagrad,
    KerasAdam,
    KerasAdamax,
    KerasAdamW,
    KerasNadam,
    KerasOptimizer,
    KerasRMSprop,
    KerasSGD,
    named_parameters,
)
from torch_models.weights import Layout, Model, check_names_and_shapes, layouts

OPTIMIZERS: dict[str, type[KerasOptimizer]] = {
    "sgd": KerasSGD,
    "rmsprop": KerasRMSprop,
    "adam": KerasAdam,
    "adamw": KerasAdamW,
    "adamax": KerasAdamax,
    "nadam": KerasNadam,
    "adagrad": KerasAdagrad,
    "adadelta": KerasAdadelta,
}

# Which optimizers know what momentum and its Nesterov form are.
TAKE_MOMENTUM = ("sgd", "rmsprop")
TAKE_NESTEROV = ("sgd",)


def build_optimizer(
    parameters: Iterable[nn.Parameter] | Iterable[tuple[str, nn.Parameter]],
    name: str = "adam",
    learning_rate: float = 1e-3,
    *,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float | None = None,
    clipvalue: float | None = None,
    clipnorm: float | None = None,
    global_clipnorm: float | None = None,
    schedule: str = "constant",
    decay_steps: int | None = None,
    decay_rate: float | None = None,
    boundaries: tuple[int, ...] = (),
    values: tuple[float, ...] = (),
    stock: bool = False,
) -> torch.optim.Optimizer:
    """Build an optimizer by name: with Keras's update rule, or with `stock` torch's own and its own defaults.

    Parameters plain or with their names (`model.named_parameters()`), which clipnorm needs; those that are not trained
    are left out.
    Raises ValueError for an unknown name and for an option that the optimizer does not take.
    """
    if name not in OPTIMIZERS:
        raise ValueError(f"optimizer={name!r} is unknown; accepted: {', '.join(OPTIMIZERS)}")
    if momentum and name not in TAKE_MOMENTUM:
        raise ValueError(f"momentum={momentum} is not an option of {name}, only of {', '.join(TAKE_MOMENTUM)}")
    if nesterov and name not in TAKE_NESTEROV:
        raise ValueError(f"nesterov is not an option of {name}, only of {', '.join(TAKE_NESTEROV)}")
    trainable = [entry for entry in parameters if (entry[1] if isinstance(entry, tuple) else entry).requires_grad]
    common = {
        "clipvalue": clipvalue,
        "clipnorm": clipnorm,
        "global_clipnorm": global_clipnorm,
        "schedule": schedule,
        "decay_steps": decay_steps,
        "decay_rate": decay_rate,
        "boundaries": boundaries,
        "values": values,
    }
    rule = {"momentum": momentum} if name in TAKE_MOMENTUM else {}
    rule |= {"nesterov": nesterov} if name in TAKE_NESTEROV else {}
    rule["weight_decay"] = weight_decay
    if stock:
        return build_stock_optimizer(trainable, name, learning_rate, rule, common)
    return OPTIMIZERS[name](trainable, lr=learning_rate, **rule, **common)


def iterations(optimizer: torch.optim.Optimizer) -> int:
    """Return how many steps were done."""
    return optimizer.param_groups[0]["iterations"]


def learning_rate(optimizer: KerasOptimizer) -> float:
    """Return the learning rate of the next step."""
    group = optimizer.param_groups[0]
    return optimizer.learning_rate({**group, "iterations": group["iterations"] + 1})


def read_slots(model: Model, optimizer: KerasOptimizer) -> dict[str, np.ndarray]:
    """Read the optimizer's slots as "<slot>/<canonical tensor>", Nadam's one number as "u_product".

    Before the first step they are what the optimizer starts with. Only the rules of Keras have slots in common with it.
    """
    slots = {}
    for layout in layouts(model):
        for slot, value in _slots_of(optimizer, layout.variable).items():
            slots |= {f"{slot}/{name}": part for name, part in layout.split(value.cpu().numpy()).items()}
    if "u_product" in optimizer.param_groups[0]:
        dtype = layouts(model)[0].value().cpu().numpy().dtype
        slots["u_product"] = np.asarray(optimizer.param_groups[0]["u_product"], dtype)
    return slots


@torch.no_grad()
def load_slots(model: Model, optimizer: KerasOptimizer, slots: Mapping[str, np.ndarray], iterations: int) -> None:
    """Load slots as `read_slots` returns them, all of them and nothing else; `iterations` steps are then done.

    Raises ValueError naming every slot that is missing, left over or of another shape.
    """
    check_names_and_shapes("slots", "the optimizer", read_slots(model, optimizer), slots)
    for layout in layouts(model):
        # Where both biases are trained, each has slots of its own, and always the same ones.
        both = [layout.variable, layout.second_bias]
        for parameter in (p for p in both if p is not None and p.requires_grad):
            for slot, value in _slots_of(optimizer, parameter).items():
                value.copy_(_joined(slots, slot, layout))
    for group in optimizer.param_groups:
        group["iterations"] = iterations
        if "u_product" in group:
            group["u_product"] = float(slots["u_product"])


def clip_gradients(optimizer: KerasOptimizer, gradients: list[torch.Tensor]) -> list[torch.Tensor]:
    """Return what the optimizer makes of gradients before it uses them, one for each trained parameter in order.

    Second biases (those of LSTM and SimpleRNN) may be left out, since their gradients are those of the first biases.
    The gradients themselves are not changed. Raises ValueError for another number of gradients.
    """
    names = [name for name, _ in named_parameters(optimizer)]
    listed = [not ("bias_hh" in name and len(gradients) < len(names)) for name in names]
    if sum(listed) != len(gradients):
        raise ValueError(f"{len(gradients)} gradients for {len(names)} parameters")
    remaining = iter(gradients)
    every: list[torch.Tensor] = []
    for is_listed in listed:
        every.append(next(remaining) if is_listed else every[-1])
    with torch.no_grad():
        clipped = optimizer.clip(every, names)
    return [gradient for gradient, is_listed in zip(clipped, listed, strict=True) if is_listed]


def _slots_of(optimizer: KerasOptimizer, parameter: nn.Parameter) -> dict[str, torch.Tensor]:
    groups = optimizer.param_groups
    group = next(group for group in groups if any(parameter is member for member in group["params"]))
    return optimizer.slots_of(parameter, group)


def _joined(slots: Mapping[str, np.ndarray], slot: str, layout: Layout) -> torch.Tensor:
    value = layout.join({name: slots[f"{slot}/{name}"] for name in layout.names})
    return torch.from_numpy(np.array(value)).to(layout.variable)
