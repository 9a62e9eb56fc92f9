"""What both sides record at a step is what they computed, and they compute every step of the schedule."""

from functools import cache

import numpy as np
import pytest
from helpers.equations import KerasAdam, gradient, mean_squared_error, train
from helpers.framework_processes import SIDES, FrameworkProcesses
from helpers.probes import canonical_shapes
from helpers.small_runs import CELLS

# Of a float32 loss, or of a tensor's norm in units of the whole gradient's: the largest error seen is 6e-8.
TOLERANCE = 1e-6

# Adam's first update divides a gradient by itself, and 1 - beta^t in float32 has few digits: the largest is 1.2e-5.
TOLERANCE_UPDATE = 2e-4

# Of a whole training: by the mean loss, and by the farthest that Adam could have moved a number. The largest seen is
# 2.2e-5; the smallest planted fault below is off by 7e-3.
TOLERANCE_TRAINING = 2e-4

LEARNING_RATE = 1e-3


def training(cell: str, windows: int) -> tuple[dict, dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """A small model's shape and weights, inputs and targets."""
    generator = np.random.default_rng(21)
    shape = {"cell": cell, "features": 2, "units": 3, "layers": 1, "outputs": 2}
    tensors = {
        name: generator.normal(0, 0.6, size).astype(np.float32) for name, size in canonical_shapes(**shape).items()
    }
    inputs = generator.normal(size=(windows, 4, 2)).astype(np.float32)
    return shape, tensors, inputs, generator.normal(size=(windows, 2)).astype(np.float32)


def expected_row(cell: str, tensors: dict, inputs: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """The figures of a first step, from the equations."""
    slopes = gradient(cell, tensors, inputs, targets)
    row = {"loss": mean_squared_error(cell, tensors, inputs, targets)}
    row |= {f"gradient/{name}": float(np.linalg.norm(slope)) for name, slope in slopes.items()}
    updates = {name: KerasAdam(LEARNING_RATE).update(slope) for name, slope in slopes.items()}
    return row | {f"update/{name}": float(np.linalg.norm(update)) for name, update in updates.items()}


def check_row(*, obtained: dict[str, float], expected: dict[str, float]) -> None:
    """Raise AssertionError naming every recorded figure that is not what the equations give."""
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
def test_first_step_is_the_equations(frameworks: FrameworkProcesses, side: str, cell: str) -> None:
    """The loss and the norms of each tensor's gradient and update are those of the equations on the scheduled batch."""
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
    shape, tensors, inputs, targets = training("lstm", windows=4)
    del shape
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
    """What the equations make of a training, for all sides alike."""
    _, tensors, inputs, targets = training("simple_rnn", windows)
    return train("simple_rnn", tensors, inputs, targets, batches_of(two_epochs(windows), batch_size), LEARNING_RATE)


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
    expected = train("simple_rnn", tensors, inputs, targets, batches, LEARNING_RATE)
    if fault == "a-batch-twice":
        wrong = [*batches[:5], batches[4], *batches[6:]]
    elif fault == "two-batches-swapped":
        wrong = [*batches[:5], batches[6], batches[5], *batches[7:]]
    else:
        wrong = batches[:-1]
    losses, weights = train("simple_rnn", tensors, inputs, targets, wrong, LEARNING_RATE)
    if fault == "last-batch-not-trained":
        losses = expected[0]
    with pytest.raises(AssertionError):
        check_training(losses=losses, weights=weights, expected=expected)
