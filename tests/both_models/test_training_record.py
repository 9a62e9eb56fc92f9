"""What both sides record at a step is what they computed, and they compute every step of the schedule."""

from functools import cache
from typing import Any

import numpy as np
import pytest
from helpers.framework_processes import SIDES, FrameworkProcesses
from helpers.model_options import random_weights
from helpers.small_runs import CELLS

from compare.config.case import make_case
from compare.reference.losses import mean_squared_error
from compare.reference.network import Network
from compare.reference.update_rules import apply_update, initial_slots

# Of a float32 loss, or of a tensor's norm in units of the whole gradient's: the largest error seen is 6e-8.
TOLERANCE = 1e-6

# Adam's first update divides a gradient by itself, and 1 - beta^t in float32 has few digits: the largest is 1.2e-5.
TOLERANCE_UPDATE = 2e-4

# Of a whole training: by the mean loss, and by the farthest that Adam could have moved a number. The largest seen is
# 2.2e-5; the smallest planted fault below is off by 7e-3.
TOLERANCE_TRAINING = 2e-4

LEARNING_RATE = 1e-3

Arrays = dict[str, np.ndarray]


def case_of(cell: str) -> Any:
    """A small model trained by Adam, the default."""
    return make_case({"name": cell, "model": {"cell": cell, "units": 3}}, cell)


def training(cell: str, windows: int) -> tuple[dict, Arrays, np.ndarray, np.ndarray]:
    """A small model's shape and weights, biases included, inputs and targets."""
    generator = np.random.default_rng(21)
    shape = {"cell": cell, "features": 2, "units": 3, "outputs": 2}
    inputs, targets = (generator.normal(size=size).astype(np.float32) for size in ((windows, 4, 2), (windows, 2)))
    return shape, random_weights(shape, seed=21), inputs, targets


def loss_and_gradients(cell: str, tensors: Arrays, inputs: np.ndarray, targets: np.ndarray) -> tuple[float, Arrays]:
    """The loss of a batch and its gradients, from the reference in float64."""
    weights = {name: tensor.astype(np.float64) for name, tensor in tensors.items()}
    network = Network(case_of(cell).model, weights, {"sequence": inputs.astype(np.float64)})
    loss, d_outputs = mean_squared_error(network.outputs, targets.astype(np.float64))
    return float(loss), network.backward(d_outputs)


def reference_training(
    cell: str, tensors: Arrays, inputs: np.ndarray, targets: np.ndarray, batches: list[np.ndarray]
) -> tuple[np.ndarray, Arrays]:
    """What the reference makes of the batches in turn: the loss at every step and the weights at the end."""
    config, losses = case_of(cell).training, []
    weights = {name: tensor.astype(np.float64) for name, tensor in tensors.items()}
    slots = initial_slots(config, weights)
    for iterations, batch in enumerate(batches):
        loss, gradients = loss_and_gradients(cell, weights, inputs[batch], targets[batch])
        weights, slots = apply_update(config, weights, gradients, slots, iterations)
        losses.append(loss)
    return np.array(losses), weights


def expected_row(cell: str, tensors: Arrays, inputs: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """The figures of a first step, from the reference."""
    loss, gradients = loss_and_gradients(cell, tensors, inputs, targets)
    _, weights = reference_training(cell, tensors, inputs, targets, [np.arange(len(inputs))])
    row = {"loss": loss} | {f"gradient/{name}": float(np.linalg.norm(slope)) for name, slope in gradients.items()}
    return row | {f"update/{name}": float(np.linalg.norm(weights[name] - tensors[name])) for name in gradients}


def check_row(*, obtained: dict[str, float], expected: dict[str, float]) -> None:
    """Raise AssertionError naming every recorded figure that is not what the reference gives."""
    limit = {"loss": TOLERANCE, "gradient": TOLERANCE, "update": TOLERANCE_UPDATE}
    assert {name for name in obtained if name.partition("/")[0] in limit} == expected.keys()
    wrong = []
    for phase, tolerance in limit.items():
        names = [name for name in expected if name.partition("/")[0] == phase]
        scale = np.linalg.norm([expected[name] for name in names])
        wrong += [name for name in names if not abs(obtained[name] - expected[name]) <= tolerance * scale]
    assert not wrong, f"recorded wrongly: {wrong}"


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("side", SIDES)
def test_first_step_is_the_references(frameworks: FrameworkProcesses, side: str, cell: str) -> None:
    """The loss and the norms of each tensor's gradient and update are the reference's on the scheduled batch."""
    shape, tensors, inputs, targets = training(cell, windows=8)
    schedule = np.array([[5, 2, 7, 0, 1, 3, 4, 6]], dtype=np.int32)
    columns, yielded, _ = frameworks.call(side, "probes.train", shape, tensors, inputs, targets, schedule, 4)
    (_, rows), *_ = yielded
    batch = schedule[0, :4]
    expected = expected_row(cell, tensors, inputs[batch], targets[batch])
    check_row(obtained=dict(zip(columns, rows[0].tolist(), strict=True)), expected=expected)


@pytest.mark.parametrize("name", ["loss", "gradient/layer0/forward/bias/forget", "update/head/kernel"])
def test_wrong_figures_are_caught(name: str) -> None:
    """The check of a recorded row names a figure that is off, not a number, or missing."""
    _, tensors, inputs, targets = training("lstm", windows=4)
    expected = expected_row("lstm", tensors, inputs, targets)
    for value in (expected[name] * 1.02 + 0.001, float("nan")):
        with pytest.raises(AssertionError, match=name):
            check_row(obtained=expected | {name: value}, expected=expected)
    with pytest.raises(AssertionError):
        check_row(obtained={key: value for key, value in expected.items() if key != name}, expected=expected)


def batches_of(schedule: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """The batches of a schedule in turn, the last of an epoch maybe smaller."""
    starts = range(0, schedule.shape[1], batch_size)
    return [order[start : start + batch_size] for order in schedule for start in starts]


def two_epochs(windows: int) -> np.ndarray:
    """A batch schedule."""
    generator = np.random.default_rng(3)
    return np.stack([generator.permutation(windows) for _ in range(2)]).astype(np.int32)


@cache
def expected_training(windows: int, batch_size: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """What the reference makes of a training, for all sides alike."""
    arguments = training("simple_rnn", windows)[1:]
    return reference_training("simple_rnn", *arguments, batches_of(two_epochs(windows), batch_size))


def check_training(*, losses: np.ndarray, weights: dict, expected: tuple[np.ndarray, dict]) -> None:
    """Raise AssertionError where a training is not the expected one, at any step or in the end."""
    assert losses.shape == expected[0].shape
    assert np.abs(losses - expected[0]).max() <= TOLERANCE_TRAINING * expected[0].mean()
    moved = max(float(np.abs(weights[name] - expected[1][name]).max()) for name in expected[1])
    assert moved <= TOLERANCE_TRAINING * LEARNING_RATE * len(losses)


@pytest.mark.parametrize(
    ("windows", "batch_size", "steps"),
    [
        pytest.param(7, 3, 3, id="smaller-last-batch"),
        pytest.param(6, 3, 2, id="no-rest"),
        pytest.param(2, 3, 1, id="fewer-windows-than-a-batch"),
        pytest.param(131, 1, 131, id="more-steps-than-one-call"),
        pytest.param(261, 2, 131, id="more-steps-than-one-call-and-a-rest"),
    ],
)
@pytest.mark.parametrize("side", SIDES)
def test_every_step_of_the_schedule_is_trained(
    frameworks: FrameworkProcesses, side: str, windows: int, batch_size: int, steps: int
) -> None:
    """However the windows divide into batches and calls, each batch is trained on in turn and nothing else is."""
    shape, tensors, inputs, targets = training("simple_rnn", windows)
    schedule = two_epochs(windows)
    columns, yielded, weights = frameworks.call(
        side, "probes.train", shape, tensors, inputs, targets, schedule, batch_size
    )
    assert [epoch for epoch, _ in yielded] == sorted(epoch for epoch, _ in yielded)
    assert [sum(len(rows) for e, rows in yielded if e == epoch) for epoch in range(2)] == [steps] * 2

    losses = np.concatenate([rows[:, columns.index("loss")] for _, rows in yielded])
    check_training(losses=losses, weights=weights, expected=expected_training(windows, batch_size))


@pytest.mark.parametrize("fault", ["a-batch-twice", "two-batches-swapped", "last-batch-not-trained"])
def test_wrong_trainings_are_caught(fault: str) -> None:
    """The check of a training fails where one of its batches is trained twice, in another place or not at all."""
    _, tensors, inputs, targets = training("simple_rnn", windows=20)
    batches = batches_of(np.arange(40).reshape(2, 20) % 20, batch_size=3)
    expected = reference_training("simple_rnn", tensors, inputs, targets, batches)
    if fault == "a-batch-twice":
        wrong = [*batches[:5], batches[4], *batches[6:]]
    elif fault == "two-batches-swapped":
        wrong = [*batches[:5], batches[6], batches[5], *batches[7:]]
    else:
        wrong = batches[:-1]
    losses, weights = reference_training("simple_rnn", tensors, inputs, targets, wrong)
    if fault == "last-batch-not-trained":
        losses = expected[0]
    with pytest.raises(AssertionError):
        check_training(losses=losses, weights=weights, expected=expected)


@pytest.mark.parametrize("windows", [256, 257, 600])
@pytest.mark.parametrize("side", SIDES)
def test_predictions_keep_every_window(frameworks: FrameworkProcesses, side: str, windows: int) -> None:
    """Predictions come in batches, and there is one for every window, in order."""
    shape, tensors, inputs, _ = training("lstm", windows)
    obtained = frameworks.call(side, "probes.outputs", shape, tensors, inputs)
    expected = Network(case_of("lstm").model, tensors, {"sequence": inputs}).outputs
    np.testing.assert_allclose(obtained, expected, atol=TOLERANCE)
