"""Generated signals: seeded, masked as asked for, and with something to learn."""

from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from compare.config.case import Case, make_case
from compare.data.datasets import load_data
from compare.data.examples import Examples

TASKS = ("forecasting", "classification", "tagging")


def signals_case(task: str, **data: Any) -> Case:
    """A case whose data are signals."""
    return make_case({"name": "a", "task": task, "model": {"cell": "gru"}, "data": {"dataset": "signals", **data}}, "a")


def load(task: str, **data: Any) -> Examples:
    """The signals of a task."""
    examples = load_data(signals_case(task, **data))
    assert isinstance(examples, Examples)
    return examples


@pytest.mark.parametrize("task", TASKS)
def test_shapes_and_types(task: str) -> None:
    """Each task has its targets: values, a class an example, a class a timestep; a fifth is held out."""
    examples = load(task, examples=50, window=7, channels=4, classes=3, horizon=2, padding="right")
    assert (examples.features, examples.vocabulary) == (4, None)
    assert examples.outputs == (2 if task == "forecasting" else 3)
    shape = {"forecasting": (2,), "classification": (), "tagging": (7,)}[task]
    for part, size in ((examples.training, 40), (examples.test, 10)):
        assert part.inputs.shape == (size, 7, 4)
        assert part.inputs.dtype == np.float32
        assert part.targets.shape == (size, *shape)
        assert part.targets.dtype == (np.float32 if task == "forecasting" else np.int32)
        assert part.mask is not None
        assert part.mask.shape == (size, 7)
        assert not part.inputs[~part.mask].any()


def test_every_class_occurs() -> None:
    """Classes are ranges of values that are equally frequent, so a constant guess is a bad one."""
    for task in ("classification", "tagging"):
        counts = np.bincount(load(task, examples=300, classes=4).training.targets.ravel())
        assert len(counts) == 4
        assert counts.min() > 0.8 * counts.mean()


def test_the_seed_decides() -> None:
    """The same seed gives the same bytes, another seed gives others."""
    first, again = load("tagging").training, load("tagging").training
    assert np.array_equal(first.inputs, again.inputs)
    assert np.array_equal(first.targets, again.targets)
    other = load_data(signals_case("tagging").model_copy(update={"seed": 1}))
    assert isinstance(other, Examples)
    assert not np.array_equal(first.inputs, other.training.inputs)


def test_there_is_something_to_learn() -> None:
    """The last measurements tell half of the next value; with the inputs in another order they tell nothing."""
    training = load("forecasting", examples=2000).training
    last = training.inputs[:, -1]
    assert LinearRegression().fit(last, training.targets).score(last, training.targets) > 0.5
    shuffled = np.random.default_rng(0).permutation(last)
    assert LinearRegression().fit(shuffled, training.targets).score(shuffled, training.targets) < 0.05
