"""The slots of an optimizer can be read and set under the same names on both sides, and gradients clipped apart."""

from typing import Any

import numpy as np
import pytest
from helpers.framework_processes import SIDES, FrameworkProcesses
from helpers.model_options import random_weights

from compare.config.training import TrainingConfig
from compare.reference.clipping import clip
from compare.reference.update_rules import initial_slots

OPTIONS = {
    name: {"name": name} for name in ("sgd", "rmsprop", "adam", "adamw", "adamax", "nadam", "adagrad", "adadelta")
}
OPTIONS |= {f"{name}-momentum": {"name": name, "momentum": 0.9} for name in ("sgd", "rmsprop")}
CLIPPING = {
    "none": {},
    "clipvalue": {"clipvalue": 0.5},
    "clipnorm": {"clipnorm": 1.5},
    "global_clipnorm": {"global_clipnorm": 2.0},
}
SHAPE = {"cell": "gru", "units": 3}
WEIGHTS = random_weights(SHAPE, seed=0)

# Clipping by norm: a sum of some twenty squares, a root, a quotient and a product, each within a unit of float32.
CLIPPING_TOLERANCE = 16 * 6e-8


def training(options: dict[str, Any]) -> TrainingConfig:
    """The training that asks for these options."""
    return TrainingConfig(**{("optimizer" if name == "name" else name): value for name, value in options.items()})


@pytest.mark.parametrize("rule", OPTIONS)
@pytest.mark.parametrize("side", SIDES)
def test_slots_start_as_in_the_reference_and_are_set(frameworks: FrameworkProcesses, side: str, rule: str) -> None:
    """Every side starts with the reference's slots, and slots of other values come back to the last bit."""
    generator, expected = np.random.default_rng(2), initial_slots(training(OPTIONS[rule]), WEIGHTS)
    others = {name: generator.uniform(0.1, 0.9, slot.shape).astype(np.float32) for name, slot in expected.items()}
    first, loaded = frameworks.call(side, "optimizer_probes.slots", SHAPE, OPTIONS[rule], others)
    assert first.keys() == loaded.keys() == expected.keys()
    for name, slot in expected.items():
        np.testing.assert_array_equal(first[name], slot.astype(np.float32), err_msg=name, strict=True)
        assert loaded[name].tobytes() == others[name].tobytes(), name


# What is changed between the two trainings, and by which rules it is noticed.
CHANGES = {
    "nothing": set(),
    "iterations": {"adamax", "nadam"},
    "first slot": {"sgd-momentum", "adamax", "nadam", "adadelta"},
    "u_product": {"nadam"},
}


@pytest.mark.parametrize("rule", sorted(CHANGES["first slot"]))
@pytest.mark.parametrize("side", ["torch", "keras-tensorflow"])
def test_a_training_goes_on_from_loaded_slots(frameworks: FrameworkProcesses, side: str, rule: str) -> None:
    """From slots and a number of steps the next step is that of the training they come from; from others it is not."""
    gradients = [random_weights(SHAPE, seed) for seed in range(4)]
    through = frameworks.call(side, "optimizer_probes.apply_steps", SHAPE, WEIGHTS, OPTIONS[rule], gradients)
    (_, _, (half_weights, slots), (expected, expected_slots)) = through
    for change, noticed in CHANGES.items():
        changed = {"first slot": next(iter(slots)), "u_product": "u_product"}.get(change)
        start = {name: slot * np.float32(0.5 if name == changed else 1) for name, slot in slots.items()}
        given = (SHAPE, half_weights, OPTIONS[rule], gradients[3:], start, 4 if change == "iterations" else 3)
        ((obtained, obtained_slots),) = frameworks.call(side, "optimizer_probes.apply_steps", *given)
        same = all(obtained[name].tobytes() == tensor.tobytes() for name, tensor in expected.items())
        same_slots = all(obtained_slots[name].tobytes() == slot.tobytes() for name, slot in expected_slots.items())
        assert (same and same_slots) == (rule not in noticed), change


@pytest.mark.parametrize("side", ["torch", "keras-tensorflow"])
def test_slots_that_do_not_fit_are_named(frameworks: FrameworkProcesses, side: str) -> None:
    """A slot that is missing, left over or of another shape is named, on both sides in the same words."""
    slots = initial_slots(training(OPTIONS["adam"]), WEIGHTS)
    del slots["momentum/head/kernel"]
    slots |= {"momentum/head/kernels": np.zeros(3), "velocity/head/bias": np.zeros(2)}
    message = (
        r"momentum/head/kernel is missing; momentum/head/kernels is not in the optimizer; "
        r"velocity/head/bias has shape \(2,\), expected \(1,\)"
    )
    with pytest.raises(ValueError, match=message):
        frameworks.call(side, "optimizer_probes.slots", SHAPE, OPTIONS["adam"], slots)


def clipping_error(obtained: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> float:
    """The largest error relative to the largest gradient."""
    assert obtained.keys() == expected.keys()
    largest = max(np.abs(tensor).max() for tensor in expected.values())
    return float(max(np.abs(obtained[name] - tensor).max() for name, tensor in expected.items()) / largest)


@pytest.mark.parametrize("clipping", CLIPPING)
@pytest.mark.parametrize("side", SIDES)
def test_gradients_are_clipped_as_in_the_reference(frameworks: FrameworkProcesses, side: str, clipping: str) -> None:
    """`clip_gradients` is the reference's clipping, and what no other way of clipping gives; none changes no bit."""
    gradients = {name: 2 * gradient for name, gradient in random_weights(SHAPE, seed=5).items()}
    obtained = frameworks.call(
        side, "optimizer_probes.clipped", SHAPE, {"name": "adam", **CLIPPING[clipping]}, gradients
    )
    expected = {name: clip(TrainingConfig(**options), gradients) for name, options in CLIPPING.items()}
    assert clipping_error(obtained, expected[clipping]) <= (0 if clipping == "none" else CLIPPING_TOLERANCE)
    others = [name for name in CLIPPING if name != clipping]
    assert min(clipping_error(obtained, expected[name]) for name in others) > 1000 * CLIPPING_TOLERANCE
