"""The slots of an optimizer can be read and set under the same names on both sides, and gradients clipped apart."""

from typing import Any

import numpy as np
import pytest
from helpers.framework_processes import SIDES, FrameworkProcesses

from compare.config.case import make_case
from compare.config.training import TrainingConfig
from compare.experiment.initial_weights import draw_initial_weights
from compare.reference.clipping import clip
from compare.reference.update_rules import initial_slots

OPTIONS = {
    "sgd": {"name": "sgd"},
    "sgd-momentum": {"name": "sgd", "momentum": 0.9},
    "rmsprop": {"name": "rmsprop"},
    "rmsprop-momentum": {"name": "rmsprop", "momentum": 0.9},
    "adam": {"name": "adam"},
    "adamw": {"name": "adamw"},
    "adamax": {"name": "adamax"},
    "nadam": {"name": "nadam"},
    "adagrad": {"name": "adagrad"},
    "adadelta": {"name": "adadelta"},
}
CLIPPING = {
    "none": {},
    "clipvalue": {"clipvalue": 0.5},
    "clipnorm": {"clipnorm": 1.5},
    "global_clipnorm": {"global_clipnorm": 2.0},
    "global_clipnorm-not-reached": {"global_clipnorm": 100.0},
}
SHAPE = {"cell": "gru", "units": 3}

# Clipping by norm: a sum of some twenty squares, a root, a quotient and a product, each within a unit of float32.
CLIPPING_TOLERANCE = 16 * 6e-8


def weights(cell: str = "gru") -> dict[str, np.ndarray]:
    """Initial weights of the tiny model."""
    return draw_initial_weights(make_case({"name": "tiny", "model": {"cell": cell, "units": 3}}, "tiny"), 1, 1)


def random_tensors(seed: int) -> dict[str, np.ndarray]:
    """Random canonical tensors of the tiny model's shapes."""
    generator = np.random.default_rng(seed)
    return {name: generator.normal(size=w.shape).astype(np.float32) for name, w in weights().items()}


def training(options: dict[str, Any]) -> TrainingConfig:
    """The training that asks for these options."""
    return TrainingConfig(**{("optimizer" if name == "name" else name): value for name, value in options.items()})


@pytest.mark.parametrize("rule", OPTIONS)
@pytest.mark.parametrize("side", SIDES)
def test_slots_start_as_in_the_reference(frameworks: FrameworkProcesses, side: str, rule: str) -> None:
    """Before the first step every side has the reference's slots: the same names, shapes and values."""
    obtained = frameworks.call(side, "optimizer_probes.initial_slots", SHAPE, OPTIONS[rule])
    expected = initial_slots(training(OPTIONS[rule]), weights())
    assert obtained.keys() == expected.keys()
    for name, slot in expected.items():
        assert obtained[name].dtype == np.float32
        np.testing.assert_array_equal(obtained[name], slot, err_msg=name, strict=False)
        assert obtained[name].shape == slot.shape, name


@pytest.mark.parametrize("rule", OPTIONS)
@pytest.mark.parametrize("side", SIDES)
def test_loaded_slots_are_read_again(frameworks: FrameworkProcesses, side: str, rule: str) -> None:
    """Slots of other values come back to the last bit, each gate in its place."""
    generator = np.random.default_rng(2)
    expected = {
        name: np.asarray(generator.uniform(0.1, 0.9, size=slot.shape), dtype=np.float32)
        for name, slot in initial_slots(training(OPTIONS[rule]), weights()).items()
    }
    obtained = frameworks.call(side, "optimizer_probes.load_slots", SHAPE, OPTIONS[rule], expected)
    assert obtained.keys() == expected.keys()
    for name, slot in expected.items():
        assert obtained[name].tobytes() == slot.tobytes(), name


# What is changed between the two trainings, and by which rules it is noticed.
CHANGES = {
    "nothing": set(),
    "iterations": {"adam", "adamw", "adamax", "nadam"},
    "first slot": set(OPTIONS) - {"sgd"},
    "u_product": {"nadam"},
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("rule", OPTIONS)
@pytest.mark.parametrize("side", ["torch", "keras-tensorflow"])
def test_a_training_goes_on_from_loaded_slots(
    frameworks: FrameworkProcesses, side: str, rule: str, change: str
) -> None:
    """From slots and a number of steps the next step is that of the training they come from; from others it is not."""
    gradients = [random_tensors(seed) for seed in range(4)]
    through = frameworks.call(side, "optimizer_probes.apply_steps", SHAPE, weights(), OPTIONS[rule], gradients)
    (_, _, (half_weights, slots), (expected, expected_slots)) = through
    iterations = 4 if change == "iterations" else 3
    first = next(iter(slots), "")
    changed = {"first slot": {first}, "u_product": {"u_product"}}.get(change, set())
    slots = {name: slot * np.float32(0.5 if name in changed else 1) for name, slot in slots.items()}
    given = (SHAPE, half_weights, OPTIONS[rule], gradients[3:], slots, iterations)
    ((obtained, obtained_slots),) = frameworks.call(side, "optimizer_probes.apply_steps", *given)
    same = all(obtained[name].tobytes() == tensor.tobytes() for name, tensor in expected.items())
    same_slots = all(obtained_slots[name].tobytes() == slot.tobytes() for name, slot in expected_slots.items())
    assert (same and same_slots) == (rule not in CHANGES[change])


@pytest.mark.parametrize(
    ("missing", "left_over", "message"),
    [
        ("velocity/head/bias", None, "velocity/head/bias is missing"),
        (None, "norm/head/bias", "norm/head/bias is not in the optimizer"),
        (
            "momentum/head/kernel",
            "momentum/head/kernels",
            "head/kernel is missing; momentum/head/kernels is not in the",
        ),
    ],
    ids=["missing", "left-over", "misspelt"],
)
@pytest.mark.parametrize("side", ["torch", "keras-tensorflow"])
def test_slots_that_do_not_fit_are_named(
    frameworks: FrameworkProcesses, side: str, missing: str | None, left_over: str | None, message: str
) -> None:
    """A slot that is missing or left over is an error that names it, on both sides in the same words."""
    slots = initial_slots(training(OPTIONS["adam"]), weights())
    given = {name: slot for name, slot in slots.items() if name != missing}
    if left_over is not None:
        given[left_over] = np.zeros(3)
    with pytest.raises(ValueError, match=message):
        frameworks.call(side, "optimizer_probes.load_slots", SHAPE, OPTIONS["adam"], given)


@pytest.mark.parametrize("side", ["torch", "keras-tensorflow"])
def test_a_slot_of_another_shape_is_named(frameworks: FrameworkProcesses, side: str) -> None:
    """A slot of another shape is an error that names both shapes."""
    slots = initial_slots(training(OPTIONS["adagrad"]), weights()) | {"accumulator/head/bias": np.zeros(2)}
    with pytest.raises(ValueError, match=r"accumulator/head/bias has shape \(2,\), expected \(1,\)"):
        frameworks.call(side, "optimizer_probes.load_slots", SHAPE, OPTIONS["adagrad"], slots)


def clipping_error(obtained: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> float:
    """The largest error relative to the largest gradient."""
    assert obtained.keys() == expected.keys()
    largest = max(np.abs(tensor).max() for tensor in expected.values())
    return float(max(np.abs(obtained[name] - tensor).max() for name, tensor in expected.items()) / largest)


@pytest.mark.parametrize("clipping", CLIPPING)
@pytest.mark.parametrize("side", SIDES)
def test_gradients_are_clipped_as_in_the_reference(frameworks: FrameworkProcesses, side: str, clipping: str) -> None:
    """`clip_gradients` is the reference's clipping, and what no other way of clipping gives."""
    gradients = random_tensors(5)
    obtained = frameworks.call(
        side, "optimizer_probes.clipped", SHAPE, {"name": "adam", **CLIPPING[clipping]}, gradients
    )
    expected = {name: clip(TrainingConfig(**options), gradients) for name, options in CLIPPING.items()}
    assert clipping_error(obtained, expected[clipping]) <= CLIPPING_TOLERANCE
    if not clipping.endswith("not-reached") and clipping != "none":
        others = [name for name in CLIPPING if name != clipping]
        assert min(clipping_error(obtained, expected[name]) for name in others) > 1000 * CLIPPING_TOLERANCE


@pytest.mark.parametrize("side", SIDES)
def test_no_clipping_changes_no_bit(frameworks: FrameworkProcesses, side: str) -> None:
    """Where no clipping is asked for the gradients come back as they are."""
    gradients = random_tensors(6)
    obtained = frameworks.call(side, "optimizer_probes.clipped", SHAPE, {"name": "nadam"}, gradients)
    assert all(obtained[name].tobytes() == gradient.tobytes() for name, gradient in gradients.items())
