"""What stands between two layers is recognised from the numbers, and nothing is recognised in noise."""

import numpy as np
import pytest

from compare.explain.causes.between import FUNCTIONS, OF_DIRECTIONS, OF_TIME, of_windows, recognise

DRAW = np.random.default_rng(3)
SEQUENCE = DRAW.standard_normal((6, 5, 8)).astype(np.float32)
ROWS = SEQUENCE[:, 0]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_recognised(name: str) -> None:
    """Each function is recognised from float32 numbers."""
    recognised = recognise(ROWS, FUNCTIONS[name](ROWS.astype(np.float64)).astype(np.float32))
    assert recognised is not None
    assert (recognised.select, recognised.function) == ("all", name)


@pytest.mark.parametrize("name", [*OF_TIME, *OF_DIRECTIONS])
def test_selections_are_recognised(name: str) -> None:
    """Each choice of timesteps and directions is recognised, behind a function too."""
    select = {**OF_TIME, **OF_DIRECTIONS}[name]
    recognised = recognise(SEQUENCE, np.tanh(select(SEQUENCE)), directions=2)
    assert recognised is not None
    assert (recognised.select, recognised.function) == (name, "tanh")


@pytest.mark.parametrize("slope", [0.01, 0.2, 0.3])
def test_slopes_are_estimated(slope: float) -> None:
    """The slope of a leaky rectifier is found to five digits."""
    recognised = recognise(ROWS, np.where(ROWS > 0, ROWS, np.float32(slope) * ROWS))
    assert recognised is not None
    assert recognised.function == "leaky_relu"
    assert recognised.arguments["slope"] == pytest.approx(slope, rel=1e-5)


def test_scaling_is_estimated() -> None:
    """A factor and a shift are found."""
    recognised = recognise(ROWS, 0.25 * ROWS - 3)
    assert recognised is not None
    assert recognised.function == "affine"
    assert recognised.arguments == pytest.approx({"scale": 0.25, "shift": -3.0}, rel=1e-4)


@pytest.mark.parametrize(
    "after",
    [DRAW.standard_normal(ROWS.shape), np.sin(ROWS), FUNCTIONS["tanh"](ROWS) * 1.001, np.full(ROWS.shape, np.nan)],
    ids=["noise", "sine", "nearly-tanh", "nan"],
)
def test_nothing_is_made_up(after: np.ndarray) -> None:
    """What no known function gives is not recognised."""
    assert recognise(ROWS, after) is None


@pytest.mark.parametrize(
    ("cut", "name"),
    [
        (SEQUENCE[:, 1:], "without the first timestep"),
        (SEQUENCE[:, :-1], "without the last timestep"),
        (SEQUENCE[:, 3:], "without the first 3 timesteps"),
        (SEQUENCE[:, ::-1], "backwards in time"),
        (SEQUENCE * 1.01, None),
        (SEQUENCE[:, :, 1:], None),
    ],
    ids=["first", "last", "three", "backwards", "scaled", "features"],
)
def test_windows_are_recognised(cut: np.ndarray, name: str | None) -> None:
    """Windows that were cut or turned are told apart from other changes."""
    assert of_windows(SEQUENCE, cut) == name
