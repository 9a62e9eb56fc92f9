"""Models, data and batches of unusual sizes agree like any other: no size is the one that the code was made for."""

import pytest
from helpers.paths import SUNSPOTS
from helpers.small_runs import Run, run_cases_in, tiny_case

from compare.errors import InputError
from compare.run.plan import prepare
from compare.workers.pool import Pool

# What compiled loops make of the numbers of steps and the sizes of batches, `test_training_record.py` shows every day.
ODD_BACKENDS = [pytest.param("torch"), pytest.param("tensorflow", marks=pytest.mark.slow)]

# The cell, the fields, and the number of steps that follow from them.
CASES = {
    "deep": ("gru", {"model.layers": 3, "data.horizon": 3, "data.window": 1, "training.initial_weights": "torch"}, 18),
    "one-batch": ("lstm", {"model.units": 1, "training.batch_size": 500}, 3),
    "many-steps": ("simple_rnn", {"data.points": 180, "training.batch_size": 1, "training.epochs": 1}, 134),
    "nothing-counts": (
        "lstm",
        {
            "task": "tagging",
            "model.head": "every_output",
            "data.dataset": "signals",
            "data.window": 3,
            "data.padding": "scattered",
            "data.examples": 50,
            "data.points": 1000,
            "training.batch_size": 1,
            "training.epochs": 1,
            "training.loss": "sparse_categorical_crossentropy",
        },
        40,
    ),
    # Sums of 15,000 terms, and of terms that all have one sign.
    "long-sums": (
        "lstm",
        {
            "data.points": 350,
            "data.window": 100,
            "training.batch_size": 150,
            "training.epochs": 2,
            "training.loss": "mae",
        },
        4,
    ),
    "own-series": (
        "lstm",
        {
            "data.dataset": "csv",
            "data.csv": str(SUNSPOTS),
            "data.target": "sunspots",
            "data.features": ("year", "sunspots"),
            "data.window": 11,
            "seed": 7,
        },
        45,
    ),
}


@pytest.fixture(scope="module", params=ODD_BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """Two backends."""
    return request.param


@pytest.fixture(scope="module")
def odd(pool: Pool, tmp_path_factory: pytest.TempPathFactory, backend: str) -> Run:
    """All unusual cases on a backend."""
    cases = [tiny_case(cell, {"name": name} | fields) for name, (cell, fields, _) in CASES.items()]
    return run_cases_in(tmp_path_factory.mktemp("odd") / "out", pool, cases, [backend])


@pytest.mark.parametrize("name", list(CASES))
def test_unusual_sizes_agree(odd: Run, name: str, backend: str) -> None:
    """A case agrees on each backend and at every step, whatever its sizes."""
    comparison = odd.comparison(name, f"keras-{backend}")
    assert comparison.status == "agrees", comparison
    assert comparison.steps == CASES[name][2]
    # Not the losses: that of a single window may come as near to zero as it likes.
    assert comparison.max_prediction_difference is not None
    assert comparison.max_prediction_difference <= 1e-5


def test_no_case_at_all_is_refused() -> None:
    """Without a case there is nothing to compare, which must not look like agreement."""
    with pytest.raises(InputError, match="no case was given"):
        prepare([])


def test_cases_of_one_name_are_refused() -> None:
    """Two cases of one name would write into one folder."""
    with pytest.raises(InputError, match="two cases are named 'lstm'"):
        prepare([tiny_case("lstm"), tiny_case("lstm", {"seed": 1})])
