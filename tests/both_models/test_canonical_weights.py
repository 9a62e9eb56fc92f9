"""Canonical weights go into either side and come back, all of them and nothing else."""

import numpy as np
import pytest
from helpers.framework_processes import SIDES, FrameworkProcesses
from helpers.probes import canonical_shapes
from helpers.small_runs import CELLS

SHAPE = {"cell": "lstm", "features": 2, "units": 3, "layers": 1, "outputs": 1}


def weights(shape: dict) -> dict[str, np.ndarray]:
    """Draw float32 weights for a model."""
    generator = np.random.default_rng(5)
    return {name: generator.normal(size=size).astype(np.float32) for name, size in canonical_shapes(**shape).items()}


@pytest.mark.parametrize("side", SIDES)
def test_round_trip_is_exact(frameworks: FrameworkProcesses, side: str) -> None:
    """Canonical weights loaded into a model of any shape are read back to the last bit."""
    frameworks.call(side, "probes.check_round_trips")


@pytest.mark.parametrize("spoiled", ["transposed", "last-bit", "no-biases"])
@pytest.mark.parametrize("side", SIDES)
def test_round_trip_check_catches_faults(frameworks: FrameworkProcesses, side: str, spoiled: str) -> None:
    """The round-trip check fails where other weights are read than were expected."""
    with pytest.raises(AssertionError):
        frameworks.call(side, "probes.check_round_trips", spoiled)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("side", SIDES)
def test_names_and_shapes_are_the_definition(frameworks: FrameworkProcesses, side: str, cell: str) -> None:
    """A new model's weights have exactly the names and shapes that define the canonical form, kernels (in, out)."""
    shape = {"cell": cell, "features": 2, "units": 3, "layers": 2, "outputs": 4}
    obtained = frameworks.call(side, "probes.own_weights", shape)
    assert {name: tensor.shape for name, tensor in obtained.items()} == canonical_shapes(**shape)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        pytest.param({"layer0/forward/bias/forget": None}, ["layer0/forward/bias/forget is missing"], id="missing"),
        pytest.param({"layer1/kernel": np.zeros(1)}, ["layer1/kernel is not in the model"], id="left-over"),
        pytest.param(
            {"head/kernel": np.zeros((1, 3))}, ["head/kernel has shape (1, 3), expected (3, 1)"], id="wrong-shape"
        ),
        pytest.param(
            {"head/bias": None, "extra": np.zeros(1), "layer0/forward/kernel/input": np.zeros((3, 2))},
            [
                "head/bias is missing",
                "extra is not in the model",
                "layer0/forward/kernel/input has shape (3, 2), expected (2, 3)",
            ],
            id="all-at-once",
        ),
    ],
)
@pytest.mark.parametrize("side", SIDES)
def test_weights_that_do_not_fit_are_named(
    frameworks: FrameworkProcesses, side: str, change: dict[str, np.ndarray | None], named: list[str]
) -> None:
    """Loading raises ValueError that names each tensor that is missing, left over or of another shape."""
    changed = {name: tensor for name, tensor in (weights(SHAPE) | change).items() if tensor is not None}
    with pytest.raises(ValueError, match="canonical weights do not fit the model") as raised:
        frameworks.call(side, "probes.loaded_weights", SHAPE, changed)
    assert str(raised.value).partition(": ")[2].split("; ") == named


@pytest.mark.parametrize("side", SIDES)
def test_unknown_cells_and_sizes_are_refused(frameworks: FrameworkProcesses, side: str) -> None:
    """A model of an unknown cell, or of a size below 1, is refused with what is accepted."""
    with pytest.raises(ValueError, match="'elman' is unknown; accepted: simple_rnn, lstm, gru"):
        frameworks.call(side, "probes.own_weights", {"cell": "elman"})
    for size in ("features", "units", "outputs", "layers"):
        with pytest.raises(ValueError, match=f"{size}=0 must be at least 1"):
            frameworks.call(side, "probes.own_weights", {"cell": "gru", size: 0})
    with pytest.raises(ValueError, match=r"'adm' is unknown; accepted: .*adam"):
        frameworks.call(side, "probes.build_unknown_optimizer")
