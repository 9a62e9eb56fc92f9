"""What is promised of float64, float32 and stock optimizers; slow where it is promised of 25 whole epochs."""

from pathlib import Path

import pytest
from helpers.small_runs import BACKENDS, CELLS, Run, run_cases_in, tiny_case

from compare.config.case import load_case, with_fields
from compare.judge import Comparison
from compare.trace.trace import read_trace
from compare.workers.pool import Pool

EPOCHS, STEPS = 25, 625


@pytest.fixture(scope="module")
def float32(pool: Pool, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The default cases in float32 on every backend."""
    cases = [with_fields(load_case(cell), {"training.epochs": EPOCHS}) for cell in CELLS]
    return run_cases_in(tmp_path_factory.mktemp("float32") / "out", pool, cases, BACKENDS)


@pytest.fixture(scope="module")
def float64(pool: Pool, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The default cases in float64 on TensorFlow, where Keras keeps it."""
    cases = [with_fields(load_case(cell), {"training.epochs": EPOCHS, "dtype": "float64"}) for cell in CELLS]
    return run_cases_in(tmp_path_factory.mktemp("float64") / "out", pool, cases, ["tensorflow"])


@pytest.fixture(scope="module")
def short_float64(pool: Pool, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Tiny cases in float64 on TensorFlow, which keeps it, and on torch, where Keras does not."""
    cases = [tiny_case(cell, {"dtype": "float64"}) for cell in CELLS]
    return run_cases_in(tmp_path_factory.mktemp("short") / "out", pool, cases, ["tensorflow", "torch"])


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("cell", CELLS)
def test_float32_trainings_agree(float32: Run, cell: str, backend: str) -> None:
    """In float32 all 625 losses are within 1e-5, and nothing strays further than rounding carries it."""
    comparison = float32.comparison(cell, f"keras-{backend}")
    assert comparison.status == "agrees"
    assert comparison.steps == STEPS
    assert comparison.max_relative_loss_difference is not None
    assert comparison.max_relative_loss_difference <= 1e-5
    assert comparison.notes == []


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS)
def test_float64_trainings_agree(float64: Run, cell: str) -> None:
    """In float64 on TensorFlow all 625 losses are within 1e-12: the semantics are the same, not just near."""
    comparison = float64.comparison(cell, "keras-tensorflow")
    assert comparison.status == "agrees"
    assert comparison.steps == STEPS
    assert comparison.max_relative_loss_difference is not None
    assert comparison.max_relative_loss_difference <= 1e-12
    assert comparison.notes == []


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS)
def test_trainings_learn(float32: Run, cell: str) -> None:
    """The losses fall and the forecast explains most of the series: two sides that compute nothing would agree too."""
    losses = read_trace(float32.folder / cell / "torch").losses
    assert losses[-25:].mean() < 0.1 * losses[:5].mean()
    r2 = float32.comparison(cell, "keras-jax").metrics["keras-jax"]["r2"]
    assert r2 is not None
    assert r2 > 0.9


@pytest.mark.parametrize("cell", CELLS)
def test_short_float64_trainings_agree(short_float64: Run, cell: str) -> None:
    """Where Keras keeps float64, every loss of a short training is within 1e-12 too."""
    comparison = short_float64.comparison(cell, "keras-tensorflow")
    assert comparison.status == "agrees"
    assert comparison.notes == []
    assert comparison.max_relative_loss_difference is not None
    assert comparison.max_relative_loss_difference <= 1e-12


def check_narrowed(comparison: Comparison) -> None:
    """Raise AssertionError unless a float64 case was judged in float32, agrees, and says why."""
    assert comparison.status == "agrees"
    assert comparison.dtype == "float64"
    assert len(comparison.notes) == 1
    assert "computes in float32 on this backend although float64 was asked for" in comparison.notes[0]
    # It did compute in float32: otherwise the note would be wrong.
    assert comparison.max_relative_loss_difference is not None
    assert comparison.max_relative_loss_difference > 1e-10


@pytest.mark.parametrize("cell", CELLS)
def test_float64_that_keras_narrows_on_torch_is_said_to_be(short_float64: Run, cell: str) -> None:
    """On torch Keras computes a float64 case in float32: it is judged so, and says so."""
    check_narrowed(short_float64.comparison(cell, "keras-torch"))
    with pytest.raises(AssertionError):
        check_narrowed(short_float64.comparison(cell, "keras-tensorflow"))


def test_a_framework_that_cannot_do_float64_has_failed(pool: Pool, tmp_path: Path) -> None:
    """SimpleRNN in float64 on JAX has failed, with the framework's own message; it is not said to differ."""
    run = run_cases_in(tmp_path / "out", pool, [tiny_case("simple_rnn", {"dtype": "float64"})], ["jax"])
    (failed,) = run.verdict.comparisons
    assert failed.status == "failed"
    assert failed.error is not None
    assert failed.error.startswith("keras-jax: TypeError: ")
    assert "scan body function carry input and carry output must have equal types" in failed.error
    assert failed.first_difference is None
    assert run.verdict.exit_code == 3


def test_stock_optimizers_differ(pool: Pool, tmp_path: Path) -> None:
    """With each framework's own defaults every cell differs from the first update on."""
    cases = [tiny_case(cell, {"training.stock": True}) for cell in CELLS]
    run = run_cases_in(tmp_path / "out", pool, cases, ["torch"])
    for comparison in run.verdict.comparisons:
        assert comparison.status == "differs"
        first = comparison.first_difference
        assert first is not None
        assert first.step == 0
        assert first.phase == "update"
    assert run.verdict.exit_code == 1


def test_stock_differences_are_small_enough_to_be_missed(pool: Pool, tmp_path: Path) -> None:
    """A naive port of a GRU differs by less than a percent of the loss over 5 epochs, and is found all the same."""
    case = with_fields(load_case("gru"), {"training.epochs": 5, "training.stock": True})
    run = run_cases_in(tmp_path / "out", pool, [case], ["torch"])
    (comparison,) = run.verdict.comparisons
    assert comparison.status == "differs"
    assert comparison.max_relative_loss_difference is not None
    assert 1e-5 < comparison.max_relative_loss_difference < 1e-2
