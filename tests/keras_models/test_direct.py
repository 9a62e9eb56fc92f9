"""A model's layers and its loss are called directly only where that is the same computation."""

import numpy as np
import pytest
from helpers.direct_probes import LOSSES
from helpers.framework_processes import FrameworkProcesses

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
