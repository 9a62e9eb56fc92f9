"""`model.fit` and the compiled loops take the same steps."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from helpers.small_runs import BACKENDS, CELLS, STEPS, Run, run_cases_in, tiny_case

from compare.config.case import Case, with_fields
from compare.trace.trace import Trace, read_trace
from compare.workers.pool import Pool

ENGINES = ("compiled", "fit")
OTHER_CELLS = tuple(cell for cell in CELLS if cell != "gru")

# The loss that `fit` reports is its mean metric: multiplied and divided by the size of the batch, each time rounded.
UNITS = 2


def by_each_engine(*cells: str) -> list[Case]:
    """A tiny case of each cell for each engine."""
    return [
        with_fields(tiny_case(cell), {"name": f"{cell}-{engine}", "training.engine": engine})
        for cell in cells
        for engine in ENGINES
    ]


@pytest.fixture(scope="module")
def run(pool: Pool, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A tiny training of a GRU on every backend by each engine."""
    return run_cases_in(tmp_path_factory.mktemp("engines") / "out", pool, by_each_engine("gru"), BACKENDS)


@pytest.fixture(scope="module")
def others(pool: Pool, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A tiny training of the other cells, which no loop knows from a GRU, on torch, which compiles nothing."""
    return run_cases_in(tmp_path_factory.mktemp("others") / "out", pool, by_each_engine(*OTHER_CELLS), ["torch"])


def check_same_steps(compiled: Trace, fitted: Trace) -> None:
    """Raise AssertionError unless two trainings took the same steps, bit for bit but for how the loss is reported."""
    assert fitted.columns == compiled.columns
    assert fitted.rows.shape == compiled.rows.shape == (STEPS, len(compiled.columns))
    loss = compiled.columns.index("loss")
    np.testing.assert_allclose(fitted.losses, compiled.losses, rtol=UNITS * np.finfo(np.float32).eps)
    assert np.array_equal(np.delete(fitted.rows, loss, axis=1), np.delete(compiled.rows, loss, axis=1))
    assert fitted.checkpoints.keys() == compiled.checkpoints.keys() != set()
    for epoch, weights in compiled.checkpoints.items():
        assert fitted.checkpoints[epoch].keys() == weights.keys()
        for name, tensor in weights.items():
            assert np.array_equal(fitted.checkpoints[epoch][name], tensor), (epoch, name)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("runs", "cell", "backend"),
    [*(("run", "gru", backend) for backend in BACKENDS), *(("others", cell, "torch") for cell in OTHER_CELLS)],
)
def test_both_engines_take_the_same_steps(runs: str, cell: str, backend: str, request: pytest.FixtureRequest) -> None:
    """Norms and weights are equal bit for bit, the losses too but for what the mean metric rounds; both are judged."""
    run: Run = request.getfixturevalue(runs)
    check_same_steps(*(read_trace(run.folder / f"{cell}-{engine}" / f"keras-{backend}") for engine in ENGINES))
    for engine in ENGINES:
        assert run.comparison(f"{cell}-{engine}", f"keras-{backend}").status == "agrees"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "backends"),
    [
        ("compiled", BACKENDS),
        ("fit", BACKENDS),
    ],
)
def test_losses_alone_can_be_recorded(
    run: Run, pool: Pool, tmp_path: Path, engine: str, backends: Sequence[str]
) -> None:
    """Without the norms each step has its loss and the checksum of its batch, the same ones; a fault still shows."""
    case = tiny_case("gru", {"training.engine": engine, "training.record": "loss"})
    alone = run_cases_in(tmp_path / "alone", pool, [case], backends)
    for runner in ("torch", *(f"keras-{backend}" for backend in backends)):
        folders = (tmp_path / "alone" / "gru", run.folder / f"gru-{engine}")
        trace, with_norms = (read_trace(folder / runner) for folder in folders)
        assert trace.columns == ("loss", "batch")
        np.testing.assert_allclose(trace.losses, with_norms.losses, rtol=1e-5)
        assert trace.rows[:, 1].tolist() == with_norms.rows[:, -1].tolist()
    assert alone.verdict.agree
    faults = {"keras-torch": "wrong_data.py:samples_swapped_within_a_batch"}
    assert not run_cases_in(tmp_path / "faulty", pool, [case], ["torch"], faults).verdict.agree


def test_a_fault_under_fit_is_found(pool: Pool, tmp_path: Path) -> None:
    """A wrong order of samples under `model.fit` is another training, and differs."""
    case = tiny_case("gru", {"training.engine": "fit"})
    faults = {"keras-torch": "wrong_data.py:samples_swapped_within_a_batch"}
    faulty = run_cases_in(tmp_path / "out", pool, [case], ["torch"], faults)
    assert faulty.comparison("gru", "keras-torch").status == "differs"
