"""Every built-in case is trained on both sides, on every backend, and agrees or shows the defect that it expects."""

from pathlib import Path

import pytest
from small_runs import BACKENDS, Run, run_cases_in

from compare.case import built_in_names, load_case, with_fields
from compare.causes.defects import DEFECTS
from compare.runners import Pool

# Small enough for a test: the way the data takes is the same.
SMALL = {"training.epochs": 1, "model.units": 5}


@pytest.fixture(scope="module")
def run(pool: Pool, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A short training of every built-in case on every backend."""
    cases = [with_fields(load_case(name), SMALL) for name in built_in_names()]
    return run_cases_in(tmp_path_factory.mktemp("built-in") / "out", pool, cases, BACKENDS)


@pytest.mark.timeout(1200)  # the first to ask waits for the trainings of all
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", built_in_names())
def test_built_in_case(run: Run, name: str, backend: str) -> None:
    """A built-in case agrees on every backend; where it expects a framework's defect, that shows and is named."""
    runner = f"keras-{backend}"
    comparison = run.comparison(name, runner)
    expected = load_case(name).expected_defects
    if any(defect.runner == runner for defect in DEFECTS if defect.name in expected):
        assert comparison.status in ("differs", "failed")
        assert [cause.name for cause in comparison.causes] == ["framework-defect"]
        assert comparison.expected
    else:
        assert (comparison.status, comparison.first_difference, comparison.error) == ("agrees", None, None)
        assert comparison.checks > 0


@pytest.mark.parametrize("name", ["tagging", "stateful", "dropout"])
def test_a_planted_fault_shows_in_a_built_in_case(pool: Pool, tmp_path: Path, name: str) -> None:
    """The same trainings with two samples of a batch swapped on one side do not agree: the test above can fail."""
    case = with_fields(load_case(name), SMALL)
    faults = {"keras-tensorflow": "wrong_data.py:samples_swapped_within_a_batch"}
    run = run_cases_in(tmp_path / "out", pool, [case], ["tensorflow"], faults)
    assert [comparison.status for comparison in run.verdict.comparisons] == ["differs"]
    assert run.verdict.exit_code == 1
