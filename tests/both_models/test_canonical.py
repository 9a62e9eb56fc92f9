"""Canonical weights and non-trainable state go into either side and come back; what does not fit is named."""

from typing import Any

import numpy as np
import pytest
from helpers.framework_processes import SIDES, FrameworkProcesses
from helpers.model_options import example, random_weights

SHAPE = {"cell": "lstm", "features": 2, "units": 3}


@pytest.mark.parametrize("side", SIDES)
def test_round_trip_is_exact(frameworks: FrameworkProcesses, side: str) -> None:
    """Canonical weights of a model with any options are read back to the last bit, embeddings and gammas too."""
    frameworks.call(side, "model_probes.check_round_trips")


@pytest.mark.parametrize(
    "spoiled", ["transposed", "no-biases", "two-biases", "update-reset", "directions", "gamma-beta", "embedding", "bit"]
)
def test_round_trip_check_catches_faults(frameworks: FrameworkProcesses, spoiled: str) -> None:
    """The round-trip check fails where other weights are read than were expected."""
    with pytest.raises(AssertionError):
        frameworks.call("torch", "model_probes.check_round_trips", spoiled)


@pytest.mark.parametrize("side", SIDES)
def test_weights_that_do_not_fit_are_named(frameworks: FrameworkProcesses, side: str) -> None:
    """Loading raises ValueError that names each tensor that is missing, left over or of another shape."""
    changed = random_weights(SHAPE, seed=5) | {"extra": np.zeros(1), "layer0/forward/kernel/input": np.zeros((3, 2))}
    del changed["head/bias"]
    with pytest.raises(ValueError, match="canonical weights do not fit the model") as raised:
        frameworks.call(side, "probes.loaded_weights", SHAPE, changed)
    assert str(raised.value).partition(": ")[2].split("; ") == [
        "head/bias is missing",
        "extra is not in the model",
        "layer0/forward/kernel/input has shape (3, 2), expected (2, 3)",
    ]


@pytest.mark.parametrize("name", ["simple_rnn stateful", "lstm stateful", "lstm batch normalization every_output"])
@pytest.mark.parametrize("side", SIDES)
def test_non_trainable_state_comes_back(frameworks: FrameworkProcesses, side: str, name: str) -> None:
    """States and running figures are loaded whole, by the same names on all sides; a part of them is refused."""
    drawn = example(name, "float32")
    obtained = frameworks.call(side, "model_probes.non_trainable_round_trip", drawn, drawn.non_trainable)
    assert obtained.keys() == drawn.non_trainable.keys()
    for key, value in drawn.non_trainable.items():
        np.testing.assert_array_equal(obtained[key], value, strict=True, err_msg=key)
    first, *others = drawn.non_trainable
    with pytest.raises(ValueError, match=f"{first} is missing"):
        frameworks.call(
            side, "model_probes.non_trainable_round_trip", drawn, {key: drawn.non_trainable[key] for key in others}
        )


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"cell": "elman"}, "'elman' is unknown; accepted: simple_rnn, lstm, gru"),
        ({"bidirectional": "both"}, "bidirectional='both' is unknown; accepted: None, concat, sum, mul, ave"),
        ({"normalization": "group"}, "normalization='group' is unknown; accepted: None, layer, batch"),
        ({"units": 0}, "units=0 must be at least 1"),
        ({"layers": 0}, "layers=0 must be at least 1"),
        ({"embedding": 3}, "embedding=3 needs a vocabulary, the number of token ids"),
        ({"stateful": True}, "stateful=True needs a batch_size"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
@pytest.mark.parametrize("side", ["torch", "keras-torch"])
def test_options_that_make_no_sense_are_refused(
    frameworks: FrameworkProcesses, side: str, keywords: dict[str, Any], message: str
) -> None:
    """An unknown choice, a size below 1 and an option without what it needs are refused with what is accepted."""
    with pytest.raises(ValueError, match=message):
        frameworks.call(side, "probes.own_weights", {"cell": "lstm", **keywords})
