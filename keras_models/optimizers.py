"""Optimizers for the Keras side by name, and their slots; `torch_models/optimizers.py` is the mirror."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_models.schedules import build_schedule
from keras_models.weights import Layout, Model, check_names_and_shapes, layouts

OPTIMIZERS: dict[str, type[keras.optimizers.Optimizer]] = {
    "sgd": keras.optimizers.SGD,
    "rmsprop": keras.optimizers.RMSprop,
    "adam": keras.optimizers.Adam,
    "adamw": keras.optimizers.AdamW,
    "adamax": keras.optimizers.Adamax,
    "nadam": keras.optimizers.Nadam,
    "adagrad": keras.optimizers.Adagrad,
    "adadelta": keras.optimizers.Adadelta,
}

# Which optimizers know what momentum and its Nesterov form are.
TAKE_MOMENTUM = ("sgd", "rmsprop")
TAKE_NESTEROV = ("sgd",)

# What Keras calls the slots of a variable, in the names of its variables.
SLOTS = ("momentum", "velocity", "norm", "accumulator", "accumulated_grad", "accumulated_delta_var")


def build_optimizer(
    variables: Sequence[keras.Variable],
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
) -> keras.optimizers.Optimizer:
    """Build an optimizer by name for trained variables, with Keras's own defaults for what is not asked for.

    Raises ValueError for an unknown name and for an option that the optimizer does not take.
    """
    if name not in OPTIMIZERS:
        raise ValueError(f"optimizer={name!r} is unknown; accepted: {', '.join(OPTIMIZERS)}")
    if momentum and name not in TAKE_MOMENTUM:
        raise ValueError(f"momentum={momentum} is not an option of {name}, only of {', '.join(TAKE_MOMENTUM)}")
    if nesterov and name not in TAKE_NESTEROV:
        raise ValueError(f"nesterov is not an option of {name}, only of {', '.join(TAKE_NESTEROV)}")
    rule: dict[str, Any] = {"momentum": float(momentum)} if name in TAKE_MOMENTUM else {}
    rule |= {"nesterov": nesterov} if name in TAKE_NESTEROV else {}
    rule |= {} if weight_decay is None else {"weight_decay": weight_decay}
    optimizer = OPTIMIZERS[name](
        learning_rate=build_schedule(schedule, learning_rate, decay_steps, decay_rate, boundaries, values),
        clipvalue=clipvalue,
        clipnorm=clipnorm,
        global_clipnorm=global_clipnorm,
        **rule,
    )
    optimizer.build(variables)
    return optimizer


def iterations(optimizer: keras.optimizers.Optimizer) -> int:
    """Return how many steps were done."""
    return int(keras.ops.convert_to_numpy(optimizer.iterations))


def learning_rate(optimizer: keras.optimizers.Optimizer) -> float:
    """Return the learning rate of the next step."""
    return float(keras.ops.convert_to_numpy(keras.ops.convert_to_tensor(optimizer.learning_rate)))


def set_learning_rate(optimizer: keras.optimizers.Optimizer, learning_rate: float) -> None:
    """Go on with another constant learning rate, without anything being compiled anew."""
    optimizer.learning_rate = learning_rate


def read_slots(model: Model, optimizer: keras.optimizers.Optimizer) -> dict[str, np.ndarray]:
    """Read the optimizer's slots as "<slot>/<canonical tensor>", Nadam's one number as "u_product".

    Before the first step they are what the optimizer starts with.
    """
    slots = {}
    for layout, variables in _slot_variables(model, optimizer):
        for slot, variable in variables.items():
            value = keras.ops.convert_to_numpy(variable)
            slots |= {f"{slot}/{name}": part for name, part in layout.split(value).items()}
    if isinstance(optimizer, keras.optimizers.Nadam):
        slots["u_product"] = np.array(keras.ops.convert_to_numpy(optimizer._u_product))
    return slots


def load_slots(
    model: Model, optimizer: keras.optimizers.Optimizer, slots: Mapping[str, np.ndarray], iterations: int
) -> None:
    """Load slots as `read_slots` returns them, all of them and nothing else; `iterations` steps are then done.

    Raises ValueError naming every slot that is missing, left over or of another shape.
    """
    check_names_and_shapes("slots", "the optimizer", read_slots(model, optimizer), slots)
    for layout, variables in _slot_variables(model, optimizer):
        for slot, variable in variables.items():
            variable.assign(layout.join({name: slots[f"{slot}/{name}"] for name in layout.names}))
    if isinstance(optimizer, keras.optimizers.Nadam):
        optimizer._u_product.assign(slots["u_product"])
    optimizer.iterations.assign(iterations)


def clip_gradients(optimizer: keras.optimizers.Optimizer, gradients: list[Any]) -> list[Any]:
    """Return what the optimizer makes of gradients before it uses them, one for each trained variable."""
    return list(optimizer._clip_gradients(gradients))


def _slot_variables(
    model: Model, optimizer: keras.optimizers.Optimizer
) -> list[tuple[Layout, dict[str, keras.Variable]]]:
    """List the variables that hold the slots of each of the model's variables, by the slots' names."""
    if not optimizer.built:
        optimizer.build(model.trainable_variables)
    by_name = {variable.name: variable for variable in optimizer.variables}
    variables = []
    for layout in layouts(model):
        # `add_variable_from_reference` in keras/src/optimizers/base_optimizer.py gives them these names.
        prefix = layout.variable.path.replace("/", "_")
        variables.append(
            (layout, {slot: by_name[f"{prefix}_{slot}"] for slot in SLOTS if f"{prefix}_{slot}" in by_name})
        )
    return variables
