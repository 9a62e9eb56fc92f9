"""Two update rules compared: which cause each differing choice is, the code that fixes it, what is said of it."""

from collections.abc import Mapping
from typing import Any

import numpy as np

ADAM = ("adam", "adamax", "nadam")

# What no option of PyTorch's optimizers fixes: named after what the user chose.
INHERENT = ("adam-epsilon-placement", "rmsprop-epsilon-placement")

CLASSES = {
    "adam": "Adam",
    "adamax": "Adamax",
    "nadam": "NAdam",
    "sgd": "SGD",
    "rmsprop": "RMSprop",
    "adagrad": "Adagrad",
    "adadelta": "Adadelta",
}


def same_choice(left: Any, right: Any) -> bool:
    """Whether two choices of a rule are the same, numbers up to rounding."""
    if isinstance(left, float) and isinstance(right, float):
        return bool(np.isclose(left, right, rtol=1e-5, atol=0.0))
    return bool(left == right)


def causes_of_choices(rule: str) -> dict[str, tuple[str, ...]]:
    """Which choices of a rule belong to which cause; the learning rate is apart."""
    decay = {"weight-decay-coupling": ("coupled_decay", "decoupled_decay")}
    if rule == "adam":
        return {
            "adam-betas": ("beta_1", "beta_2"),
            "adam-epsilon": ("epsilon",),
            "adam-epsilon-placement": ("epsilon_placement",),
            "optimizer-rule": ("amsgrad",),
            **decay,
        }
    if rule in ADAM:
        rest = ("epsilon_placement", "momentum_decay")
        return {"adam-betas": ("beta_1", "beta_2"), "adam-epsilon": ("epsilon",), "optimizer-rule": rest, **decay}
    if rule == "rmsprop":
        return {
            "optimizer-rule": ("rho", "centered"),
            "rmsprop-epsilon-placement": ("epsilon", "epsilon_placement"),
            "momentum-rule": ("momentum", "momentum_form"),
            **decay,
        }
    if rule == "adagrad":
        return {
            "initial-accumulator": ("initial_accumulator",),
            "optimizer-rule": ("epsilon", "epsilon_placement"),
            **decay,
        }
    if rule == "adadelta":
        return {"optimizer-rule": ("rho", "epsilon"), **decay}
    return {"momentum-rule": ("momentum", "dampening", "nesterov", "momentum_form"), **decay}


WRITTEN = {
    "beta_1": "betas",
    "beta_2": "betas",
    "epsilon": "eps",
    "rho": "alpha",
    "initial_accumulator": "initial_accumulator_value",
    "coupled_decay": "weight_decay",
    "decoupled_decay": "weight_decay",
}


def rule_fix(cause: str, optimizer: str, choices: Mapping[str, Any], keras: Mapping[str, Any]) -> str:
    """The code that makes a choice as Keras makes it."""
    if cause == "adam-epsilon-placement":
        epsilon, beta = keras["epsilon"], keras["beta_2"]
        return (
            f"for group in optimizer.param_groups: group['eps'] = {epsilon:g} / (1 - {beta:g}**t) ** 0.5"
            "  # before step t = 1, 2, …"
        )
    if cause == "rmsprop-epsilon-placement":
        return "an RMSprop that divides by (v + 1e-7).sqrt(); torch.optim.RMSprop(…, eps=1e-7) comes near"
    if cause == "weight-decay-coupling":
        decay = keras["decoupled_decay"]
        return (
            f"torch.optim.AdamW(module.parameters(), lr={keras['learning_rate']:g}, weight_decay={decay:g})"
            if keras["rule"] == "adam"
            else f"weight_decay={keras['coupled_decay']:g}"
            if not decay
            else f"weight_decay={keras['coupled_decay']:g}, decoupled {decay:g} by hand"
        )
    if cause == "initial-accumulator":
        return f"torch.optim.Adagrad(…, initial_accumulator_value={choices['initial_accumulator']:g})"
    if cause == "momentum-rule" and set(choices) == {"momentum_form"}:
        return "scale the momentum buffers by lr_before / lr_after where the learning rate changes"
    if "beta_1" in choices or "beta_2" in choices:
        return f"torch.optim.{optimizer}(…, betas=({keras['beta_1']:g}, {keras['beta_2']:g}))"
    options = ", ".join(
        f"{WRITTEN.get(name, name)}={value}" for name, value in choices.items() if name != "momentum_form"
    )
    return f"torch.optim.{optimizer}(module.parameters(), …, {options})"


def choices_message(choices: Mapping[str, Any], torch: Mapping[str, Any]) -> str:
    """The choices of both sides, in words."""
    sentences = [
        f"{name.replace('_', ' ')} is {value} in Keras and {torch[name]} in PyTorch" for name, value in choices.items()
    ]
    return "; ".join(sentences) + "."
