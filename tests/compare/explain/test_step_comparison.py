"""What rounding explains is no difference; what it does not, what is missing or infinite is one."""

import numpy as np
import pytest

from compare.explain.step_comparison import ENSEMBLE_FACTOR, UNIT, UNITS, compare
from compare.explain.update_rules import causes_of_choices, same_choice

KERAS = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
LARGEST = float(np.abs(KERAS).max())


def deviation(torch: object, members: tuple[np.ndarray, ...] = (), keras: object = KERAS) -> object:
    """Compare what each side has of one gradient."""
    return compare(0, "gradient", "fc.weight", keras, torch, members, 0.0)


@pytest.mark.parametrize(("times", "differs"), [(0.9, False), (1.1, True)], ids=["within", "beyond"])
def test_the_floor_is_in_units_of_the_largest_number(times: float, differs: bool) -> None:
    """Without noise a tensor may be off by UNITS units of its largest number and no more."""
    off = KERAS.astype(np.float64)
    off[0, 0] += times * UNITS * UNIT * LARGEST
    assert deviation(off).differs is differs


@pytest.mark.parametrize(("times", "differs"), [(0.9, False), (1.1, True)], ids=["within", "beyond"])
def test_the_tolerance_grows_with_the_noise(times: float, differs: bool) -> None:
    """A tensor that rounding moves by more may be off by more, in proportion."""
    noise = 1e-4
    off = KERAS.astype(np.float64)
    off[0, 0] += times * (ENSEMBLE_FACTOR * noise + UNITS * UNIT * LARGEST)
    assert deviation(off, (off + noise, off - noise / 2)).differs is differs


@pytest.mark.parametrize(
    ("keras", "torch", "message"),
    [
        (None, KERAS, "only PyTorch has it"),
        (KERAS, None, "only Keras has it"),
        (KERAS, KERAS[:4], "shape (5, 4) in Keras, (4, 4) in PyTorch"),
        (KERAS, np.where(KERAS > 0, np.nan, KERAS), "not finite"),
        (np.full((5, 4), np.inf), np.full((5, 4), np.inf), "not finite"),
    ],
    ids=["keras-missing", "torch-missing", "shape", "nan", "both-infinite"],
)
def test_what_cannot_be_compared_differs(keras: object, torch: object, message: str) -> None:
    """A tensor that one side lacks, of another shape or not finite is a difference, with its own message."""
    result = deviation(torch, keras=keras)
    assert result.differs
    assert result.message == message


def test_a_multiple_is_recognised() -> None:
    """Where one side is a multiple of the other the factor is told, and where it is not none is."""
    assert deviation(2 * KERAS).ratio == pytest.approx(2)
    assert deviation(KERAS[::-1]).ratio is None


@pytest.mark.parametrize("rule", ["adam", "adamax", "nadam", "sgd", "rmsprop", "adagrad", "adadelta"])
def test_each_choice_belongs_to_one_cause(rule: str) -> None:
    """No choice of a rule is named by two causes, and weight decay has its own in all of them."""
    causes = causes_of_choices(rule)
    choices = [choice for names in causes.values() for choice in names]
    assert len(choices) == len(set(choices))
    assert "weight-decay-coupling" in causes
    assert same_choice(1e-7, 1e-7 * (1 + 1e-7))
    assert not same_choice(1e-7, 1e-8)
