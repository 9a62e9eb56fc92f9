"""The PyTorch side's layers: fused where torch computes the same thing, stepped elsewhere; masks, states, order."""

from itertools import product
from typing import Any

import numpy as np
import pytest
from helpers.framework_processes import FrameworkProcesses
from helpers.model_options import CELLS, PATTERNS, check_same, example

# Both are float64 sums in another order; the largest error seen is 4e-16, the smallest fault 1e-2.
TOLERANCE = 1e-13

# What is computed by torch's fused module, and what is not.
FUSED: dict[str, dict[str, Any]] = {"as it is": {}, "without biases": {"use_bias": False}}
STEPPED: dict[str, dict[str, Any]] = {
    "elu": {"activation": "elu"},
    "recurrent dropout": {"recurrent_dropout": 0.2},
}
GATED: dict[str, dict[str, Any]] = {"hard gates": {"recurrent_activation": "hard_sigmoid"}}
LAYERS = [
    *((cell, name, options) for cell in CELLS for name, options in (FUSED | STEPPED).items()),
    *((cell, name, options) for cell in ("lstm", "gru") for name, options in GATED.items()),
    ("simple_rnn", "relu", {"activation": "relu"}),
    ("lstm", "relu", {"activation": "relu"}),
    ("gru", "reset before", {"reset_after": False}),
]
IDS = [f"{cell} {name}" for cell, name, _ in LAYERS]


def batch(cell: str, states: bool) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Inputs of four timesteps, and states to start from."""
    generator = np.random.default_rng(5)
    names = ("h", "c") if cell == "lstm" else ("h",)
    return generator.normal(size=(4, 4, 2)), {name: generator.normal(size=(4, 3)) for name in names if states}


@pytest.mark.parametrize(("cell", "name", "options"), LAYERS, ids=IDS)
def test_fused_wherever_torch_computes_the_same(
    frameworks: FrameworkProcesses, cell: str, name: str, options: dict
) -> None:
    """Torch's own module runs a layer unless its activations, its reset gate or its dropout are none that it has."""
    fused = name in FUSED or (cell, name) == ("simple_rnn", "relu")
    assert frameworks.call("torch", "recurrence_probes.layer_kind", cell, options) == ("fused" if fused else "stepped")


@pytest.mark.parametrize("states", [False, True], ids=["from zeros", "from given states"])
@pytest.mark.parametrize(
    ("cell", "options"),
    [*((cell, options) for cell in CELLS for options in FUSED.values()), ("simple_rnn", {"activation": "relu"})],
    ids=[*(f"{cell} {name}" for cell in CELLS for name in FUSED), "simple_rnn relu"],
)
def test_stepped_is_fused(frameworks: FrameworkProcesses, cell: str, options: dict, states: bool) -> None:
    """Where torch has a fused module, the layer that steps itself gives the same outputs, states and gradients."""
    fused, stepped = frameworks.call(
        "torch", "recurrence_probes.fused_and_stepped", cell, options, *batch(cell, states)
    )
    check_same(obtained=stepped, expected=fused, tolerance=TOLERANCE)


TURNED = {
    "forwards": {},
    "backwards": {"go_backwards": True},
    "zeros": {"zero_output_for_mask": True},
    "backwards zeros": {"go_backwards": True, "zero_output_for_mask": True},
}


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize(("cell", "name", "options"), LAYERS, ids=IDS)
def test_masked_timesteps_are_skipped(
    frameworks: FrameworkProcesses, cell: str, name: str, options: dict, pattern: str
) -> None:
    """Whatever stands masked, outputs, states and gradients are those of a loop that skips it timestep by timestep."""
    mask = np.array(PATTERNS[pattern], bool)
    for states, turned in product((False, True), TURNED.values()):
        obtained, expected = frameworks.call(
            "torch", "recurrence_probes.masked_layer", cell, options, *batch(cell, states), mask, **turned
        )
        check_same(obtained=obtained, expected=expected, tolerance=TOLERANCE)


def test_a_mask_matters(frameworks: FrameworkProcesses) -> None:
    """With another mask, order or output at padding the same layer gives something else."""
    mask = np.array(PATTERNS["empty row"], bool)
    computed = [
        frameworks.call("torch", "recurrence_probes.masked_layer", "gru", {}, *batch("gru", True), mask, **t)
        for t in TURNED.values()
    ]
    others = [frameworks.call("torch", "recurrence_probes.masked_layer", "gru", {}, *batch("gru", True), mask[::-1])]
    for (first, _), (second, _) in zip(computed, [*computed[1:], others[0]], strict=True):
        with pytest.raises(AssertionError, match="outputs"):
            check_same(obtained=first, expected=second, tolerance=1e-2)


def test_a_row_of_padding_keeps_its_state(frameworks: FrameworkProcesses) -> None:
    """A row without a timestep that counts puts out zeros and ends in the state that it was given."""
    inputs, state = batch("lstm", states=True)
    mask = np.array(PATTERNS["empty row"], bool)
    obtained, _ = frameworks.call("torch", "recurrence_probes.masked_layer", "lstm", {}, inputs, state, mask)
    assert not obtained["outputs"][1].any()
    np.testing.assert_array_equal(obtained["last/0"][1], state["h"][1])
    np.testing.assert_array_equal(obtained["last/1"][1], state["c"][1])
    assert not obtained["gradient/inputs"][1].any()


@pytest.mark.parametrize("cell", CELLS)
def test_states_go_on_over_batches(frameworks: FrameworkProcesses, cell: str) -> None:
    """A sequence in two batches ends where the whole one does; states are detached, and zero after a reset."""
    drawn = example(f"{cell} stateful")
    computed = frameworks.call("torch", "recurrence_probes.kept_states", drawn, drawn.inputs["sequence"])
    np.testing.assert_allclose(computed["parts"][1], computed["whole"], rtol=TOLERANCE, atol=TOLERANCE)
    assert np.abs(computed["parts"][0] - computed["whole"]).max() > 1e-2
    assert set(computed["states"]) == set(drawn.non_trainable)
    assert all(value.any() for value in computed["states"].values())
    assert not any(value.any() for value in computed["reset"].values())
    assert computed["attached"] == []
    np.testing.assert_array_equal(computed["again"], computed["parts"][0])


@pytest.mark.parametrize("cell", CELLS)
def test_sequence_first_computes_the_same(frameworks: FrameworkProcesses, cell: str) -> None:
    """A model that takes (time, batch, features) computes the same from the same examples, and is given them so."""
    drawn = example(f"{cell} activation elu" if cell == "gru" else f"{cell} alone")
    first, batch_first = frameworks.call("torch", "recurrence_probes.sequence_first_and_not", drawn)
    assert first.keys() == batch_first.keys()
    for name in first:
        np.testing.assert_allclose(first[name], batch_first[name], rtol=TOLERANCE, atol=TOLERANCE, err_msg=name)
    count, time, features = drawn.inputs["sequence"].shape[0], 3, 2
    longer = {"sequence": np.zeros((count, time, features))}
    turned = type(drawn)(drawn.option, drawn.model, drawn.weights, longer, drawn.targets, {})
    assert frameworks.call("torch", "recurrence_probes.seen_shape", turned, True) == (time, count, features)
    assert frameworks.call("torch", "recurrence_probes.seen_shape", turned, False) == (count, time, features)


@pytest.mark.parametrize(("part", "rate", "width"), [("input_dropout", 0.4, 2), ("recurrent_dropout", 0.3, 3)])
def test_independent_masks_of_cells(frameworks: FrameworkProcesses, part: str, rate: float, width: int) -> None:
    """A mask that a model draws is zero or 1/(1 - rate) in the shape of a shared one: for each row and gate another."""
    drawn = example("lstm input and recurrent dropout")
    masks = frameworks.call("torch", "recurrence_probes.independent_masks", drawn, f"layer0.forward.{part}")
    assert masks.shape == (2000, 4, width)
    np.testing.assert_allclose(np.unique(masks), [0, 1 / (1 - rate)])
    # The standard deviation of the mean of as many is below 0.004.
    np.testing.assert_allclose(masks.mean(axis=(0, 2)), 1, atol=0.03)
    assert (masks[:, 0] != masks[:, 1]).mean() > 0.2
