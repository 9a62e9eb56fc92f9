"""Masks of sequences of different length, and which of them are held out."""

import numpy as np
import pytest

from compare.datasets.padding import draw_mask, mask_of, split
from compare.errors import InputError


def test_padding_is_on_the_side_asked_for() -> None:
    """Sequences of length 0, 2 and 3 in a window of 3."""
    lengths = np.array([0, 2, 3])
    assert mask_of(lengths, 3, "right").astype(int).tolist() == [[0, 0, 0], [1, 1, 0], [1, 1, 1]]
    assert mask_of(lengths, 3, "left").astype(int).tolist() == [[0, 0, 0], [0, 1, 1], [1, 1, 1]]


@pytest.mark.parametrize("padding", ["right", "left", "scattered"])
def test_drawn_masks_hold_the_extremes(padding: str) -> None:
    """The first and the last sequence are as short as may be, the second is whole, and the others differ."""
    mask = draw_mask(np.random.default_rng(0), 30, 8, padding)
    assert mask is not None
    shortest = 0 if padding == "scattered" else 1
    assert mask.sum(axis=1)[[0, 1, -1]].tolist() == [shortest, 8, shortest]
    assert len(set(mask.sum(axis=1))) > 4
    one_run = (np.diff(mask.astype(int), axis=1) != 0).sum(axis=1) <= 1
    assert one_run.all() == (padding != "scattered")


def test_no_padding_has_no_mask() -> None:
    """Without padding there is no mask at all."""
    assert draw_mask(np.random.default_rng(0), 30, 8, "none") is None


def test_parts_hold_every_example_once() -> None:
    """The two parts are the examples in their order, each with its mask."""
    inputs, targets, mask = np.arange(10), np.arange(10) * 2, np.arange(10) % 2 == 0
    training, test = split(inputs, targets, mask, 0.3)
    assert training.inputs.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert test.inputs.tolist() == [7, 8, 9]
    assert test.targets.tolist() == [14, 16, 18]
    assert test.mask is not None
    assert test.mask.tolist() == [False, True, False]
    assert split(inputs, targets, None, 0.3)[0].mask is None


@pytest.mark.parametrize(("examples", "fraction"), [(10, 0.01), (10, 0.99), (1, 0.5)])
def test_empty_parts_are_refused(examples: int, fraction: float) -> None:
    """A split that leaves a part empty says how many examples each part would have."""
    with pytest.raises(InputError, match=r"to train on and \d+ to test with; each part needs one"):
        split(np.zeros(examples), np.zeros(examples), None, fraction)
