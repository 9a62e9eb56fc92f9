"""What a Keras optimizer computes; torch_observer/update_rule.py has the same choices, open."""

from typing import Any

# What Keras calls the optimizer rules whose choices are known, and the choices that are always the same.
RULES: dict[str, tuple[str, dict[str, Any]]] = {
    "Adam": ("adam", {"epsilon_placement": "before"}),
    "AdamW": ("adam", {"epsilon_placement": "before"}),
    "Adamax": ("adamax", {"epsilon_placement": "outside"}),
    "Nadam": ("nadam", {"epsilon_placement": "after", "momentum_decay": 1.0}),
    "SGD": ("sgd", {"momentum_form": "inside", "dampening": 0.0}),
    "RMSprop": ("rmsprop", {"epsilon_placement": "inside", "momentum_form": "inside"}),
    "Adagrad": ("adagrad", {"epsilon_placement": "inside"}),
    "Adadelta": ("adadelta", {}),
    "Lion": ("lion", {}),
}
CHOICES = ("beta_1", "beta_2", "rho", "epsilon", "momentum", "nesterov", "centered", "amsgrad")


def rule_of(optimizer: Any) -> dict[str, Any] | None:
    """Say what an optimizer computes; None for one that is not known."""
    known = RULES.get(type(optimizer).__name__)
    if known is None:
        return None
    rule, fixed = known
    decay = float(optimizer.weight_decay or 0.0)
    choices = {"rule": rule, "coupled_decay": 0.0, "decoupled_decay": decay, **fixed}
    for name in CHOICES:
        if hasattr(optimizer, name):
            value = getattr(optimizer, name)
            choices[name] = value if isinstance(value, bool) else float(value)
    if hasattr(optimizer, "initial_accumulator_value"):
        choices["initial_accumulator"] = float(optimizer.initial_accumulator_value)
    return choices
