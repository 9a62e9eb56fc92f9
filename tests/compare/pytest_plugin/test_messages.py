"""What a failing check of a pair says: short lines, each cause once, and the cause last."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compare.judge import Comparison, Difference
from compare.judge.verdict import Cause
from compare.pytest_plugin.messages import pair_failure

SOURCE = {"file": "/home/user/project/tests/models/pair.py", "line": 27, "text": "x = x.view(b, t, f)", "side": "torch"}
MESSAGE = (
    "both biases of the layer are trained, where Keras trains one, so that their sum moves twice as far at every step"
)
FIX = "for name, parameter in module.named_parameters(): parameter.requires_grad_(not name.endswith('bias_hh_l0'))"
BIASES = Cause("two-biases", True, MESSAGE, FIX, 1e-3, 1e-9, tensor="weight", source=SOURCE)
EPSILON = Cause("adam-epsilon", True, "Adam's epsilon is another", "eps=1e-7", 1e-3, 1e-9)
FIRST = Difference("beyond-rounding", 0, "update", "the update is another " * 9, "rnn/bias", 2e-3, 1e-6, source=SOURCE)


def differing(runner: str, *causes: Cause) -> Comparison:
    """A comparison that differs for these causes."""
    return Comparison("pair", runner, "torch", "float32", "differs", differences=[FIRST], causes=causes)


TORCH, JAX = (
    differing("keras-torch", BIASES, EPSILON),
    differing("keras-jax", replace(EPSILON, error_after=3e-9), BIASES),
)


def test_each_cause_is_said_once() -> None:
    """What two backends have in common is said once, with both named, though its figures and its order differ."""
    text = pair_failure([TORCH, JAX], 3, ["To repeat it: …"])
    assert text.startswith("pair does not agree on keras-torch, keras-jax, 2 of 3 compared.\n")
    assert text.count("two-biases on keras-torch, keras-jax") == 1
    assert text.count("adam-epsilon on keras-torch, keras-jax") == 1
    assert text.count("Fix: eps=1e-7") == 1
    assert text.count("first at step 0, update, rnn/bias") == 1
    assert text.splitlines()[-1] == "Cause: two-biases, adam-epsilon"


def test_a_cause_of_one_backend_names_it() -> None:
    """A cause that one backend alone has is said of that one."""
    lines = pair_failure([TORCH, differing("keras-jax", BIASES)], 2, []).splitlines()
    assert "adam-epsilon on keras-torch" in lines
    assert "two-biases on keras-torch, keras-jax" in lines


@given(
    words=st.lists(st.text("abcdefgh", min_size=1, max_size=20), min_size=1, max_size=60), backends=st.integers(1, 3)
)
def test_lines_fit_a_terminal(words: list[str], backends: int) -> None:
    """Whatever is to be said, no line is longer than 80 columns, unless it is one word."""
    cause = replace(BIASES, message=" ".join(words), fix=" ".join(reversed(words)))
    runners = ("keras-torch", "keras-jax", "keras-tensorflow")[:backends]
    text = pair_failure([differing(runner, cause, EPSILON) for runner in runners], 3, [])
    assert max(map(len, text.splitlines())) <= 80
    assert all(word in text for word in words)


@pytest.mark.parametrize(
    ("comparison", "last"),
    [
        (differing("keras-torch"), "Cause: none that is known explains it"),
        (differing("keras-torch", replace(BIASES, confirmed=False)), "Cause: none that is known explains it"),
        (
            Comparison("pair", "keras-jax", "torch", "float32", "failed", error="it broke"),
            "Cause: none that is known explains it",
        ),
    ],
    ids=["unexplained", "not-confirmed", "failed"],
)
def test_without_a_cause_the_last_line_says_so(comparison: Comparison, last: str) -> None:
    """Where no cause was confirmed none is named, and what was seen or broke is said above."""
    text = pair_failure([comparison], 1, [])
    assert text.splitlines()[-1] == last
    assert ("first at step 0" in text) == (comparison.status == "differs")
    assert ("it broke" in text) == (comparison.status == "failed")
