"""The reference's own training: it sees what both sides do wrong, names who is off, and bounds the ensemble."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.damaged_traces import DamagedTraces
from helpers.small_runs import CELLS, STEPS, Run

from compare.experiment.experiment import read_experiment
from compare.judge.drift import drift_by_phase
from compare.judge.ensemble import measure_ensemble
from compare.judge.replay import REPLAY_SECONDS, Replay, affordable_steps
from compare.judge.witness import Witness
from compare.run.plan import REPETITION
from compare.trace.trace import Trace, read_trace

# No checked step.
STEP = 11
TENSOR = "layer0/forward/recurrent_kernel/candidate"
SIDES = {"expected": "torch", "obtained": "keras-tensorflow"}


@pytest.fixture
def traces(clean_run: Run, tmp_path: Path) -> DamagedTraces:
    """A copy of the clean traces of an LSTM."""
    return DamagedTraces(clean_run.folder / "lstm", tmp_path / "lstm")


def from_step(phase: str, factor: Callable[[int], float]) -> Callable[[DamagedTraces, str], None]:
    """Return a change of all figures of a phase from STEP on, by a factor of the number of steps since."""

    def change(traces: DamagedTraces, side: str) -> None:
        def moved(columns: list[str], rows: np.ndarray) -> tuple[list[str], np.ndarray]:
            chosen = [index for index, name in enumerate(columns) if name.partition("/")[0] == phase]
            for step in range(STEP, len(rows)):
                rows[step, chosen] *= factor(step - STEP)
            return columns, rows

        traces.change_rows(side, moved)

    return change


once = from_step("update", lambda since: 2.0 if since == 0 else 1.0)
PYTORCH = ("expected", REPETITION, *(f"member-float32-{seed}" for seed in (1, 2, 3, 4)))


@pytest.mark.parametrize("cell", CELLS)
def test_the_reference_trains_as_both_sides_do(clean_run: Run, cell: str) -> None:
    """In float64 the reference comes to the rows and weights of a float32 training, but for rounding."""
    folder = clean_run.folder / cell
    traces = [read_trace(folder / runner) for runner in SIDES.values()]
    exact = Replay(read_experiment(folder / "experiment"), traces[0], "float32").train(STEPS)
    assert len(exact.rows) == STEPS
    for trace in traces:
        assert max(drift.values.max() for drift in drift_by_phase(exact, trace, STEPS)) < 1e-4
        for epoch, weights in trace.checkpoints.items():
            for name, tensor in weights.items():
                np.testing.assert_allclose(exact.checkpoints[epoch][name], tensor, atol=1e-4)


def test_what_both_sides_and_the_ensemble_do_alike_is_found(traces: DamagedTraces) -> None:
    """A step doubled on both sides, in the repetition and in every member, is found at its step, on both sides."""
    for side in (*PYTORCH, "obtained"):
        once(traces, side)
    first = traces.judge_whole().first_difference
    assert first is not None
    assert (first.step, first.phase, first.off_side) == (STEP, "update", "both")


@pytest.mark.parametrize("step", [8, STEP], ids=["checked", "not checked"])
def test_a_kink_of_the_reference_alone_is_no_fault(
    traces: DamagedTraces, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Where both sides go on from PyTorch's last state as the reference does, its own training may leave them.

    Here that has another gradient at a step, as a relu gives it for other last bits.
    """
    train = Witness._train

    def at_a_kink(self: Witness, seconds: float, seed: int | None = None) -> Trace:
        trace = train(self, seconds, seed)
        rows = trace.rows.copy()
        rows[step, trace.columns.index(f"gradient/{TENSOR}")] *= 1.5
        kinked = replace(trace, rows=rows)
        vars(kinked).update(checkpoints=trace.checkpoints, _predicted={})
        return kinked

    monkeypatch.setattr(Witness, "_train", at_a_kink)
    assert traces.judge_whole().status == "agrees"
    monkeypatch.setattr(Witness, "_follows_from_a_state", lambda *_: False)
    assert traces.judge_whole().status == "differs"


@pytest.mark.parametrize("side", SIDES)
def test_the_side_that_leaves_the_reference_is_off(traces: DamagedTraces, side: str) -> None:
    """A step doubled in all trainings of one side is found at its step, and that side is named."""
    for folder in PYTORCH if side == "expected" else ["obtained"]:
        once(traces, folder)
    first = traces.judge_whole().first_difference
    assert first is not None
    assert (first.kind, first.step, first.phase, first.off_side) == ("beyond-rounding", STEP, "update", SIDES[side])


@pytest.mark.parametrize("side", SIDES)
def test_an_update_that_keeps_its_norm_is_found_at_its_step(traces: DamagedTraces, side: str) -> None:
    """Where losses and gradients are others from a step on, it was the update before it that led elsewhere."""
    for folder in PYTORCH if side == "expected" else ["obtained"]:
        for phase in ("loss", "gradient"):
            from_step(phase, lambda since: 1.1)(traces, folder)
    first = traces.judge_whole().first_difference
    assert first is not None
    assert (first.step, first.phase, first.off_side) == (STEP - 1, "update", SIDES[side])


def test_a_fault_in_other_steps_of_each_member_does_not_widen_the_tolerance(traces: DamagedTraces) -> None:
    """Members that part as no rounding does excuse no difference: their drift is bounded by the reference's."""
    for number, folder in enumerate(PYTORCH):
        if folder != REPETITION:
            from_step("update", lambda since, n=number: 2.0 if since % 4 == n % 4 else 1.0)(traces, folder)
    from_step("update", lambda since: 2.0 if since % 4 == 0 else 1.0)(traces, REPETITION)
    ensemble = measure_ensemble(traces.read("expected"), traces.members, {}, "float32")
    assert ensemble.by_phase["update"][STEP] > 0.1
    comparison = traces.judge_whole()
    first = comparison.first_difference
    assert first is not None
    assert (first.step, first.phase, first.off_side) == (STEP, "update", "torch")


def test_beyond_the_horizon_a_trajectory_is_not_judged(traces: DamagedTraces) -> None:
    """Where rounding carries losses and gradients as far as they are large, they are not judged; that is noted."""
    for folder in PYTORCH[2:]:
        for phase in ("loss", "gradient"):
            from_step(phase, lambda since: 3.0)(traces, folder)
    ensemble = measure_ensemble(traces.read("expected"), traces.members, {}, "float32")
    assert ensemble.horizon == STEP
    # A training may be one step ahead.
    assert np.isinf(ensemble.tolerance("loss")[STEP - 1 :]).all()
    assert np.isfinite(ensemble.tolerance("loss")[: STEP - 1]).all()
    for phase in ("loss", "gradient"):
        from_step(phase, lambda since: 2.0)(traces, "obtained")
    comparison = traces.judge()
    assert comparison.status == "agrees"
    assert any(f"from step {STEP} of {STEPS} on" in note for note in comparison.notes)
    traces.set_figure("obtained", "loss", STEP - 2, 100.0)
    assert traces.judge().status == "differs"


def test_a_replay_stays_affordable(traces: DamagedTraces) -> None:
    """A small training is replayed whole; of any, no more than its time allows, by its sizes alone."""
    assert affordable_steps(traces.experiment, REPLAY_SECONDS) == STEPS
    assert affordable_steps(traces.experiment, 0.0) == 0
