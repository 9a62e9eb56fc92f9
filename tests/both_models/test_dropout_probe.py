"""What the probe of a model's own dropout reports is what the model does."""

import numpy as np
import pytest
from helpers.framework_processes import SIDES, FrameworkProcesses
from helpers.model_options import random_weights

SHAPE = {"cell": "gru", "features": 1, "units": 4, "layers": 2, "outputs": 1}


def probes(frameworks: FrameworkProcesses, side: str, options: dict[str, float], number: int) -> list[dict]:
    """Probe a small model as often as asked for, on eight windows of one feature."""
    inputs = np.random.default_rng(3).normal(size=(8, 3, 1)).astype(np.float32)
    weights = random_weights(SHAPE, seed=3)
    return frameworks.call(side, "model_probes.dropout_probes", {**SHAPE, **options}, weights, inputs, number)


@pytest.mark.parametrize("side", SIDES)
def test_random_parts_are_seen(frameworks: FrameworkProcesses, side: str) -> None:
    """With eight windows of one number, and a tenth dropped, the dropout of the inputs is seen, and all behind it."""
    for probe in probes(frameworks, side, {"input_dropout": 0.1}, 3):
        assert set(probe["random"]) == {"layer0", "layer1", "head"}


@pytest.mark.parametrize("side", SIDES)
def test_parts_in_front_are_not_random(frameworks: FrameworkProcesses, side: str) -> None:
    """What stands in front of the first dropout is the same in every pass."""
    (probe,) = probes(frameworks, side, {"dropout": 0.5}, 1)
    assert set(probe["random"]) == {"layer1", "head"}


@pytest.mark.parametrize("side", SIDES)
def test_a_seed_repeats_the_masks(frameworks: FrameworkProcesses, side: str) -> None:
    """The same seed draws the same dropout masks again, and another seed draws others."""
    inputs = np.random.default_rng(3).normal(size=(64, 3, 1)).astype(np.float32)
    given = ({**SHAPE, "dropout": 0.5}, random_weights(SHAPE, seed=3), inputs)
    first, again, other = frameworks.call(side, "model_probes.seeded_dropout", *given, [1, 1, 2])
    assert first == again
    assert first != other
