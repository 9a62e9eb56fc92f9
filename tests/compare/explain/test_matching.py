"""Layers are matched by order, kind and shape; what is left over is said, with how to name it."""

from typing import Any

import pytest

from compare.errors import InputError
from compare.explain.matching import match_layers


def part(
    key: str, kind: str, shapes: dict[str, list[int]], direction: str = "forward", group: str = ""
) -> dict[str, Any]:
    """A layer as a side describes it."""
    return {
        "key": key, "path": key, "kind": kind, "direction": direction, "group": group or key, "shapes": shapes,
        "variables": {name: f"{key}/{name}" for name in shapes},
        "parameters": {name: [f"{key}.{name}"] for name in shapes},
    }  # fmt: skip


def dense(key: str, inputs: int, outputs: int) -> dict[str, Any]:
    """A dense layer."""
    return part(key, "dense", {"kernel": [inputs, outputs], "bias": [outputs]})


def gru(key: str, inputs: int, units: int, direction: str = "forward", group: str = "") -> dict[str, Any]:
    """A GRU."""
    shapes = {"kernel": [inputs, 3 * units], "recurrent_kernel": [units, 3 * units], "bias": [2, 3 * units]}
    return part(key, "gru", shapes, direction, group)


def match(keras: list[Any], torch: list[Any], mapped: dict[str, str] | None = None) -> dict[str, tuple[str, str]]:
    """The names of what was matched."""
    matches = match_layers(
        {"parts": keras, "unknown": []}, {"parts": torch, "unknown": []}, "pair.py", mapped or {}
    )  # fmt: skip
    return {pair.name: (pair.keras["key"], pair.torch["key"]) for pair in matches}


def test_matched_by_shape_and_order() -> None:
    """Layers of one shape are matched in order, others by their shape wherever they stand."""
    keras = [gru("gru", 3, 5), dense("a", 5, 5), dense("b", 5, 5), dense("c", 5, 1)]
    torch = [dense("last", 5, 1), dense("one", 5, 5), dense("two", 5, 5), gru("rnn", 3, 5)]
    assert match(keras, torch) == {
        "layer0/forward": ("gru", "rnn"), "dense0": ("a", "one"), "dense1": ("b", "two"), "head": ("c", "last"),
    }  # fmt: skip


def test_directions_stay_apart() -> None:
    """The directions of a bidirectional layer share its number."""
    keras = [gru("f", 3, 5, "forward", "bi"), gru("b", 3, 5, "backward", "bi"), gru("next", 10, 4)]
    torch = [gru("rnn|0|forward", 3, 5), gru("rnn|0|backward", 3, 5, "backward"), gru("second", 10, 4)]
    assert match(keras, torch) == {
        "layer0/forward": ("f", "rnn|0|forward"),
        "layer0/backward": ("b", "rnn|0|backward"),
        "layer1/forward": ("next", "second"),
    }


def test_parameter_map_decides() -> None:
    """Where two layers have the same shape the user's map goes before the order."""
    keras, torch = [dense("a", 5, 5), dense("b", 5, 5)], [dense("one", 5, 5), dense("two", 5, 5)]
    assert match(keras, torch, {"two.kernel": "a/kernel"}) == {"dense0": ("a", "two"), "head": ("b", "one")}


@pytest.mark.parametrize(
    ("keras", "torch", "words"),
    [
        ([dense("a", 5, 5)], [dense("one", 5, 4)], "'a' (Dense, kernel 5×5) has no layer"),
        ([dense("a", 5, 5)], [dense("one", 5, 5), dense("two", 5, 1)], "'two' (Dense, kernel 5×1) of the PyTorch"),
        ([gru("g", 3, 5)], [gru("g", 3, 5, "backward")], "parameter_map = {"),
        ([], [], "nothing to compare"),
    ],
    ids=["shape", "left-over", "direction", "empty"],
)
def test_what_does_not_fit_is_said(keras: list[Any], torch: list[Any], words: str) -> None:
    """A layer without a counterpart on either side is refused by name."""
    with pytest.raises(InputError) as refused:
        match(keras, torch)
    assert words in str(refused.value)


def test_wrong_maps_are_refused() -> None:
    """A map that names what is not there is refused with what is."""
    with pytest.raises(InputError, match=r"names 'three\.kernel'; the module has one\.kernel"):
        match([dense("a", 5, 5)], [dense("one", 5, 5)], {"three.kernel": "a/kernel"})
    with pytest.raises(InputError, match="names 'z/kernel'; the Keras model has a/kernel"):
        match([dense("a", 5, 5)], [dense("one", 5, 5)], {"one.kernel": "z/kernel"})
