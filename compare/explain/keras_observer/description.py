"""What the Keras side of a pair file is: its layers' settings, its optimizer and its loss."""

from typing import Any

import keras

from compare.explain.keras_observer import tf32
from compare.explain.keras_observer.model import Model
from compare.explain.keras_observer.update_rule import rule_of

# What is set in a layer, or in its cell, that a program may have otherwise.
SETTINGS = (
    "activation",
    "recurrent_activation",
    "epsilon",
    "momentum",
    "reset_after",
    "dropout",
    "recurrent_dropout",
)


def description(model: Model) -> dict[str, Any]:
    """What the model, its loss and its optimizer are."""
    penalties = {path: _regularizer(variable) for path, variable in model.variables.items()}
    return {
        "backend": keras.backend.backend(),
        "version": keras.__version__,
        "variables": {path: list(variable.shape) for path, variable in model.variables.items()},
        "penalties": {path: penalty for path, penalty in penalties.items() if penalty},
        "layers": [_layer(model, layer) for layer in model.layers()],
        "optimizer": type(model.optimizer).__name__,
        "rule": rule_of(model.optimizer),
        "clip": clipping_of(model.optimizer),
        "accumulate": int(getattr(model.optimizer, "gradient_accumulation_steps", None) or 1),
        "loss": loss_of(model.model),
        "tf32": tf32.in_use(),
        "masked": any(
            type(layer).__name__ == "Masking" or getattr(layer, "mask_zero", False) for layer in model.layers()
        ),
    }


def _layer(model: Model, layer: Any) -> dict[str, Any]:
    owned = [*layer._trainable_variables, *layer._non_trainable_variables]
    settings: dict[str, Any] = {
        "class": type(layer).__name__,
        "variables": [model.paths[id(variable)] for variable in owned if id(variable) in model.paths],
    }
    for owner in (layer, getattr(layer, "cell", None)):
        for name in SETTINGS:
            value = getattr(owner, name, None)
            if value is not None:
                plain = isinstance(value, int | float | bool | str)
                settings[name] = value if plain else getattr(value, "__name__", str(value))
    return settings


def _regularizer(variable: Any) -> dict[str, float]:
    regularizer = getattr(variable, "regularizer", None)
    if regularizer is None:
        return {}
    config = regularizer.get_config()
    return {name: float(config[name]) for name in ("l1", "l2") if name in config}


def clipping_of(optimizer: Any) -> dict[str, Any]:
    """Say how an optimizer clips gradients."""
    for attribute, kind in (("global_clipnorm", "global_norm"), ("clipnorm", "norm"), ("clipvalue", "value")):
        limit = getattr(optimizer, attribute, None)
        if limit is not None:
            return {"kind": kind, "limit": float(limit)}
    return {"kind": "none", "limit": None}


def loss_of(model: Any) -> dict[str, Any]:
    """Say which loss a model was compiled with; its name is None where it is the user's own function."""
    loss = keras.losses.get(model.loss) if isinstance(model.loss, str) else model.loss
    if isinstance(loss, keras.losses.Loss):
        config = loss.get_config()
        function = getattr(loss, "fn", None)
        name = getattr(function, "__name__", None)
        arguments = {key: config[key] for key in ("from_logits", "delta") if key in config}
        arguments |= {k: v for k, v in getattr(loss, "_fn_kwargs", {}).items() if k in ("from_logits", "delta")}
        return {"name": name, "arguments": arguments, "class": type(loss).__name__, "reduction": loss.reduction}
    name = getattr(loss, "__name__", None)
    own = loss is not None and getattr(loss, "__module__", "").startswith("keras")
    return {"name": name if own else None, "arguments": {}, "class": name, "reduction": "sum_over_batch_size"}
