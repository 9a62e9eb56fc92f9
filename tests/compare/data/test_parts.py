"""Which examples are used, and which are held out."""

import numpy as np
import pytest

from compare.data.parts import draw_order, held_out, limited, split
from compare.errors import InputError


def test_parts_hold_every_example_once() -> None:
    """The two parts are the examples in their order, each with its mask."""
    inputs, targets, mask = np.arange(10), np.arange(10) * 2, np.arange(10) % 2 == 0
    training, test = split(inputs, targets, mask, 3)
    assert training.inputs.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert test.inputs.tolist() == [7, 8, 9]
    assert test.targets.tolist() == [14, 16, 18]
    assert test.mask is not None
    assert test.mask.tolist() == [False, True, False]
    assert split(inputs, targets, None, 3)[0].mask is None


@pytest.mark.parametrize(("examples", "fraction"), [(10, 0.01), (10, 0.99), (1, 0.5)])
def test_empty_parts_are_refused(examples: int, fraction: float) -> None:
    """A split that leaves a part empty says how many examples each part would have."""
    with pytest.raises(InputError, match=r"to train on and \d+ to test with; each part needs one"):
        held_out(examples, fraction)
    assert held_out(10, 0.2) == 2


def test_the_order_is_drawn_and_limited() -> None:
    """Examples come in a drawn order, each at most once, as many as asked for."""
    order = draw_order(np.random.default_rng(0), 30, None)
    assert sorted(order) == list(range(30))
    assert list(order) != list(range(30))
    assert list(draw_order(np.random.default_rng(0), 30, 7)) == list(order[:7])
    assert limited(30, None) == limited(30, 30) == 30
    with pytest.raises(InputError, match=r"data\.examples = 31, but there are 30"):
        limited(30, 31)
