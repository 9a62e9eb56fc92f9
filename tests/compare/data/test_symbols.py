"""Generated token ids: the targets are what they are said to be."""

from collections import Counter
from typing import Any

import numpy as np
import pytest

from compare.config.case import make_case
from compare.data.datasets import load_data
from compare.data.examples import Examples


def load(task: str, **data: Any) -> Examples:
    """The symbols of a task."""
    fields = {"name": "a", "task": task, "model": {"cell": "gru"}, "data": {"dataset": "symbols", **data}}
    examples = load_data(make_case(fields, "a"))
    assert isinstance(examples, Examples)
    return examples


def most_frequent(kinds: list[int]) -> int:
    """The most frequent kind, of equally frequent ones the first; 0 where there is none."""
    counts = Counter(kinds)
    return min(counts, key=lambda kind: (-counts[kind], kind)) if counts else 0


@pytest.mark.parametrize("padding", ["none", "right", "left", "scattered"])
@pytest.mark.parametrize("task", ["classification", "tagging"])
def test_targets_follow_from_the_ids(task: str, padding: str) -> None:
    """Counting kinds one by one gives the targets, with padding left out of the count."""
    examples = load(task, examples=40, window=6, vocabulary=8, classes=3, padding=padding)
    assert (examples.vocabulary, examples.features, examples.outputs) == (8, None, 3)
    for part in (examples.training, examples.test):
        assert part.inputs.dtype == part.targets.dtype == np.int32
        mask = np.ones(part.inputs.shape, bool) if part.mask is None else part.mask
        assert (part.mask is None) == (padding == "none")
        assert np.array_equal(part.inputs != 0, mask), "0 is padding and nothing else"
        assert part.inputs.max() == 7
        for ids, real, target in zip(part.inputs, mask, part.targets, strict=True):
            kinds = [[int(i) % 3 for i, r in zip(ids[:t], real[:t], strict=True) if r] for t in range(1, 7)]
            if task == "classification":
                assert target == most_frequent(kinds[-1])
            else:
                assert target.tolist() == [most_frequent(k) if r else 0 for k, r in zip(kinds, real, strict=True)]
