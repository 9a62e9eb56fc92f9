"""The reference's update rules, clipping and schedules, against both sides and against their papers' properties."""

from typing import Any

import numpy as np
import pytest
from helpers.framework_processes import FrameworkProcesses

from compare.config.case import make_case
from compare.config.training import TrainingConfig
from compare.experiment.initial_weights import draw_initial_weights
from compare.reference import update_rules
from compare.reference.clipping import clip, keras_variable
from compare.reference.rounding import deviations, plain, working
from compare.reference.update_rules import apply_update, initial_slots, learning_rate_at

UNITS = 4
STEPS = 8

# In float64 the three differ by some hundred operations' rounding in eight steps. A weight loses no digits against an
# update of like size; Nadam's 1 - u_1 u_2 loses one.
ALLOWED = 1e-13

RULES = {
    "sgd": {"optimizer": "sgd", "learning_rate": 0.05},
    "sgd-momentum": {"optimizer": "sgd", "learning_rate": 0.02, "momentum": 0.9, "clipnorm": 0.8},
    "sgd-nesterov": {"optimizer": "sgd", "learning_rate": 0.02, "momentum": 0.9, "nesterov": True, "clipvalue": 0.7},
    "rmsprop": {"optimizer": "rmsprop", "learning_rate": 0.01},
    "rmsprop-momentum": {"optimizer": "rmsprop", "learning_rate": 0.01, "momentum": 0.9, "weight_decay": 0.01},
    "adam": {"optimizer": "adam", "learning_rate": 0.01, "global_clipnorm": 1.0},
    "adamw": {"optimizer": "adamw", "learning_rate": 0.01},
    "adamax": {"optimizer": "adamax", "learning_rate": 0.01},
    "nadam": {"optimizer": "nadam", "learning_rate": 0.01, "weight_decay": 0.02},
    "adagrad": {"optimizer": "adagrad", "learning_rate": 0.05},
    "adadelta": {"optimizer": "adadelta", "learning_rate": 1.0},
}

# Keras computes schedules in float32, the reference exactly: these are compared between the sides alone.
SCHEDULED = {
    "exponential": {
        "optimizer": "sgd", "momentum": 0.9, "nesterov": True,
        "schedule": "exponential", "decay_steps": 7, "decay_rate": 0.9,
    },
    "cosine": {"optimizer": "adamw", "schedule": "cosine", "decay_steps": 45},
    "piecewise": {
        "optimizer": "adamax", "weight_decay": 0.01,
        "schedule": "piecewise", "boundaries": (2, 5), "values": (1e-2, 3e-3, 1e-3),
    },
}  # fmt: skip

# A fault on the PyTorch side, and the rule in which it must show.
FAULTS = [
    *(("exact-constants", rule) for rule in ("sgd-momentum", "adam", "adamw", "adamax", "nadam", "adagrad")),
    *(("exact-schedule", rule) for rule in SCHEDULED),
    ("schedule-one-step-late", "exponential"),
    ("no-weight-decay", "rmsprop-momentum"),
    ("biases-clipped-apart", "sgd-momentum"),
    ("no-clipping", "adam"),
    ("other-epsilon", "rmsprop"),
    ("plain-momentum", "sgd-nesterov"),
    ("uncounted", "nadam"),
]

# A constant of the reference that is another one, and a rule that must then part from both sides.
WRONG_CONSTANTS = [
    ("EPSILON", 1e-8, "rmsprop"),
    ("EPSILON", 1e-8, "adam"),
    ("BETA_1", 0.91, "adamw"),
    ("BETA_2", 0.99, "adamax"),
    ("RMSPROP_RHO", 0.99, "rmsprop-momentum"),
    ("ADADELTA_RHO", 0.9, "adadelta"),
    ("NADAM_DECAY", 0.96**0.004, "nadam"),
    ("ADAMW_WEIGHT_DECAY", 0.01, "adamw"),
    ("INITIAL_ACCUMULATOR", 0.1, "adagrad"),
]

SCHEDULES = {
    "exponential": {"schedule": "exponential", "decay_steps": 40, "decay_rate": 0.7},
    "cosine": {"schedule": "cosine", "decay_steps": 90},
    "piecewise": {"schedule": "piecewise", "boundaries": (3, 60), "values": (0.01, 0.003, 0.0001)},
}

# Schedules are computed in float32: four operations, of which cos errs by units of 1, not of the small 1 + cos.
SCHEDULE_ALLOWED = 8 * 6e-8

Tensors = dict[str, np.ndarray]


def training(rule: str) -> TrainingConfig:
    """The training of a rule."""
    return TrainingConfig(**RULES[rule])


def keywords(given: dict[str, Any]) -> dict[str, Any]:
    """The same as keywords of `build_optimizer`."""
    return {("name" if name == "optimizer" else name): value for name, value in given.items()}


def start(cell: str = "gru") -> tuple[Tensors, list[Tensors]]:
    """Weights and gradients in float64, some gradients as small as epsilon."""
    case = make_case({"name": "tiny", "dtype": "float64", "model": {"cell": cell, "units": UNITS}}, "tiny")
    weights = draw_initial_weights(case, 1, 1)
    generator = np.random.default_rng(8)
    return weights, [
        {
            name: generator.normal(size=w.shape) * 10.0 ** generator.integers(-6, 1, w.shape)
            for name, w in weights.items()
        }
        for _ in range(STEPS)
    ]


def reference_steps(
    config: TrainingConfig, weights: Tensors, gradients: list[Tensors]
) -> list[tuple[Tensors, Tensors]]:
    """The reference's weights and slots after each step."""
    slots, steps = initial_slots(config, weights), []
    for iterations, gradient in enumerate(gradients):
        weights, slots = apply_update(config, weights, clip(config, gradient), slots, iterations)
        steps.append((weights, slots))
    return steps


def largest_error(expected: list[tuple[Tensors, Tensors]], obtained: list[tuple[Tensors, Tensors]]) -> float:
    """The largest error of a weight or slot at any step, relative to the largest number of its tensor."""
    errors = []
    for expected_step, obtained_step in zip(expected, obtained, strict=True):
        for expected, obtained in zip(expected_step, obtained_step, strict=True):
            assert expected.keys() == obtained.keys()
            errors += [np.abs(obtained[name] - value).max() / np.abs(value).max() for name, value in expected.items()]
    return float(max(errors))


def steps_of(frameworks: FrameworkProcesses, side: str, rule: str, fault: str | None = None) -> Any:
    """What a side does with the gradients."""
    shape = {"cell": "gru", "units": UNITS, "dtype": "float64"}
    weights, gradients = start()
    given = (shape, weights, keywords((RULES | SCHEDULED)[rule]), gradients)
    return frameworks.call(side, "optimizer_probes.apply_steps", *given, fault=fault)


@pytest.fixture(scope="module")
def sides(frameworks: FrameworkProcesses) -> dict[str, dict[str, Any]]:
    """What both sides do with the gradients, for each rule."""
    return {
        side: {rule: steps_of(frameworks, side, rule) for rule in RULES | SCHEDULED}
        for side in ("torch", "keras-tensorflow")
    }


@pytest.mark.parametrize("side", ["torch", "keras-tensorflow"])
@pytest.mark.parametrize("rule", RULES)
def test_both_sides_compute_the_equations(sides: dict[str, dict[str, Any]], side: str, rule: str) -> None:
    """In float64 every weight and slot of eight steps, clipped and decayed, is the reference's."""
    assert largest_error(reference_steps(training(rule), *start()), sides[side][rule]) <= ALLOWED


@pytest.mark.parametrize("rule", SCHEDULED)
def test_both_sides_compute_the_same(sides: dict[str, dict[str, Any]], rule: str) -> None:
    """Where the learning rate is scheduled in float32, both sides' weights and slots in float64 are one too."""
    assert largest_error(sides["keras-tensorflow"][rule], sides["torch"][rule]) <= ALLOWED


@pytest.mark.parametrize(("fault", "rule"), FAULTS, ids=[f"{fault}-in-{rule}" for fault, rule in FAULTS])
def test_a_fault_of_the_pytorch_side_is_caught(
    frameworks: FrameworkProcesses, sides: dict[str, dict[str, Any]], fault: str, rule: str
) -> None:
    """A constant, schedule, decay or clipping that is not Keras's is far beyond what is allowed."""
    obtained = steps_of(frameworks, "torch", rule, fault)
    assert largest_error(sides["keras-tensorflow"][rule], obtained) > 10 * ALLOWED


@pytest.mark.parametrize("side", ["torch", "keras-tensorflow"])
@pytest.mark.parametrize(("name", "value", "rule"), WRONG_CONSTANTS, ids=[f"{c[0]}-{c[2]}" for c in WRONG_CONSTANTS])
def test_a_wrong_constant_is_caught(
    sides: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch, side: str, name: str, value: float, rule: str
) -> None:
    """With another constant in the reference both sides are beyond what is allowed."""
    monkeypatch.setattr(update_rules, name, value)
    monkeypatch.setitem(update_rules.SLOTS, "adagrad", {"accumulator": update_rules.INITIAL_ACCUMULATOR})
    assert largest_error(reference_steps(training(rule), *start()), sides[side][rule]) > 10 * ALLOWED


@pytest.mark.parametrize("wrong", ["clipnorm", "clipvalue", "weight_decay", "momentum", "nesterov"])
def test_a_forgotten_option_is_caught(sides: dict[str, dict[str, Any]], wrong: str) -> None:
    """Without the clipping, decay or momentum that the sides have, the reference is not theirs."""
    rule = {
        "clipnorm": "sgd-momentum",
        "clipvalue": "sgd-nesterov",
        "weight_decay": "nadam",
        "momentum": "sgd-momentum",
        "nesterov": "sgd-nesterov",
    }[wrong]
    other = TrainingConfig(**{name: value for name, value in RULES[rule].items() if name != wrong})
    weights, gradients = start()
    slots = initial_slots(training(rule), weights)
    for iterations, gradient in enumerate(gradients):
        weights, changed = apply_update(other, weights, clip(other, gradient), slots, iterations)
        slots |= changed
    assert largest_error([(weights, {})], [(sides["torch"][rule][-1][0], {})]) > 1e-4


@pytest.mark.parametrize("side", ["torch", "keras-tensorflow", "keras-torch", "keras-jax"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_scheduled_learning_rates(frameworks: FrameworkProcesses, side: str, schedule: str) -> None:
    """At the start, around every boundary and after the end, each side has the reference's learning rate."""
    options = {"learning_rate": 0.01, **SCHEDULES[schedule]}
    iterations = [0, 1, 2, 3, 4, 39, 40, 41, 59, 60, 61, 89, 90, 91, 1000]
    obtained = frameworks.call(side, "optimizer_probes.learning_rates", {"name": "adam", **options}, iterations)
    config = TrainingConfig(**options)
    errors = [abs(rate - learning_rate_at(config, i)) / 0.01 for i, rate in zip(iterations, obtained, strict=True)]
    assert max(errors) <= SCHEDULE_ALLOWED
    late = [
        abs(rate - learning_rate_at(config, max(0, i - 1))) / 0.01 for i, rate in zip(iterations, obtained, strict=True)
    ]
    assert max(late) > 1000 * SCHEDULE_ALLOWED


@pytest.mark.parametrize("iterations", [0, 10, 1000])
def test_a_constant_learning_rate_is_what_was_given(iterations: int) -> None:
    """Without a schedule the learning rate is the training's at every step."""
    assert learning_rate_at(TrainingConfig(learning_rate=0.02), iterations) == 0.02


def test_the_first_adam_update_is_the_learning_rate() -> None:
    """Adam's first update is lr * sign(g) where g is far above epsilon, whatever its size (Kingma and Ba 2014)."""
    weights = {"w": np.zeros(3)}
    gradients = {"w": np.array([5.0, -3.0, 200.0])}
    config = TrainingConfig(learning_rate=0.01)
    new, _ = apply_update(config, weights, gradients, initial_slots(config, weights), 0)
    # Epsilon is divided by sqrt(1 - beta_2) = 0.03: 3e-6 of a gradient of 1; the cast betas are off by 6.5e-6 together.
    np.testing.assert_allclose(new["w"], [-0.01, 0.01, -0.01], rtol=1e-5)


def test_what_belongs_to_one_keras_variable() -> None:
    """All gates of a kernel are one variable, and so are both biases of a GRU; other tensors are one each."""
    variables = {
        "layer0/forward/kernel/update": "layer0/forward/kernel",
        "layer1/backward/recurrent_kernel/candidate": "layer1/backward/recurrent_kernel",
        "layer0/forward/input_bias/reset": "layer0/forward/bias",
        "layer0/forward/recurrent_bias/reset": "layer0/forward/bias",
        "layer0/forward/bias/forget": "layer0/forward/bias",
        "layer0/forward/bias": "layer0/forward/bias",
        "head/kernel": "head/kernel",
        "head/bias": "head/bias",
    }
    assert {name: keras_variable(name) for name in variables} == variables


def rounded_update(
    precision: str,
    seed: int,
    config: TrainingConfig,
    weights: Tensors,
    gradients: Tensors,
    slots: Tensors,
    iterations: int = 0,
) -> Tensors:
    """The new weights, every operation rounded, as one sample has them."""
    tensors = [working(precision, 1, seed).arrays(tensors) for tensors in (weights, gradients, slots)]
    new = apply_update(config, *tensors, iterations)[0]
    return {name: plain(weight) + deviations(weight, 1)[0] for name, weight in new.items()}


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("rule", RULES)
def test_rounding_moves_the_update_by_what_it_should(rule: str, precision: str) -> None:
    """A perturbation is above a quarter and, but for the bias corrections' conditioning, below a hundred ulps."""
    ulp = float(np.finfo(precision).eps) / 2
    weights, gradients = start()
    config, slots = training(rule), initial_slots(training(rule), start()[0])
    exact, _ = apply_update(config, weights, gradients[0], slots, 0)
    errors = []
    for seed in range(4):
        rounded, again = (rounded_update(precision, seed, config, weights, gradients[0], slots) for _ in range(2))
        assert all(rounded[name].tobytes() == again[name].tobytes() for name in rounded)
        errors.append(
            max(np.abs(rounded[n] - exact[n]).max() / np.abs(weights[n]).max() for n in weights if "kernel" in n)
        )
    assert ulp / 4 < max(errors) < 100 * ulp


def test_the_bias_correction_magnifies_rounding() -> None:
    """In float32 1 - 0.999^t has a relative error near 3e-5 at the first step, which the reference's rounding shows."""
    weights, gradients = {"w": np.zeros(100)}, {"w": np.ones(100)}
    spread = {}
    for iterations in (0, 5000):
        config = TrainingConfig(learning_rate=0.01)
        slots = initial_slots(config, weights)
        exact, _ = apply_update(config, weights, gradients, slots, iterations)
        samples = [rounded_update("float32", seed, config, weights, gradients, slots, iterations) for seed in range(8)]
        spread[iterations] = max(abs(float(np.mean(s["w"] / exact["w"])) - 1) for s in samples)
    assert spread[0] > 3e-6
    assert spread[5000] < 1e-6  # equal numbers are rounded equally: nothing averages out
