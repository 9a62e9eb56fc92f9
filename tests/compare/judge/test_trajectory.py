"""Two trainings may drift apart as far as rounding carries them, which an ensemble shows, and no further."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.damaged_traces import DamagedTraces, Tensors
from helpers.small_runs import CELLS, STEPS, STEPS_PER_EPOCH, Run

from compare.judge import Comparison
from compare.judge.ensemble import measure_ensemble

# README, "How it judges": the two frameworks may drift eight times as far apart as the members did.
MARGIN = 8

# And eight ulps of the working precision, where the members happen to be nearer.
FLOOR = 8 * 2.0**-24

# Just under and just above the tolerance, but for what float32 itself cannot express.
UNDER, ABOVE = 0.98, 1.02

TENSOR = "layer0/forward/recurrent_kernel/candidate"


@pytest.fixture
def traces(clean_run: Run, tmp_path: Path) -> DamagedTraces:
    """A copy of the clean traces of an LSTM, the Keras side's replaced by the PyTorch side's: no distance at all."""
    copy = DamagedTraces(clean_run.folder / "lstm", tmp_path / "lstm")
    expected = copy.read("expected")
    copy.change_rows("obtained", lambda columns, rows: (list(expected.columns), expected.rows))
    for epoch, tensors in expected.checkpoints.items():
        copy.change_checkpoint("obtained", epoch, lambda _, tensors=tensors: tensors)
    copy.change_predictions("obtained", lambda _: expected.predictions)
    return copy


def epoch_scale(figures: np.ndarray) -> np.ndarray:
    """The root mean square of figures (steps, tensors) over each step's epoch, all tensors together."""
    squares = np.square(figures).sum(axis=1).reshape(-1, STEPS_PER_EPOCH).mean(axis=1)
    return np.repeat(np.sqrt(squares), STEPS_PER_EPOCH)


def tolerated_losses(traces: DamagedTraces) -> np.ndarray:
    """The tolerance between the roots of two losses at each step, written once more from its definition."""
    roots = np.sqrt(traces.read("expected").losses)
    separations = [np.abs(np.sqrt(member.losses) - roots) / epoch_scale(roots[:, None]) for member in traces.members]
    farthest = np.maximum.accumulate(np.maximum(np.max(separations, axis=0), 0))
    return MARGIN * np.maximum(farthest, FLOOR)


def judged_with_loss(traces: DamagedTraces, step: int, ratio: float) -> Comparison:
    """Judge with one loss moved by `ratio` times the tolerance at its step."""
    losses = traces.read("expected").losses
    roots = np.sqrt(losses)
    moved = roots[step] + ratio * tolerated_losses(traces)[step] * epoch_scale(roots[:, None])[step]
    traces.set_figure("obtained", "loss", step, moved**2)
    return traces.judge()


@pytest.mark.parametrize("sign", [1, -1], ids=["larger", "smaller"])
@pytest.mark.parametrize("step", [0, 5, 6, 11, STEPS - 1])
def test_losses_may_drift_as_far_as_the_ensemble_does(traces: DamagedTraces, step: int, sign: int) -> None:
    """A loss just under the tolerance agrees; just above it, the comparison differs at that step, in the loss."""
    under = judged_with_loss(traces, step, sign * UNDER)
    assert under.status == "agrees"
    assert under.trajectory_tolerance_ratio == pytest.approx(UNDER, rel=1e-6)

    above = judged_with_loss(traces, step, sign * ABOVE)
    assert above.status == "differs"
    assert above.first_difference is not None
    assert (above.first_difference.step, above.first_difference.phase) == (step, "loss")
    assert above.first_difference.kind == "beyond-rounding"
    assert above.first_difference.relative_error == pytest.approx(ABOVE * above.first_difference.tolerance, rel=1e-6)
    losses = [traces.read(side).losses[step] for side in ("expected", "obtained")]
    assert [above.first_difference.expected, above.first_difference.obtained] == losses


def test_the_tolerance_can_be_drawn(traces: DamagedTraces) -> None:
    """A comparison keeps the tolerance at every step, and it never shrinks."""
    curves = traces.judge().curves
    assert curves is not None
    np.testing.assert_allclose(curves.loss_tolerance, tolerated_losses(traces), rtol=1e-9)
    np.testing.assert_allclose(curves.loss_tolerance, MARGIN * curves.ensemble_loss_drift, rtol=1e-12)
    assert np.all(np.diff(curves.loss_tolerance) >= 0)


def with_norm(phase: str, step: int) -> Callable[[DamagedTraces, float], None]:
    """Return a function that moves one tensor's norm at a step by a part of the epoch's whole norm."""

    def move(traces: DamagedTraces, size: float) -> None:
        trace = traces.read("expected")
        columns = [index for index, name in enumerate(trace.columns) if name.startswith(f"{phase}/")]
        norm = trace.rows[step, trace.columns.index(f"{phase}/{TENSOR}")]
        scale = epoch_scale(trace.rows[:, columns])[step]
        traces.set_figure("obtained", f"{phase}/{TENSOR}", step, norm + size * scale)

    return move


def with_weights(epoch: int) -> Callable[[DamagedTraces, float], None]:
    """Return a function that moves one tensor of a checkpoint by a part of the norm of all weights."""

    def move(traces: DamagedTraces, size: float) -> None:
        tensors = traces.read("expected").checkpoints[epoch]
        scale = np.sqrt(sum(np.sum(np.square(tensor, dtype=np.float64)) for tensor in tensors.values()))
        moved = tensors[TENSOR].astype(np.float64)
        moved[0, 0] += size * scale
        traces.change_checkpoint("obtained", epoch, lambda _: tensors | {TENSOR: moved.astype(np.float32)})

    return move


def move_predictions(traces: DamagedTraces, size: float) -> None:
    """Move one prediction by `size`, of the scaled series."""
    predictions = traces.read("expected").predictions
    assert predictions is not None
    moved = predictions.astype(np.float64)
    moved[4, 0] += size
    traces.change_predictions("obtained", lambda _: moved.astype(np.float32))


@pytest.mark.parametrize(
    ("move", "location"),
    [
        pytest.param(with_norm("gradient", 3), (3, "gradient", TENSOR), id="gradient"),
        pytest.param(with_norm("update", 9), (9, "update", TENSOR), id="update"),
        pytest.param(with_weights(1), (STEPS_PER_EPOCH - 1, "update", TENSOR), id="weights-after-an-epoch"),
        pytest.param(with_weights(3), (STEPS - 1, "update", TENSOR), id="weights-at-the-end"),
        pytest.param(move_predictions, (STEPS, "forward", None), id="predictions"),
    ],
)
def test_everything_may_drift_as_far_as_the_ensemble_does(
    traces: DamagedTraces, move: Callable[[DamagedTraces, float], None], location: tuple[int, str, str | None]
) -> None:
    """A norm, a weight or a prediction just under its tolerance agrees, just above it differs with its location."""
    move(traces, 1e-2)
    far = traces.judge().first_difference
    assert far is not None
    assert far.relative_error == pytest.approx(1e-2, rel=1e-4)
    assert far.tolerance is not None
    assert far.tolerance <= 1e-4, "a tolerance must be rounding, not a mistake"

    # A float32 number cannot be moved by less than its last place, which here is up to a tenth of the tolerance.
    move(traces, 0.85 * far.tolerance)
    assert traces.judge().status == "agrees"
    move(traces, 1.15 * far.tolerance)
    first = traces.judge().first_difference
    assert first is not None
    assert (first.step, first.phase, first.tensor) == location
    assert first.kind == "beyond-rounding"


def test_the_first_of_two_differences_is_named(traces: DamagedTraces) -> None:
    """Of two differences the earlier is named, and the later is kept too."""
    with_norm("update", 9)(traces, 0.1)
    with_norm("gradient", 4)(traces, 0.01)
    comparison = traces.judge()
    assert comparison.first_difference is not None
    assert (comparison.first_difference.step, comparison.first_difference.phase) == (4, "gradient")
    assert {(difference.step, difference.phase) for difference in comparison.differences} >= {
        (4, "gradient"),
        (9, "update"),
    }


def test_columns_are_matched_by_name(traces: DamagedTraces) -> None:
    """The sides may list their tensors in another order, as their gates are."""
    traces.change_rows("obtained", lambda columns, rows: (columns[::-1], rows[:, ::-1]))
    assert traces.judge().status == "agrees"


def test_without_an_ensemble_nothing_agrees(traces: DamagedTraces) -> None:
    """Without members nothing is known of rounding, so that even equal traces are not said to agree."""
    comparison = traces.judge(members=[])
    assert comparison.status == "differs"
    assert comparison.first_difference is not None
    assert comparison.first_difference.kind == "no-ensemble"


def test_a_step_may_drift_as_far_as_its_own_rounding(traces: DamagedTraces) -> None:
    """From a step on that rounds by more than the members differ its phase is tolerated as much, and no other."""
    expected, norms = traces.read("expected"), {0: {"loss": 0.0, "gradient": 0.0}, 4: {"loss": 0.0, "gradient": 0.1}}
    narrow, wide = (measure_ensemble(expected, traces.members, rounded, "float32") for rounded in ({}, norms))
    gradients = expected.rows[:, [column.startswith("gradient/") for column in expected.columns]]

    np.testing.assert_array_equal(wide.tolerance("gradient")[:4], narrow.tolerance("gradient")[:4])
    np.testing.assert_allclose(wide.tolerance("gradient")[4:], (MARGIN * 0.1 / epoch_scale(gradients))[4:])
    assert (wide.tolerance("gradient")[4:] > narrow.tolerance("gradient")[4:]).all()
    np.testing.assert_array_equal(wide.tolerance("loss"), narrow.tolerance("loss"))


@pytest.mark.parametrize(("copies", "ulps"), [(1, 8), (400, (400 * STEPS) ** 0.5)], ids=["short", "long"])
def test_weights_may_drift_by_what_every_step_rounds(traces: DamagedTraces, copies: int, ulps: float) -> None:
    """Where no member drifts each weight may be off by its rounding in every step, the root of their number in ulps."""
    expected = traces.read("expected")
    training = replace(expected, rows=np.tile(expected.rows, (copies, 1)))
    weights = measure_ensemble(training, [training], {}, "float32").weights
    assert weights == pytest.approx(dict.fromkeys(weights, ulps * 2.0**-24))


MEMBER = "member-float32-2"


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda t: t.change_rows(MEMBER, lambda c, r: (c, r[:-1])), id="a-step-missing"),
        pytest.param(lambda t: t.change_rows(MEMBER, lambda c, r: (c, r[:0])), id="empty"),
        pytest.param(lambda t: t.change_rows(MEMBER, lambda c, r: (c[:-1], r[:, :-1])), id="a-column-missing"),
        pytest.param(lambda t: t.set_figure(MEMBER, f"gradient/{TENSOR}", 3, float("inf")), id="gradient-not-finite"),
        pytest.param(lambda t: t.change_predictions(MEMBER, lambda p: None), id="predictions-missing"),
        pytest.param(lambda t: t.change_predictions(MEMBER, lambda p: p[:1]), id="predictions-too-few"),
        pytest.param(
            lambda t: t.change_predictions(MEMBER, lambda p: p * np.float32("nan")), id="predictions-not-finite"
        ),
        pytest.param(lambda t: t.change_checkpoint(MEMBER, 2, lambda w: None), id="checkpoint-missing"),
        pytest.param(
            lambda t: t.change_checkpoint(MEMBER, 2, lambda w: {n: v for n, v in w.items() if n != TENSOR}),
            id="tensor-missing",
        ),
        pytest.param(
            lambda t: t.change_checkpoint(MEMBER, 2, lambda w: w | {TENSOR: w[TENSOR] * np.float32("nan")}),
            id="weights-not-finite",
        ),
    ],
)
def test_a_damaged_member_excuses_nothing(traces: DamagedTraces, damage: Callable[[DamagedTraces], None]) -> None:
    """A member that is not whole or not finite gives no tolerance, rather than one that everything is within."""
    damage(traces)
    comparison = traces.judge()
    assert comparison.status == "differs"
    assert "no-ensemble" in {difference.kind for difference in comparison.differences}


def test_a_member_that_becomes_infinite_leaves_it_open(traces: DamagedTraces) -> None:
    """Where rounding alone may carry a training to infinity nothing can be decided, and what differs before is said."""
    traces.set_figure(MEMBER, "loss", 9, float("inf"))
    comparison = traces.judge()
    assert comparison.status == "undecidable"
    assert comparison.first_difference is None
    traces.change_manifest("obtained", lambda manifest: manifest["hashes"].pop("data"))
    assert traces.judge().status == "differs"


def test_a_checked_step_speaks_for_itself(traces: DamagedTraces) -> None:
    """A side that is off the reference in a checked step differs, though a member becomes infinite in that step."""

    def twice_the_gradient(record: Tensors) -> Tensors:
        return record | {"gradient/head/bias": 2 * record["gradient/head/bias"]}

    traces.set_figure(MEMBER, "loss", 0, float("inf"))
    assert traces.judge_whole().status == "undecidable"
    traces.change_record("obtained", 0, twice_the_gradient)
    comparison = traces.judge_whole()
    assert comparison.status == "differs"
    assert comparison.first_difference is not None
    assert comparison.first_difference.tensor == "head/bias"


def test_what_drifts_before_a_member_becomes_infinite_is_found(traces: DamagedTraces) -> None:
    """Before the step from which nothing can be decided the trajectory is judged as ever, after it is not."""
    traces.set_figure(MEMBER, "loss", 9, float("inf"))
    with_norm("gradient", 11)(traces, 0.1)
    assert traces.judge().status == "undecidable"
    with_norm("gradient", 3)(traces, 0.1)
    first = traces.judge().first_difference
    assert first is not None
    assert (first.step, first.phase, first.tensor) == (3, "gradient", TENSOR)


@pytest.mark.parametrize("cell", CELLS)
def test_clean_runs_agree_with_a_margin(clean_run: Run, cell: str) -> None:
    """Null runs use only part of the tolerance, on every backend: a tolerance that is just met is no tolerance."""
    for comparison in clean_run.verdict.comparisons:
        if comparison.case == cell:
            assert comparison.status == "agrees"
            assert comparison.trajectory_tolerance_ratio is not None
            assert 0 < comparison.trajectory_tolerance_ratio < 0.5
