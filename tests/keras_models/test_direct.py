"""A model's layers and its loss are called directly only where that is the same computation."""

import numpy as np
import pytest
from helpers.direct_probes import LOSSES
from helpers.framework_processes import FrameworkProcesses
from helpers.model_options import random_weights

SIDE = "keras-torch"
DIRECT = ("one-layer", "stack", "dropout", "functional", "regularized")
NOT_DIRECT = (
    "not-a-chain",
    "not-one-output",
    "not-used-once",
    "not-a-model-of-keras",
    "not-without-hooks",
    "not-without-masks",
    "not-without-activity-regularizer",
    "not-one-precision",
    "not-of-the-inputs-precision",
)


@pytest.mark.parametrize("name", DIRECT + NOT_DIRECT)
def test_outputs_are_the_models(frameworks: FrameworkProcesses, name: str) -> None:
    """A plain chain is called directly, with the model's outputs and losses to the last bit; anything else is not."""
    is_direct, obtained, expected = frameworks.call(SIDE, "direct_probes.beside_model", name)
    assert is_direct == (name in DIRECT)
    assert len(obtained) == len(expected) >= 2
    for obtained_array, expected_array in zip(obtained, expected, strict=True):
        assert obtained_array.tobytes() == expected_array.tobytes()
    if name == "dropout":
        assert not np.array_equal(obtained[0], obtained[1]), "the second call draws another mask"


@pytest.mark.parametrize("name", LOSSES)
def test_loss_is_what_the_model_computes(frameworks: FrameworkProcesses, name: str) -> None:
    """A plain loss is called directly, with the model's value and gradient to the last bit; anything else is not."""
    is_direct, obtained, expected = frameworks.call(SIDE, "direct_probes.beside_compute_loss", name)
    assert is_direct == (name == "the-loss")
    for obtained_array, expected_array in zip(obtained, expected, strict=True):
        assert obtained_array.tobytes() == expected_array.tobytes()


def test_inputs_of_another_precision_go_through_the_model(frameworks: FrameworkProcesses) -> None:
    """Inputs that the model would convert are converted."""
    assert frameworks.call(SIDE, "direct_probes.other_dtype") == "torch.float32"


@pytest.mark.parametrize("cell", ["simple_rnn", "lstm", "gru"])
def test_trainings_are_the_same_to_the_last_bit(frameworks: FrameworkProcesses, cell: str) -> None:
    """A training records the same losses and norms whichever way layers and loss are called."""
    generator = np.random.default_rng(2)
    shape = {"cell": cell, "features": 2, "units": 3, "layers": 2, "outputs": 1}
    inputs, targets = (generator.normal(size=s).astype(np.float32) for s in ((12, 4, 2), (12, 1)))
    arguments = (shape, random_weights(shape, seed=2), inputs, targets, np.arange(24).reshape(2, 12) % 12, 4)
    through_model, direct = frameworks.call(SIDE, "direct_probes.trained", arguments)
    assert through_model.shape[0] == 6
    assert through_model.tobytes() == direct.tobytes()
