"""Every built-in case is trained on both sides, on every backend, and agrees or shows the defect that it expects."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from helpers.small_runs import BACKENDS, Run, run_cases_in

from compare.config.case import built_in_names, load_case, with_fields
from compare.judge import Comparison
from compare.known.defects import DEFECTS
from compare.workers.pool import Pool

# Small enough for a test: the way the data takes is the same.
SMALL = {"training.epochs": 1, "model.units": 5}


# One for each way that data, tasks and what a model keeps may take. What every option of a model computes is compared
# every day by `both_models/test_model_options.py`, and every kind of data trained on by `test_tasks.py`.
EVERY_DAY = (
    "adamw_clipped",
    "batch_normalization",
    "bidirectional_concat",
    "deep",
    "dropout",
    "embedding",
    "forecast",
    "given_states",
    "layer_normalization",
    "left_padding",
    "native_dropout",
    "sequence_first",
    "stateful",
    "sunspots",
    "tagging",
)


def trainings_of(names: Sequence[str], backends: Sequence[str], pool: Pool, factory: pytest.TempPathFactory) -> Run:
    """A short training of built-in cases on some backends."""
    cases = [with_fields(load_case(name), SMALL) for name in names]
    return run_cases_in(factory.mktemp("built-in") / "out", pool, cases, backends)


def check_case(comparison: Comparison) -> None:
    """Raise AssertionError unless a built-in case agrees or shows the defect that it expects on this backend."""
    expected = load_case(comparison.case).expected_defects
    if any(defect.runner == comparison.runner for defect in DEFECTS if defect.name in expected):
        assert comparison.status in ("differs", "failed")
        assert [cause.name for cause in comparison.causes] == ["framework-defect"]
        assert comparison.expected
    else:
        assert (comparison.status, comparison.first_difference, comparison.error) == ("agrees", None, None)
        assert comparison.checks > 0


@pytest.fixture(scope="module")
def on_torch(pool: Pool, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Some built-in cases on torch, which compiles nothing and is the quickest."""
    return trainings_of(EVERY_DAY, ["torch"], pool, tmp_path_factory)


@pytest.fixture(scope="module")
def on_every_backend(pool: Pool, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Every built-in case on every backend."""
    return trainings_of(built_in_names(), BACKENDS, pool, tmp_path_factory)


@pytest.mark.parametrize("name", EVERY_DAY)
def test_built_in_case_on_torch(on_torch: Run, name: str) -> None:
    """A built-in case agrees on torch; where it expects a defect of the framework, that shows and is named."""
    check_case(on_torch.comparison(name, "keras-torch"))


@pytest.mark.slow
@pytest.mark.timeout(2400)  # the first to ask waits for the trainings of all
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", built_in_names())
def test_built_in_case(on_every_backend: Run, name: str, backend: str) -> None:
    """Every built-in case agrees on every backend, or shows the defect that it expects there."""
    check_case(on_every_backend.comparison(name, f"keras-{backend}"))


# Keras on torch, which is the quickest, cannot train a stateful model.
@pytest.mark.parametrize(("name", "backend"), [("tagging", "torch"), ("stateful", "tensorflow"), ("dropout", "torch")])
def test_a_planted_fault_shows_in_a_built_in_case(pool: Pool, tmp_path: Path, name: str, backend: str) -> None:
    """The same trainings with two samples of a batch swapped on one side do not agree: the test above can fail."""
    case = with_fields(load_case(name), SMALL)
    faults = {f"keras-{backend}": "wrong_data.py:samples_swapped_within_a_batch"}
    run = run_cases_in(tmp_path / "out", pool, [case], [backend], faults)
    assert [comparison.status for comparison in run.verdict.comparisons] == ["differs"]
    assert run.verdict.exit_code == 1
