"""What the PyTorch side of a pair file is said to be; keras_observer/description.py is its mirror."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from compare.explain.torch_observer import tf32
from compare.explain.torch_observer.observed import Observed
from compare.explain.torch_observer.parts import Part, settings
from compare.explain.torch_observer.session import Session
from compare.explain.torch_observer.update_rule import rule_of

# What a loss may be set to that Keras's loss is not.
LOSS_SETTINGS = ("reduction", "delta", "beta", "label_smoothing", "ignore_index")


def describe(session: Session, record: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Say what a module, its loss and its optimizer are, from the session and record of one step."""
    module, optimizer, observed = session.module, session.optimizer, session.observed
    names = {id(p): name for name, p in module.named_parameters()}
    groups = [(group, p) for group in optimizer.param_groups for p in group["params"]]
    held = {id(p) for _, p in groups}
    known = {
        id(part.tensor(each)) for part in observed.parts.values() for tensor in part.tensors.values() for each in tensor
    }
    return {
        "parts": [_part(observed.parts[key]) for key in observed.called],
        "unused": [_part(part) for key, part in observed.parts.items() if key not in observed.called],
        "unknown": [name for number, name in names.items() if number not in known],
        "frozen": [name for name, p in module.named_parameters() if not p.requires_grad],
        "not_held": [name for number, name in names.items() if number not in held],
        "two_biases": _second_biases(observed),
        "optimizer": type(optimizer).__name__,
        "rule": rule_of(optimizer),
        "decays": {names[id(p)]: float(group.get("weight_decay", 0.0)) for group, p in groups if id(p) in names},
        "own_step": bool(session.options.get("torch_step")),
        "clip_calls": observed.clip_calls,
        "loss": loss_of(session.user_loss),
        "dropout_calls": observed.dropout_calls,
        "packed": sorted(observed.packed),
        "nonzero_states": sorted(observed.nonzero_states),
        "autocast": observed.autocast,
        "tf32": tf32.in_use(*{p.device.type for p in module.parameters()}),
        "reordered": "order" in record,
        "own_parameters": [k for k, v in (session.options.get("parameter_map") or {}).items() if callable(v)],
        "prediction_shape": list(record["prediction"].shape) if "prediction" in record else None,
        "target_shape": list(record["loss_target"].shape) if "loss_target" in record else None,
        "versions": {"torch": torch.__version__},
    }


def _part(part: Part) -> dict[str, Any]:
    return {
        "key": part.key,
        "path": part.path,
        "kind": part.kind,
        "layer": part.layer,
        "direction": part.direction,
        "shapes": {name: list(part.shape(name)) for name in part.tensors},
        "parameters": {
            name: [part.parameter_name(attribute) for attribute in attributes]
            for name, attributes in part.tensors.items()
        },
        **settings(part),
    }


def _second_biases(observed: Observed) -> list[str]:
    """The biases that a Keras layer does not have, where both are trained."""
    return [
        part.parameter_name(attributes[1])
        for part in observed.parts.values()
        if len(attributes := part.tensors.get("bias", [])) == 2
        and all(part.tensor(attribute).requires_grad for attribute in attributes)
    ]


def loss_of(loss: Any) -> dict[str, Any]:
    """Say which loss a user's is, and how it is set."""
    if not isinstance(loss, nn.Module):
        return {"name": getattr(loss, "__name__", type(loss).__name__), "weights": []}
    weights = [name for name in ("weight", "pos_weight") if getattr(loss, name, None) is not None]
    return {
        "name": type(loss).__name__,
        "weights": weights,
        **{name: getattr(loss, name) for name in LOSS_SETTINGS if hasattr(loss, name)},
    }
