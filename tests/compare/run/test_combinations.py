"""Options that agree one by one agree together."""

from pathlib import Path
from typing import Any

import pytest
from helpers.small_runs import run_cases_in, tiny_case

from compare.workers.pool import Pool

COMBINED = {
    "states carried through masks for dropout": (
        "lstm",
        "tensorflow",
        {"model.stateful": True, "model.input_dropout": 0.2, "model.recurrent_dropout": 0.2, "model.layers": 2},
    ),
    "states of a single sequence": (
        "lstm",
        "tensorflow",
        {"model.stateful": True, "training.batch_size": 1, "training.epochs": 1},
    ),
    "clipped by variables between normalisations": (
        "gru",
        "torch",
        {"model.layers": 2, "model.normalization": "layer", "training.clipnorm": 0.05},
    ),
    "own dropout before the last normalisation": (
        "lstm",
        "torch",
        {"model.recurrent_dropout": 0.2, "model.dropout_masks": "independent", "model.normalization": "layer"},
    ),
    "a penalty that outweighs the loss": (
        "lstm",
        "torch",
        {
            "task": "tagging",
            "data.dataset": "text",
            "data.points": 1000,
            "data.window": 60,
            "data.examples": 40,
            "model.embedding": 2,
            "model.units": 32,
            "model.layers": 3,
            "model.recurrent_activation": "tanh",
            "model.l2": 0.1,
            "model.head": "every_output",
            "training.epochs": 1,
            "training.initial_weights": "torch",
            "training.loss": "sparse_categorical_crossentropy",
        },
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize(("cell", "backend", "fields"), COMBINED.values(), ids=COMBINED)
def test_combined_options_agree(pool: Pool, tmp_path: Path, cell: str, backend: str, fields: dict[str, Any]) -> None:
    """A case with all these options agrees, every step of it."""
    (comparison,) = run_cases_in(tmp_path / "out", pool, [tiny_case(cell, fields)], [backend]).verdict.comparisons
    assert (comparison.status, comparison.first_difference, comparison.error) == ("agrees", None, None)
