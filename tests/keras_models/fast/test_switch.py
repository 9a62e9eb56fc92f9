"""Fast layers take the place of Keras's own, and give it back."""

from pathlib import Path

import numpy as np
import pytest
from helpers.fast_probes import CELLS, check_equal
from helpers.framework_processes import FrameworkProcesses

SIDE = "keras-torch"
FAST = "keras_models.fast.layers."

# Five steps of Adam: a last bit of a small gradient moves a weight by a share of the learning rate.
TOLERANCE_LOSS = 1e-5
TOLERANCE_PREDICTION = 1e-4


@pytest.mark.parametrize("side", [SIDE, pytest.param("keras-jax", marks=pytest.mark.slow)])
def test_layers_made_while_enabled_are_fast(frameworks: FrameworkProcesses, side: str, tmp_path: Path) -> None:
    """However a layer is made, imported, loaded or cloned; what is derived and what was made before stays."""
    computed = frameworks.call(side, "fast_switch_probes.made_while_enabled", tmp_path)
    cells = [*CELLS, "GRU", "GRU", "Derived", *["LSTM"] * 6]
    assert [name.rpartition(".")[2] for name in computed["before"]] == cells
    assert not any(name.startswith(FAST) for name in computed["before"])
    assert computed["while"] == [
        before if cell == "Derived" else FAST + cell for before, cell in zip(computed["before"], cells, strict=True)
    ]
    assert computed["made before"] == computed["after"] == computed["before"]


@pytest.mark.parametrize("cell", CELLS)
def test_a_models_layers_are_exchanged_in_training(frameworks: FrameworkProcesses, cell: str) -> None:
    """A model goes on with its variables and its optimizer, and learns what it would have learned."""
    record = frameworks.call(SIDE, "fast_switch_probes.exchanged_in_training", cell)
    stock, fast, after = record["classes"]
    assert fast == [FAST + cell] * 2
    assert stock == after
    assert not set(stock) & set(fast)
    assert record["same variables"]
    np.testing.assert_allclose(*record["losses"].values(), rtol=TOLERANCE_LOSS)
    assert len(record["losses"]["stock"]) == 5
    np.testing.assert_allclose(*record["predictions"].values(), atol=TOLERANCE_PREDICTION)


@pytest.mark.parametrize("function", ["enable", "disable", "executions"])
def test_what_is_no_layer_is_refused(frameworks: FrameworkProcesses, function: str) -> None:
    """What is given instead of a model is named."""
    with pytest.raises(TypeError, match="a Keras model or layer is needed, not 'lstm'"):
        frameworks.call(SIDE, "fast_switch_probes.enable_wrong", function)


@pytest.mark.parametrize("cell", CELLS)
def test_both_directions(frameworks: FrameworkProcesses, cell: str) -> None:
    """`Bidirectional` around a fast layer has two, and gives with padded sequences what it gives around a stock one."""
    classes, kernels, obtained, expected = frameworks.call(SIDE, "fast_switch_probes.wrapped", cell)
    assert classes == [FAST + cell] * 2
    assert kernels == {f"model/both/{direction}_recurrent": "bptt" for direction in ("forward", "backward")}
    check_equal(obtained=obtained, expected=expected, what=cell)


def test_each_direction_stays_what_it_was_given_as(frameworks: FrameworkProcesses) -> None:
    """Where `Bidirectional` is given both layers, only the fast one is fast."""
    classes = frameworks.call(SIDE, "fast_switch_probes.two_given_directions")
    assert [name.startswith(FAST) for name in classes] == [True, False, False, True]
