"""Shared masks do what Keras's own layers do with the same masks."""

from itertools import product

import numpy as np
import pytest
from helpers.framework_processes import KERAS_SIDES, FrameworkProcesses
from helpers.model_options import CELLS

# Each is the same float32 arithmetic in another place.
TOLERANCE = 1e-6
GATES = {"simple_rnn": 1, "lstm": 4, "gru": 3}


def values() -> np.ndarray:
    """A batch of sequences, none of them zero anywhere."""
    return np.random.default_rng(6).uniform(0.5, 1.5, (4, 4, 2)).astype(np.float32)


@pytest.mark.parametrize("rate", [0.2, 0.5])
@pytest.mark.parametrize("side", KERAS_SIDES)
def test_shared_dropout_is_dropout(frameworks: FrameworkProcesses, side: str, rate: float) -> None:
    """With the mask that Keras's Dropout drew SharedDropout scales and drops alike, and in inference nothing."""
    obtained = frameworks.call(side, "layer_probes.shared_dropout", rate, values())
    assert 0 < obtained["mask"].mean() < 1
    np.testing.assert_allclose(obtained["obtained"], obtained["expected"], rtol=TOLERANCE)
    np.testing.assert_array_equal(obtained["in inference"], values())


RATES = {
    "inputs": {"dropout": 0.4},
    "states": {"recurrent_dropout": 0.3},
    "both": {"dropout": 0.4, "recurrent_dropout": 0.3},
}


@pytest.mark.parametrize(
    ("side", "cell", "bidirectional", "kind"),
    [
        # What is not the backend's business is tested on the quickest.
        *product(["keras-torch"], CELLS, [False, True], RATES),
        *product(["keras-tensorflow", "keras-jax"], ["gru"], [True], ["both"]),
    ],
)
def test_shared_cell_masks_are_the_cells_own(
    frameworks: FrameworkProcesses, side: str, cell: str, bidirectional: bool, kind: str
) -> None:
    """With the masks that a layer drew for its gates SharedCellMasks gives its outputs, and none in inference."""
    rates = RATES[kind]
    obtained = frameworks.call(side, "layer_probes.shared_cell_masks", cell, bidirectional, rates, values())
    kinds = [{"dropout": "input_dropout"}.get(name, name) for name in rates]
    directions = ("forward", "backward") if bidirectional else ("forward",)
    assert obtained["masks"].keys() == {f"{direction}.{kind}" for direction in directions for kind in kinds}
    for name, mask in obtained["masks"].items():
        rate = rates["dropout" if name.endswith("input_dropout") else "recurrent_dropout"]
        gates = GATES[cell] if "recurrent_dropout" in rates else mask.shape[1]
        assert mask.shape == (4, gates, 2 if name.endswith("input_dropout") else 3)
        assert set(np.unique(np.round(mask, 5))) <= {np.float32(0), np.round(np.float32(1 / (1 - rate)), 5)}
    np.testing.assert_allclose(obtained["obtained"], obtained["expected"], rtol=TOLERANCE, atol=TOLERANCE)
    np.testing.assert_array_equal(obtained["again"], obtained["obtained"])
    np.testing.assert_array_equal(obtained["in inference"], obtained["without dropout"])
    assert np.abs(obtained["obtained"] - obtained["in inference"]).max() > 1e-2
