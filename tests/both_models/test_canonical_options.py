"""Weights and non-trainable state of every option go into either side and come back; what does not fit is named."""

from typing import Any

import numpy as np
import pytest
from helpers.framework_processes import SIDES, FrameworkProcesses
from helpers.model_options import OPTIONS, example

NON_TRAINABLE = ["simple_rnn stateful", "lstm stateful", "gru stateful", "lstm batch normalization every_output"]


@pytest.mark.parametrize("side", ["torch", "keras-torch"])
def test_round_trip_of_options_is_exact(frameworks: FrameworkProcesses, side: str) -> None:
    """Canonical weights of a model with any options are read back to the last bit, embeddings and gammas too.

    What a backend holds is read back from each in `test_canonical_weights.py`; the options are Keras's on all alike.
    """
    frameworks.call(side, "model_probes.check_option_round_trips")


@pytest.mark.parametrize("spoiled", ["directions", "gamma-beta", "embedding", "last-bit"])
@pytest.mark.parametrize("side", ["torch", "keras-torch"])
def test_round_trip_of_options_catches_faults(frameworks: FrameworkProcesses, side: str, spoiled: str) -> None:
    """The round-trip check fails where directions, gamma and beta, or rows of the embedding change places."""
    with pytest.raises(AssertionError):
        frameworks.call(side, "model_probes.check_option_round_trips", spoiled)


@pytest.mark.parametrize("name", OPTIONS)
def test_names_of_options_are_the_definition(frameworks: FrameworkProcesses, name: str) -> None:
    """Both sides give an option's weights the names and shapes in which they are drawn."""
    drawn = example(name, "float32")
    expected = {key: tensor.shape for key, tensor in drawn.weights.items()}
    for side in ("torch", "keras-torch"):
        obtained = frameworks.call(side, "probes.own_weights", drawn.keywords)
        assert {key: tensor.shape for key, tensor in obtained.items()} == expected


@pytest.mark.parametrize("name", NON_TRAINABLE)
@pytest.mark.parametrize("side", SIDES)
def test_non_trainable_state_comes_back(frameworks: FrameworkProcesses, side: str, name: str) -> None:
    """States and running figures are loaded whole, by the same names on all sides, and read to the last bit."""
    drawn = example(name, "float32")
    obtained = frameworks.call(side, "model_probes.non_trainable_round_trip", drawn, drawn.non_trainable)
    assert obtained.keys() == drawn.non_trainable.keys()
    for key, value in drawn.non_trainable.items():
        np.testing.assert_array_equal(obtained[key], value, strict=True, err_msg=key)


@pytest.mark.parametrize("side", SIDES)
def test_states_that_do_not_fit_are_named(frameworks: FrameworkProcesses, side: str) -> None:
    """A state that is missing, left over or of another shape is refused by its name."""
    drawn = example("lstm stateful", "float32")
    state = "layer0/forward/state/c"
    left = {name: value for name, value in drawn.non_trainable.items() if name != state}
    shape = drawn.non_trainable[state].shape
    for changed, message in (
        (left, f"{state} is missing"),
        (drawn.non_trainable | {"layer7/x": np.zeros(1)}, "layer7/x is not in the model"),
        (left | {state: np.zeros((1, 1))}, rf"{state} has shape \(1, 1\), expected \({shape[0]}, {shape[1]}\)"),
    ):
        with pytest.raises(ValueError, match=message):
            frameworks.call(side, "model_probes.non_trainable_round_trip", drawn, changed)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"bidirectional": "both"}, "bidirectional='both' is unknown; accepted: None, concat, sum, mul, ave"),
        ({"head": "mean"}, "head='mean' is unknown; accepted: last_state, last_output, every_output"),
        ({"dropout_masks": "mine"}, "dropout_masks='mine' is unknown; accepted: independent, shared"),
        ({"normalization": "group"}, "normalization='group' is unknown; accepted: None, layer, batch"),
        ({"embedding": 3}, "embedding=3 needs a vocabulary, the number of token ids"),
        ({"stateful": True}, "stateful=True needs a batch_size"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
@pytest.mark.parametrize("side", ["torch", "keras-torch"])
def test_options_that_make_no_sense_are_refused(
    frameworks: FrameworkProcesses, side: str, keywords: dict[str, Any], message: str
) -> None:
    """An unknown choice, and an option without what it needs, are refused with what is accepted."""
    with pytest.raises(ValueError, match=message):
        frameworks.call(side, "probes.own_weights", {"cell": "lstm", **keywords})
