"""A mask that does not reach a layer has a name, proved by the reference without it."""

from pathlib import Path

import pytest
from helpers.small_runs import run_cases_in, tiny_case

from compare.workers.pool import Pool

PADDED = {
    "data.dataset": "signals",
    "data.points": 1000,
    "data.examples": 60,
    "data.padding": "right",
    "model.layers": 2,
    "training.epochs": 1,
}
TAGGING = PADDED | {
    "task": "tagging",
    "model.head": "every_output",
    "training.loss": "sparse_categorical_crossentropy",
}


@pytest.mark.parametrize(
    ("runner", "fault", "fields", "parts"),
    [
        ("keras-torch", "keras_first_layer", PADDED, "layer0"),
        ("keras-torch", "keras_second_layer", PADDED, "layer1"),
        ("torch", "torch_first_layer", PADDED, "layer0"),
        ("torch", "torch_second_layer", TAGGING, "layer1"),
    ],
)
def test_a_lost_mask_has_a_name(
    pool: Pool, tmp_path: Path, runner: str, fault: str, fields: dict[str, object], parts: str
) -> None:
    """Where layers of one side do not see the mask, the cause is named with the layers, and proved."""
    faults = {runner: f"lost_masks.py:{fault}"}
    run = run_cases_in(tmp_path / "out", pool, [tiny_case("gru", fields)], ["torch"], faults)
    (comparison,) = run.verdict.comparisons
    (cause,) = comparison.causes
    assert (comparison.status, cause.name, cause.confirmed) == ("differs", "missing-mask", True)
    assert f"does not reach {parts} of {runner}" in cause.message
    assert cause.error_before is not None
    assert cause.error_after is not None
    assert cause.error_before > 1000 * cause.error_after


def test_another_mask_is_no_missing_one(pool: Pool, tmp_path: Path) -> None:
    """A mask that is turned round is wrong, but not missing."""
    faults = {"torch": "wrong_models.py:mask_reversed"}
    run = run_cases_in(tmp_path / "out", pool, [tiny_case("gru", PADDED)], ["torch"], faults)
    (comparison,) = run.verdict.comparisons
    assert (comparison.status, comparison.causes) == ("differs", ())
