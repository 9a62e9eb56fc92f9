"""The catalogue of pair files: each mistake is named, first and with proof, and nothing is named that is not there."""

import ast
from pathlib import Path

import pytest
from helpers.pairs import CAUSES, MUTATIONS, mutated, pair_text, write_pair
from helpers.paths import PAIRS

from compare.explain.entry import explain_with
from compare.explain.pair_file import read_pair
from compare.explain.processes import Sides
from compare.judge.verdict import Comparison
from compare.known.catalogue import catalogue

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


def explain(sides: Sides, name: str, folder: Path) -> Comparison:
    """Explain a pair file of the catalogue."""
    return explain_with(sides, read_pair(str(write_pair(name, folder))))


def check(sides: Sides, name: str, folder: Path) -> None:
    """Explain a pair file and compare what is confirmed with what is in it."""
    entry = explain(sides, name, folder).as_json()
    assert [cause["name"] for cause in entry["causes"]] == CAUSES[name], entry["notes"]
    assert entry["agree"] is (not CAUSES[name])
    assert (entry["first_difference"] is None) is (not CAUSES[name])
    for cause in entry["causes"]:
        assert cause["confirmed"] is True
        assert cause["fix"]
        assert cause["error_before"] is None or cause["error_before"] > 10 * cause["error_after"]
    assert not any("no known cause" in note for note in entry["notes"])


def test_the_catalogue_is_whole() -> None:
    """Every base is a correct pair; 12 are correct, 60 have one mistake and 8 several; no two are the same program."""
    bases = {file.stem for file in (PAIRS / "bases").glob("*.py")}
    assert bases == {MUTATIONS[name]["base"] for name, mutation in MUTATIONS.items() if "edits" not in mutation}
    assert {cause for causes in CAUSES.values() for cause in causes} <= catalogue().keys()
    correct = {name for name, causes in CAUSES.items() if not causes}
    several = {name for name in CAUSES if name.startswith("several")}
    assert correct == {name for name in CAUSES if name.startswith("correct")}
    assert len(correct) >= 12
    assert len(several) >= 8
    assert len(CAUSES) - len(correct) - len(several) >= 60
    assert len({ast.dump(ast.parse(pair_text(name))) for name in CAUSES}) == len(CAUSES)


@pytest.mark.parametrize("text", ["a = 1\n", "b = 1\nb = 1\n"], ids=["nowhere", "twice"])
def test_a_mutation_must_match_once(text: str) -> None:
    """A text to be replaced that is not in the base, or is there twice, is an error, never an unchanged file."""
    with pytest.raises(ValueError, match="must be there once"):
        mutated(text, {"edits": {"b = 1": "b = 2"}})


@pytest.mark.parametrize("name", QUICK)
def test_a_mistake_of_each_phase_is_named(sides: Sides, name: str, tmp_path: Path) -> None:
    """The causes that are confirmed are those in the pair file, in the order of computation, and no others."""
    check(sides, name, tmp_path)


@pytest.mark.parametrize(("name", "told"), [("l2_as_weight_decay", True), ("weight_decay_for_l2", False)])
def test_twice_the_coefficient_decays_alike(sides: Sides, name: str, told: bool, tmp_path: Path) -> None:
    """Where PyTorch's weight decay is twice Keras's coefficient the reader learns that the loss alone differs."""
    (cause,) = explain(sides, name, tmp_path).causes
    assert ("makes the same updates" in cause.observation) is told


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CAUSES if name not in QUICK])
def test_every_mistake_is_named(sides: Sides, name: str, tmp_path: Path) -> None:
    """The causes that are confirmed are those in the pair file, in the order of computation, and no others."""
    check(sides, name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_other_backends_name_them_too(backend: str, tmp_path: Path) -> None:
    """On the other backends the same causes are confirmed."""
    with Sides(backend, timeout=300) as sides:
        for name in QUICK:
            check(sides, name, tmp_path)
