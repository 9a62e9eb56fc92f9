"""A verdict agrees if there was something to compare and all of it agrees."""

import json

import pytest

from compare.judge import Comparison, Difference, Verdict

EXIT_CODES = [
    pytest.param([], 3, id="no-comparison"),
    pytest.param(["agrees"], 0, id="one"),
    pytest.param(["agrees", "agrees"], 0, id="all-agree"),
    pytest.param(["agrees", "differs"], 1, id="one-differs"),
    pytest.param(["agrees", "failed"], 3, id="one-failed"),
    pytest.param(["differs", "failed", "agrees"], 1, id="a-difference-goes-first"),
    pytest.param(["failed"], 3, id="only-failed"),
]

# The keys that others rely on: contract.md.
KEYS = {
    "case", "runner", "reference", "dtype", "agree", "status", "error", "checks", "steps",
    "max_relative_loss_difference", "max_prediction_difference", "metrics", "first_difference", "causes",
}  # fmt: skip
LOCATION_KEYS = {
    "step", "phase", "tensor", "layer", "direction", "gate", "timestep", "relative_error", "allowed", "off_side",
}  # fmt: skip


def comparison(status: str, differences: tuple[Difference, ...] = ()) -> Comparison:
    """A comparison of which only the status matters."""
    return Comparison("lstm", "keras-jax", "torch", "float32", status, differences=differences)


@pytest.mark.parametrize(("statuses", "code"), EXIT_CODES)
def test_exit_codes(statuses: list[str], code: int) -> None:
    """The exit code is 0 only if there are comparisons and all agree; 1 if one differs, else 3."""
    verdict = Verdict([comparison(status) for status in statuses])
    assert verdict.exit_code == code
    assert verdict.agree == (code == 0)
    assert verdict.as_json()["agree"] == (code == 0)


def test_json_has_the_keys_of_the_contract() -> None:
    """A verdict as JSON has every key that is promised, whatever came of the comparison."""
    location = Difference("kind", 3, "update", "message", "layer0/forward/kernel/reset", 0.5, 0.25)
    verdict = Verdict([comparison("failed"), comparison("agrees"), comparison("differs", (location,))])
    content = json.loads(json.dumps(verdict.as_json()))
    assert content.keys() >= {"agree", "schema", "comparisons"}
    assert content["schema"] == 1
    for entry in content["comparisons"]:
        assert entry.keys() >= KEYS
        assert entry["agree"] == (entry["status"] == "agrees")
    assert content["comparisons"][2]["first_difference"].keys() >= LOCATION_KEYS
    assert [entry["first_difference"] for entry in content["comparisons"][:2]] == [None, None]


@pytest.mark.parametrize(
    ("tensor", "location"),
    [
        ("layer1/forward/recurrent_kernel/reset", ("layer1", "forward", "reset")),
        ("layer0/backward/bias", ("layer0", "backward", None)),
        ("head/kernel", ("head", None, None)),
        (None, (None, None, None)),
    ],
)
def test_locations_are_taken_from_the_tensors_name(tensor: str | None, location: tuple[str | None, ...]) -> None:
    """Layer, direction and gate of a difference are those in the name of its tensor."""
    content = Difference("kind", 3, "gradient", "message", tensor).as_json()
    assert (content["layer"], content["direction"], content["gate"]) == location
    assert content["tensor"] == tensor


def test_the_first_difference_is_first_in_the_order_of_computation() -> None:
    """Differences are ordered by step, then by the phase in which a step computes."""
    order = [(0, "start"), (2, "forward"), (2, "loss"), (2, "gradient"), (2, "clip"), (2, "update"), (3, "forward")]
    differences = [Difference(f"{step}{phase}", step, phase, "message") for step, phase in order]
    for count in range(1, len(differences) + 1):
        first = comparison("differs", tuple(reversed(differences[-count:]))).first_difference
        assert first == differences[-count]


@pytest.mark.parametrize("value", [float("nan"), float("inf")], ids=str)
def test_json_has_no_numbers_that_json_has_not(value: float) -> None:
    """NaN and infinity become null, so that every JSON reader can read a verdict."""
    location = Difference("kind", 0, "loss", "message", relative_error=value, tolerance=value, obtained=value)
    infinite = Comparison(
        "lstm", "keras-jax", "torch", "float32", "differs",
        max_relative_loss_difference=value, max_prediction_difference=value, differences=[location],
    )  # fmt: skip
    content = infinite.as_json()
    json.dumps(content, allow_nan=False)
    assert content["max_relative_loss_difference"] is None
    assert content["first_difference"]["relative_error"] is None
    assert content["first_difference"]["obtained"] is None
