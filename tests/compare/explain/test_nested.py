"""Trees of arrays come out of the workers' protocol as they went in."""

import json

import numpy as np
import pytest

from compare.explain.nested import packed, unpacked

ARRAY = np.arange(6, dtype=np.float32).reshape(2, 3)


def test_a_tree_comes_back() -> None:
    """Dicts, lists, numbers, None, infinities and arrays come back, an array in two places is sent once."""
    tree = {"steps": [{"before": {"lstm/kernel": ARRAY}, "loss": float("inf")}, None], "same": ARRAY, "rate": 0.1}
    facts, arrays = packed(tree)
    assert len(arrays) == 1
    back = unpacked(json.loads(json.dumps(facts)), arrays)
    assert back["steps"][0]["loss"] == float("inf")
    assert back["steps"][1] is None
    assert back["rate"] == 0.1
    np.testing.assert_array_equal(back["steps"][0]["before"]["lstm/kernel"], ARRAY)
    np.testing.assert_array_equal(back["same"], ARRAY)


def test_numbers_of_numpy_are_plain() -> None:
    """A scalar of NumPy's is a number, as JSON has it."""
    facts, _ = packed([np.float32(0.5), np.int64(3), np.bool_(True)])
    assert json.dumps(facts) == "[0.5, 3, true]"


def test_what_no_message_holds_is_refused() -> None:
    """Anything else is refused with its path, not sent as text."""
    with pytest.raises(TypeError, match="/causes/0 is a set"):
        packed({"causes": [{1}]})
