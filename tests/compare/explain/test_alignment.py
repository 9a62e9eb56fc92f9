"""Where values lie among Keras's: turned, cut, flipped, in parts or scrambled."""

import numpy as np
import pytest

from compare.explain.alignment import Index, Value, legal

KERAS = np.random.default_rng(0).normal(size=(6, 5, 4)).astype(np.float32)
ROUNDING = 1e-6

CASES = {
    "as it is": (KERAS, "whole"),
    "axes turned": (KERAS.transpose(1, 0, 2), "whole"),
    "one timestep": (KERAS[:, -1], "whole"),
    "axes joined": (KERAS.reshape(30, 4), "whole"),
    "backwards in time": (KERAS[:, ::-1], "flipped"),
    "rows in another order": (KERAS[[2, 0, 1, 5, 4, 3]], "parts"),
    "a view for a permute": (KERAS.reshape(6, 4, 5), "scrambled"),
    "other numbers": (KERAS + 0.01, None),
}


@pytest.mark.parametrize("name", CASES)
def test_an_arrangement_is_recognised(name: str) -> None:
    """Each arrangement is told from the others, and numbers that are off by more than rounding are none."""
    values, kind = CASES[name]
    alignment = Index([Value("layer output", KERAS, 1)]).align(np.ascontiguousarray(values), ROUNDING)
    assert (None if alignment is None else alignment.kind) == kind


@pytest.mark.parametrize(
    ("before", "after", "may"), [((6, 5, 4), (30, 4), True), ((6, 5, 4), (6, 4, 5), False)], ids=["joined", "mixed"]
)
def test_a_reshape_may_only_join_and_split(before: tuple[int, ...], after: tuple[int, ...], may: bool) -> None:
    """A reshape that mixes axes is none that a right program makes."""
    assert legal(before, after) is may
