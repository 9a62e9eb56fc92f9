"""What the Keras side of a pair file is said to be; torch_observer/description.py is its mirror."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from compare.explain.keras_observer import tf32
from compare.explain.keras_observer.observed import Observed
from compare.explain.keras_observer.parts import Part, settings
from compare.explain.keras_observer.session import Session
from compare.explain.keras_observer.update_rule import rule_of


def describe(session: Session, record: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Say what a model, its loss and its optimizer are, from the session and record of one step."""
    model, optimizer, observed = session.model, session.optimizer, session.observed
    return {
        "parts": [_part(observed.parts[key]) for key in observed.called],
        "unknown": _unknown(model, observed),
        "optimizer": type(optimizer).__name__,
        "rule": rule_of(optimizer),
        "clip": clipping_of(optimizer),
        "loss": loss_of(model),
        "dropout_calls": observed.dropout_calls,
        "masks": [name.removeprefix("mask/") for name in record if name.startswith("mask/")],
        "versions": {"keras": keras.__version__},
        "backend": keras.backend.backend(),
        "tf32": tf32.in_use(),
    }


def _part(part: Part) -> dict[str, Any]:
    return {
        "key": part.key,
        "kind": part.kind,
        "direction": part.direction,
        "group": getattr(part.wrapper, "name", part.key),
        "shapes": {name: list(variable.shape) for name, variable in part.tensors.items()},
        "variables": {name: f"{part.layer.name}/{variable.name}" for name, variable in part.tensors.items()},
        **settings(part),
    }


def _unknown(model: Any, observed: Observed) -> list[str]:
    known = {id(variable) for part in observed.parts.values() for variable in part.tensors.values()}
    return [variable.path for variable in model.trainable_variables if id(variable) not in known]


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
