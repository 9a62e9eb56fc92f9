"""The catalogue of pairs: each mistake is named, first and with proof, and nothing is named that is not there."""

import tomllib

import pytest
from helpers.paths import PAIRS

from compare.explain.entry import explain_with
from compare.explain.pair_file import read_pair
from compare.explain.processes import Sides
from compare.known.catalogue import catalogue

EXPECTED: dict[str, list[str]] = tomllib.loads((PAIRS / "expected.toml").read_text("utf-8"))

# One of every phase in which a mistake may show, and the correct pair that is easiest to explain away.
QUICK = (
    "gru_weights_copied",
    "bidirectional_last_output",
    "softmax_then_cross_entropy",
    "sorted_by_length",
    "clipping_in_torch_alone",
    "several_naive_lstm",
    "dropout_always_active",
    "correct_stacked",
)


def check(sides: Sides, name: str) -> None:
    """Explain a pair and compare what is confirmed with what is in it."""
    comparison = explain_with(sides, read_pair(str(PAIRS / f"{name}.py")))
    entry = comparison.as_json()
    assert [cause["name"] for cause in entry["causes"]] == EXPECTED[name], entry["notes"]
    assert entry["agree"] is (not EXPECTED[name])
    assert (entry["first_difference"] is None) is (not EXPECTED[name])
    for cause in entry["causes"]:
        assert cause["confirmed"] is True
        assert cause["fix"]
        assert cause["error_before"] is None or cause["error_before"] > 10 * cause["error_after"]
    assert not any("no known cause" in note for note in entry["notes"])


def test_every_pair_is_in_the_catalogue() -> None:
    """No pair file is without an expectation; 10 are correct, 30 have one mistake and 5 have several."""
    assert sorted(EXPECTED) == sorted(file.stem for file in PAIRS.glob("*.py"))
    assert {name for causes in EXPECTED.values() for name in causes} <= catalogue().keys()
    correct = [name for name, causes in EXPECTED.items() if not causes]
    several = [name for name in EXPECTED if name.startswith("several")]
    assert all(name.startswith("correct") for name in correct)
    assert len(correct) >= 10
    assert len(several) >= 5
    assert len(EXPECTED) - len(correct) - len(several) >= 30


@pytest.mark.parametrize("name", QUICK)
def test_a_mistake_of_each_phase_is_named(sides: Sides, name: str) -> None:
    """The causes that are confirmed are those in the pair, in the order of computation, and no others."""
    check(sides, name)


@pytest.mark.parametrize(("name", "told"), [("l2_as_weight_decay", True), ("weight_decay_for_l2", False)])
def test_twice_the_coefficient_decays_alike(sides: Sides, name: str, told: bool) -> None:
    """Where PyTorch's weight decay is twice Keras's coefficient the reader learns that the loss alone differs."""
    comparison = explain_with(sides, read_pair(str(PAIRS / f"{name}.py")))
    (cause,) = comparison.causes
    assert ("makes the same updates" in cause.found) is told


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in EXPECTED if name not in QUICK])
def test_every_mistake_is_named(sides: Sides, name: str) -> None:
    """The causes that are confirmed are those in the pair, in the order of computation, and no others."""
    check(sides, name)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_other_backends_name_them_too(backend: str) -> None:
    """On the other backends the same causes are confirmed."""
    with Sides(backend, timeout=300) as sides:
        for name in QUICK:
            check(sides, name)
