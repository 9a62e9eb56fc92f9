"""What counterfactuals compute is PyTorch's own where nothing is changed, and no kernel is given what does not fit."""

from typing import Any

import pytest
from helpers.framework_processes import FrameworkProcesses

RULES: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3}),
    ("Adam", {"lr": 0.01, "betas": (0.8, 0.99), "weight_decay": 0.1}),
    ("Adam", {"lr": 0.01, "amsgrad": True}),
    ("AdamW", {"lr": 0.01, "weight_decay": 0.1}),
    ("Adamax", {"lr": 0.01}),
    ("NAdam", {"lr": 0.01}),
    ("RMSprop", {"lr": 0.01, "alpha": 0.9}),
    ("RMSprop", {"lr": 0.01, "momentum": 0.5, "centered": True}),
    ("Adagrad", {"lr": 0.1, "initial_accumulator_value": 0.2}),
    ("Adadelta", {"lr": 1.0, "rho": 0.8}),
]
IDS = ["-".join([name, *(option for option in options if option != "lr")]) for name, options in RULES]

# One choice of each rule made otherwise: the two must then come apart.
OTHER = {
    "SGD": {"learning_rate": 0.11},
    "Adam": {"epsilon": 1e-3},
    "AdamW": {"epsilon_placement": "before", "epsilon": 1e-3},
    "Adamax": {"beta_1": 0.8},
    "NAdam": {"momentum_decay": 1.0},
    "RMSprop": {"epsilon_placement": "inside", "epsilon": 1e-3},
    "Adagrad": {"initial_accumulator": 0.1},
    "Adadelta": {"rho": 0.7},
}


@pytest.mark.parametrize(("name", "options"), RULES, ids=IDS)
def test_rules_are_pytorchs_own(frameworks: FrameworkProcesses, name: str, options: dict[str, Any]) -> None:
    """Without a choice the rule takes the same steps as the optimizer, to float64 rounding; with one it does not."""
    tolerance = 1e-7 if name == "NAdam" else 1e-13  # torch keeps NAdam's product of momenta in float32
    assert frameworks.call("torch", "observer_probes.own_rule_difference", name, options, {}) < tolerance
    assert frameworks.call("torch", "observer_probes.own_rule_difference", name, options, OTHER[name]) > 1e-4


@pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "bidirectional"])
@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_equations_are_pytorchs_own(frameworks: FrameworkProcesses, kind: str, bidirectional: bool) -> None:
    """Computed timestep by timestep, two layers give what PyTorch's fused kernel gives, gradients too."""
    assert frameworks.call("torch", "observer_probes.kernel_difference", kind, bidirectional) < 1e-13


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("fault", ["batch", "layers", "width", "features"])
def test_a_kernel_is_given_nothing_that_does_not_fit(frameworks: FrameworkProcesses, kind: str, fault: str) -> None:
    """States of another batch, of too few layers or another width, and other features are refused, not computed."""
    assert frameworks.call("torch", "observer_probes.kernel_refusal", kind, "") == ""
    assert "for" in frameworks.call("torch", "observer_probes.kernel_refusal", kind, fault)
