"""How a Keras model is trained: its losses, its optimizer with what that has gathered, what is added to the loss."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from compare.errors import InputError
from compare.port.keras_reader.reading import Reader

# Slots by the attributes in which Keras's optimizers keep them, for each trained variable one.
SLOTS = {
    "_momentums": "momentum",
    "momentums": "momentum",
    "_velocities": "velocity",
    "_velocity_hats": "velocity_hat",
    "_average_gradients": "average_gradient",
    "_accumulators": "accumulator",
    "_accumulated_grads": "accumulated_grad",
    "_accumulated_delta_vars": "accumulated_delta_var",
    "_m": "momentum",
    "_u": "norm",
    "_linears": "linear",
}


def read_training(model: Any, reader: Reader) -> dict[str, Any] | None:
    """What a compiled model trains with; None for one that is not compiled."""
    if not model.compiled or model.optimizer is None:
        return None
    names = {id(variable): name for name, variable in reader.variables.items()}
    return {
        "losses": _losses(model, reader),
        "metrics": [str(metric.name) for metric in model.metrics if metric.name != "loss"],
        "optimizer": _optimizer(model.optimizer, names),
        "penalties": _penalties(reader),
        "refused": _refused(model, reader),
        "jit": bool(getattr(model, "jit_compile", False)),
    }


def _losses(model: Any, reader: Reader) -> list[dict[str, Any]]:
    """The loss of each output that has one, in order: the output's number, the class, its configuration, the weight."""
    trace = reader.trace.outputs
    compiled = model._compile_loss
    if compiled is None:
        raise InputError("the model is compiled without a loss; without compile() the module alone is written")
    if not compiled.built:
        compiled.build(trace, trace)
    flat = keras.tree.flatten(trace)
    losses = []
    for path, loss, weight, _ in compiled._flat_losses:
        part = trace
        for key in path:
            part = part[key] if not isinstance(part, Mapping) or key in part else part[next(iter(part))]
        number = next(i for i, tensor in enumerate(flat) if tensor is part)
        losses.append({"output": number, "weight": None if weight is None else float(weight), **_loss(loss)})
    return losses


def _loss(loss: Any) -> dict[str, Any]:
    own = not type(loss).__module__.startswith("keras.src")
    function = getattr(loss, "fn", None)
    if function is not None and not getattr(function, "__module__", "").startswith("keras.src"):
        own = True
    name = getattr(function, "__name__", None) or type(loss).__name__
    config = {k: v for k, v in loss.get_config().items() if isinstance(v, bool | int | float | str | type(None))}
    config |= {k: v for k, v in getattr(loss, "_fn_kwargs", {}).items() if isinstance(v, bool | int | float | str)}
    return {"name": name, "own": own, "config": config, "reduction": loss.reduction}


def _optimizer(optimizer: Any, names: Mapping[int, str]) -> dict[str, Any]:
    config = optimizer.get_config()
    rate = config.get("learning_rate")
    slots: dict[str, dict[str, np.ndarray]] = {}
    if optimizer.built:
        for attribute, slot in SLOTS.items():
            held = getattr(optimizer, attribute, None)
            if isinstance(held, list) and held:
                pairs = zip(optimizer._trainable_variables, held, strict=True)
                slots[slot] = {names[id(v)]: np.array(keras.ops.convert_to_numpy(s)) for v, s in pairs if s is not None}
    product = getattr(optimizer, "_u_product", None)
    return {
        "class": type(optimizer).__name__,
        "own": not type(optimizer).__module__.startswith("keras.src"),
        "config": {k: v for k, v in config.items() if isinstance(v, bool | int | float | str | type(None))},
        "schedule": rate if isinstance(rate, Mapping) else None,
        "iterations": int(optimizer.iterations) if optimizer.built else 0,
        "u_product": float(keras.ops.convert_to_numpy(product)) if product is not None else None,
        "slots": slots,
    }


def _penalties(reader: Reader) -> dict[str, dict[str, float]]:
    """What is added to the loss for the size of a weight."""
    penalties: dict[str, dict[str, float]] = {}
    for name, variable in reader.variables.items():
        regularizer = getattr(variable, "regularizer", None)
        if regularizer is not None and variable.trainable:
            config = regularizer.get_config()
            penalties[name] = {k: float(config[k]) for k in ("l1", "l2") if config.get(k)}
            if type(regularizer).__name__ not in ("L1", "L2", "L1L2"):
                raise InputError(f"{name} has the regularizer {type(regularizer).__name__}; L1, L2 and L1L2 are known")
    return penalties


def _refused(model: Any, reader: Reader) -> list[str]:
    """What no training step of ours would do."""
    told = [
        f"{name} has the constraint {type(variable.constraint).__name__}"
        for name, variable in reader.variables.items()
        if getattr(variable, "constraint", None) is not None
    ]
    for layer in model._flatten_layers():
        if getattr(layer, "activity_regularizer", None) is not None:
            told.append(f"{layer.name} has an activity_regularizer")
    for name in ("train_step", "compute_loss"):
        if not getattr(type(model), name).__module__.startswith("keras.src"):
            told.append(f"the model has a {name}() of its own")
    config = model.optimizer.get_config()
    told += [
        f"the optimizer has {name}={config[name]!r}"
        for name in ("use_ema", "gradient_accumulation_steps")
        if config.get(name)
    ]
    return told
