"""The observers mirror each other, and what counterfactuals compute is PyTorch's own where nothing is changed."""

import ast
from pathlib import Path
from typing import Any

import pytest
from helpers.framework_processes import FrameworkProcesses
from helpers.paths import ROOT

from compare.explain.dropout_masks import kept

OBSERVERS = [ROOT / "compare" / "explain" / f"{side}_observer" for side in ("keras", "torch")]

# Keras computes its gradients by backend; PyTorch's loss, optimizer and recurrent layers are the user's own to watch.
ALONE = {"keras": {"backward.py"}, "torch": {"functions.py", "loss.py", "recurrent_run.py", "updates.py"}}

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


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
def test_layers_one_by_one_are_pytorchs_own(frameworks: FrameworkProcesses, kind: str, packed: bool) -> None:
    """Computed layer by layer, a bidirectional layer gives what PyTorch's one call gives, gradients too."""
    assert frameworks.call("torch", "observer_probes.layer_by_layer_difference", kind, packed, False) < 1e-13


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_equations_are_pytorchs_own(frameworks: FrameworkProcesses, kind: str) -> None:
    """Computed timestep by timestep, a layer gives what PyTorch's fused one gives."""
    assert frameworks.call("torch", "observer_probes.layer_by_layer_difference", kind, False, True) < 1e-13


def public_names(file: Path) -> list[str]:
    """The functions and classes of a module that others may use, in order."""
    nodes = ast.parse(file.read_text("utf-8")).body
    names = [node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    return [name for name in names if not name.startswith("_")]


def mirrors(keras: list[str], torch: list[str]) -> bool:
    """Whether every public name of the Keras side is one of the PyTorch side's, which may have more, in its order."""
    return keras == [name for name in torch if name in keras]


def test_observers_mirror_each_other() -> None:
    """The observers have the same files but for those named here, and the same public names in the same order."""
    keras, torch = ({file.name for file in folder.glob("*.py")} for folder in OBSERVERS)
    assert (keras - torch, torch - keras) == (ALONE["keras"], ALONE["torch"])
    for name in sorted(keras & torch):
        ours, theirs = (public_names(folder / name) for folder in OBSERVERS)
        assert mirrors(ours, theirs), (name, ours, theirs)


@pytest.mark.parametrize("keras", [["describe", "Side"], ["Side", "run"]], ids=["order", "lacking"])
def test_a_broken_mirror_is_seen(keras: list[str]) -> None:
    """Names in another order, or that the other side lacks, are no mirror."""
    assert not mirrors(keras, ["Side", "describe"])


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_dropout_masks_are_fair(rate: float) -> None:
    """The masks of both sides drop about as many elements as they should, and neighbours as if by chance."""
    mask = kept((20, 10, 16), rate).ravel()
    assert mask.mean() == pytest.approx(1 - rate, abs=0.02)
    assert (~mask[::2] & ~mask[1::2]).mean() == pytest.approx(rate**2, abs=0.02)


@pytest.mark.parametrize(
    ("choices", "beta"),
    [({}, 0.5), ({"beta_2": 0.999}, 0.999), ({"rule": "sgd", "momentum": 0.0}, None)],
    ids=["pytorchs", "kerass", "rule-without"],
)
def test_noise_follows_the_rule(frameworks: FrameworkProcesses, choices: dict[str, Any], beta: float | None) -> None:
    """A member's learning rate is off by what the rule that is really stepped makes of one last bit."""
    wanted = 0.0 if beta is None else 1 / (1 - beta)
    assert frameworks.call("torch", "observer_probes.noise_of_rates", choices) == pytest.approx(wanted)


@pytest.mark.parametrize("rates", [[], [0.3]], ids=["groups", "given"])
def test_a_factor_reaches_the_rule(frameworks: FrameworkProcesses, rates: list[float]) -> None:
    """The learning rate is multiplied wherever it comes from."""
    assert frameworks.call("torch", "observer_probes.factor_of_rule", rates) == pytest.approx(2)


@pytest.mark.parametrize(
    ("seen", "order"),
    [
        ([[1, 2], [3, 4], [3, 4], [5, 6]], None),
        ([[5, 6], [3, 4], [1, 2], [3, 4]], [3, 1, 0, 2]),
        ([[5, 6], [3, 4], [1, 2], [1, 2]], None),
        ([[2, 1], [4, 3], [4, 3], [6, 5]], None),
        ([[[5], [6]], [[3], [4]], [[1], [2]], [[3], [4]]], [3, 1, 0, 2]),
        ([[3, 4], [1, 2]], None),
        (7, None),
    ],
    ids=["as-it-was", "reordered", "not-each-once", "other-rows", "other-axes", "fewer", "one-number"],
)
def test_the_order_of_rows_is_found(frameworks: FrameworkProcesses, seen: Any, order: list[int] | None) -> None:
    """An order is found where each row of the batch is there once, in another place."""
    assert frameworks.call("torch", "observer_probes.row_order", [[1, 2], [3, 4], [3, 4], [5, 6]], seen) == order
