"""A trace follows from its own steps and weights, and repeats itself: what it has not from itself names its side."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.damaged_traces import DamagedTraces
from helpers.small_runs import CELLS, STEPS, STEPS_PER_EPOCH, Run

from compare.run.plan import REPETITION

TENSOR = "layer0/forward/recurrent_kernel/candidate"
SIDES = {"expected": "torch", "obtained": "keras-tensorflow"}

Change = Callable[[DamagedTraces, str], None]


@pytest.fixture
def traces(clean_run: Run, tmp_path: Path) -> DamagedTraces:
    """A copy of the clean traces of an LSTM."""
    return DamagedTraces(clean_run.folder / "lstm", tmp_path / "lstm")


@pytest.mark.parametrize("cell", CELLS)
def test_a_clean_trace_follows_from_itself(clean_run: Run, tmp_path: Path, cell: str) -> None:
    """Rows are those of the steps taken alone, predictions those of the last weights, the repetition is the same."""
    comparison = DamagedTraces(clean_run.folder / cell, tmp_path / cell).judge_whole()
    assert comparison.status == "agrees", comparison.first_difference


def scaled(column: str, step: int, factor: float = 1.01) -> Change:
    """Return a change of one recorded figure."""

    def change(traces: DamagedTraces, side: str) -> None:
        trace = traces.read(side)
        traces.set_figure(side, column, step, factor * trace.rows[step, trace.columns.index(column)])

    return change


def reverse_predictions(traces: DamagedTraces, side: str) -> None:
    """Give the predictions in reverse order."""
    traces.change_predictions(side, lambda predictions: predictions[::-1].copy())


@pytest.mark.parametrize(
    "sides", [["expected"], ["obtained"], ["expected", "obtained"]], ids=["torch", "keras", "both"]
)
@pytest.mark.parametrize(
    ("change", "location", "kind"),
    [
        pytest.param(scaled("loss", 0), (0, "loss", None), "not-its-step", id="loss"),
        pytest.param(scaled(f"gradient/{TENSOR}", 0), (0, "gradient", TENSOR), "not-its-step", id="gradient"),
        pytest.param(scaled(f"update/{TENSOR}", 0), (0, "update", TENSOR), "not-its-step", id="update"),
        pytest.param(
            scaled("loss", STEPS_PER_EPOCH), (STEPS_PER_EPOCH, "loss", None), "not-its-weights", id="loss-of-weights"
        ),
        pytest.param(
            scaled(f"gradient/{TENSOR}", STEPS_PER_EPOCH),
            (STEPS_PER_EPOCH, "gradient", TENSOR),
            "not-its-weights",
            id="gradient-of-weights",
        ),
        pytest.param(reverse_predictions, (STEPS, "evaluation", None), "not-its-weights", id="predictions"),
    ],
)
def test_what_does_not_follow_names_its_side(
    traces: DamagedTraces, change: Change, location: tuple[int, str, str | None], kind: str, sides: list[str]
) -> None:
    """A figure that is not that of the trace's own step or weights is found on one side, and on both alike."""
    for side in sides:
        change(traces, side)
    comparison = traces.judge_whole()
    own = [difference for difference in comparison.differences if difference.kind == kind]
    assert {(d.step, d.phase, d.tensor) for d in own} == {location}
    assert [d.off_side for d in own] == (["both"] if len(sides) == 2 else [SIDES[sides[0]]])
    assert comparison.first_difference in own


@pytest.mark.parametrize(("step", "factor"), [(1, 1.1), (4, 1.05), (16, 1.05)])
def test_every_checked_step_is_held_against_its_row(traces: DamagedTraces, step: int, factor: float) -> None:
    """The PyTorch side has the state before every checked step, so that the row of each must be that step's.

    In its first steps Adam makes much of little: the rounding of a gradient near zero is all of an update there.
    """
    scaled(f"update/{TENSOR}", step, factor)(traces, "expected")
    kinds = {(d.kind, d.step, d.off_side) for d in traces.judge_whole().differences}
    assert ("not-its-step", step, "torch") in kinds


@pytest.mark.parametrize(("share", "kinds"), [(0.5, set()), (50, {"not-its-step"})], ids=["less", "more"])
def test_a_tensor_has_no_more_digits_than_the_whole_update(
    traces: DamagedTraces, share: float, kinds: set[str]
) -> None:
    """Adam moves a tensor without a gradient as far as any: its row may be off by a thousandth of the whole update."""
    trace, step = traces.read("expected"), 4
    updates = {
        column: norm for column, norm in zip(trace.columns, trace.rows[step], strict=True) if "update/" in column
    }
    smallest = min(updates, key=updates.__getitem__)
    whole = float(np.linalg.norm(list(updates.values())))
    traces.set_figure("expected", smallest, step, updates[smallest] + share * 1e-3 * whole)
    own = {d.kind for d in traces.judge_whole().differences if (d.step, d.tensor) == (step, smallest.partition("/")[2])}
    assert own & {"not-its-step"} == kinds


@pytest.mark.parametrize("column", ["loss", f"gradient/{TENSOR}", f"update/{TENSOR}", "batch"])
def test_a_training_repeats_itself_bit_for_bit(traces: DamagedTraces, column: str) -> None:
    """One last bit in one figure of the repetition is a difference: the side is not deterministic."""
    scaled(column, 11, 1 + 2.0**-23)(traces, REPETITION)
    (difference,) = traces.judge_whole().differences
    assert (difference.kind, difference.step, difference.off_side) == ("not-deterministic", 11, "torch")
    assert "not deterministic" in difference.message


def test_weights_are_repeated_too(traces: DamagedTraces) -> None:
    """Weights that come out otherwise are a difference, where every recorded figure is the same."""
    traces.change_checkpoint(
        REPETITION, 2, lambda w: w | {TENSOR: np.nextafter(w[TENSOR], np.float32(1), dtype=np.float32)}
    )
    (difference,) = traces.judge_whole().differences
    assert (difference.kind, difference.tensor) == ("not-deterministic", TENSOR)


def test_a_shorter_repetition_is_none(traces: DamagedTraces) -> None:
    """A repetition that ends before its training is no repetition."""
    traces.change_rows(REPETITION, lambda columns, rows: (columns, rows[:-1]))
    assert [d.kind for d in traces.judge_whole().differences] == ["not-deterministic"]
