"""Sequences of different length become one array and a mask."""

import numpy as np
import pytest

from compare.data.padding import draw_mask, mask_of, pad
from compare.errors import InputError


def test_masks_are_on_the_side_asked_for() -> None:
    """Sequences of length 0, 2 and 3 in a window of 3."""
    lengths = np.array([0, 2, 3])
    assert mask_of(lengths, 3, "right").astype(int).tolist() == [[0, 0, 0], [1, 1, 0], [1, 1, 1]]
    assert mask_of(lengths, 3, "left").astype(int).tolist() == [[0, 0, 0], [0, 1, 1], [1, 1, 1]]


@pytest.mark.parametrize(
    ("padding", "expected"),
    [("right", [[1, 2, 0, 0], [3, 4, 5, 0], [6, 0, 0, 0]]), ("left", [[0, 0, 1, 2], [0, 3, 4, 5], [0, 0, 0, 6]])],
)
def test_sequences_keep_their_order(padding: str, expected: list[list[int]]) -> None:
    """Each sequence stands in its row, in its order, on the side away from its padding; features go with it."""
    sequences = [np.array([1, 2]), np.array([3, 4, 5]), np.array([6])]
    padded, mask = pad(sequences, 4, padding)
    assert padded.tolist() == expected
    assert mask is not None
    assert np.array_equal(mask, np.array(expected) != 0)
    wide, _ = pad([np.stack([row, -row], axis=1) for row in sequences], 4, padding)
    assert wide.shape == (3, 4, 2)
    assert wide[:, :, 1].tolist() == (-np.array(expected)).tolist()


def test_without_padding_the_lengths_must_be_equal() -> None:
    """Sequences of one length need no padding, others cannot do without."""
    padded, mask = pad([np.array([1, 2]), np.array([3, 4])], 10, "none")
    assert padded.tolist() == [[1, 2], [3, 4]]
    assert mask is None
    with pytest.raises(InputError, match=r"have 1 to 2 timesteps; give data\.padding = \"right\""):
        pad([np.array([1, 2]), np.array([3])], 10, "none")


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
