"""Nothing passes because it is missing: what a trace lacks, has too much or cannot be is a difference of its kind."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.damaged_traces import RUNNERS, DamagedTraces
from helpers.small_runs import STEPS, STEPS_PER_EPOCH, Run

from compare.judge import Comparison, Verdict
from compare.trace.trace import TraceError

SIDES = pytest.mark.parametrize("side", ["expected", "obtained"])
KERNEL = "layer0/forward/kernel/forget"


@pytest.fixture
def traces(clean_run: Run, tmp_path: Path) -> DamagedTraces:
    """A copy of the clean traces of an LSTM."""
    return DamagedTraces(clean_run.folder / "lstm", tmp_path / "lstm")


def first_of_kind(comparison: Comparison, kind: str) -> dict[str, Any]:
    """The first difference of a comparison that must differ, and first for this reason."""
    assert comparison.status == "differs"
    first = comparison.first_difference
    assert first is not None
    assert first.kind == kind, first.message
    return first.as_json()


def test_the_same_traces_agree(traces: DamagedTraces) -> None:
    """Copied and judged again, clean traces agree: what the other tests find is what they damaged."""
    comparison = traces.judge()
    assert comparison.status == "agrees"
    assert comparison.differences == []
    assert comparison.first_difference is None
    assert comparison.steps == STEPS
    assert comparison.checks > len(traces.read("expected").columns)


def test_a_trace_agrees_with_itself(traces: DamagedTraces) -> None:
    """Two equal traces are no distance apart."""
    traces.change_rows(
        "obtained", lambda columns, rows: (traces.read("expected").columns, traces.read("expected").rows)
    )
    assert traces.judge().max_relative_loss_difference == 0


@pytest.mark.parametrize("side", ["obtained", "member-float32-2"])
def test_unequal_devices_are_refused(traces: DamagedTraces, side: str) -> None:
    """Trainings on a GPU are not judged against trainings on a CPU, and the message says which ran where."""
    traces.change_manifest(side, lambda manifest: manifest["execution"].update(device="cuda"))
    with pytest.raises(TraceError, match=r"torch ran on cpu, .* ran on cuda; give all runners one --device"):
        traces.judge()


@pytest.mark.parametrize("column", [f"gradient/{KERNEL}", f"update/{KERNEL}", "loss"])
@pytest.mark.parametrize(("side", "kind"), [("obtained", "missing-tensor"), ("expected", "extra-tensor")])
def test_missing_columns(traces: DamagedTraces, side: str, kind: str, column: str) -> None:
    """A recorded figure that one side lacks is named; nothing else is concluded from what is left."""

    def drop(columns: list[str], rows: np.ndarray) -> tuple[list[str], np.ndarray]:
        index = columns.index(column)
        return columns[:index] + columns[index + 1 :], np.delete(rows, index, axis=1)

    traces.change_rows(side, drop)
    location = first_of_kind(traces.judge(), kind)
    assert location["tensor"] == (KERNEL if "/" in column else column)


@pytest.mark.parametrize("column", [f"gradient/{KERNEL}", f"update/{KERNEL}", "loss", "batch"])
def test_a_column_that_both_lack(traces: DamagedTraces, column: str) -> None:
    """Two traces without a figure are as wrong as one."""

    def drop(columns: list[str], rows: np.ndarray) -> tuple[list[str], np.ndarray]:
        index = columns.index(column)
        return columns[:index] + columns[index + 1 :], np.delete(rows, index, axis=1)

    for side in ("expected", "obtained"):
        traces.change_rows(side, drop)
    assert first_of_kind(traces.judge(), "missing-tensor")["tensor"] == (KERNEL if "/" in column else column)


@pytest.mark.parametrize("side", ["obtained", "expected"])
def test_extra_columns(traces: DamagedTraces, side: str) -> None:
    """A recorded figure of a tensor that the other side does not have is named."""

    def add(columns: list[str], rows: np.ndarray) -> tuple[list[str], np.ndarray]:
        return [*columns, "gradient/layer9/forward/kernel/forget"], np.column_stack([rows, rows[:, 0]])

    traces.change_rows(side, add)
    location = first_of_kind(traces.judge(), "extra-tensor" if side == "obtained" else "missing-tensor")
    assert (location["layer"], location["direction"], location["gate"]) == ("layer9", "forward", "forget")


@SIDES
@pytest.mark.parametrize("left", [1, STEPS_PER_EPOCH, STEPS - 1])
def test_missing_steps(traces: DamagedTraces, side: str, left: int) -> None:
    """A trace that ends too early differs at the first step that it lacks, and says whose it is."""
    traces.change_rows(side, lambda columns, rows: (columns, rows[:left]))
    location = first_of_kind(traces.judge(), "missing-steps")
    assert location["step"] == left
    assert location["off_side"] == traces.read(side).manifest["runner"]


@SIDES
def test_a_cut_file(traces: DamagedTraces, side: str) -> None:
    """A trace whose file was cut differs, and is said to be cut."""
    steps = traces.path(side) / "steps.bin"
    steps.write_bytes(steps.read_bytes()[:-1])
    location = first_of_kind(traces.judge(), "missing-steps")
    assert "cut short" in location["message"]


@SIDES
def test_steps_too_many(traces: DamagedTraces, side: str) -> None:
    """A trace with more steps than were planned differs."""
    traces.change_rows(side, lambda columns, rows: (columns, np.concatenate([rows, rows[-1:]])))
    assert first_of_kind(traces.judge(), "missing-steps")["step"] == STEPS


@pytest.mark.parametrize("sides", [["expected"], ["obtained"], ["expected", "obtained"]], ids="-and-".join)
def test_empty_traces(traces: DamagedTraces, sides: list[str]) -> None:
    """A trace without a step differs, and so do two."""
    for side in sides:
        traces.change_rows(side, lambda columns, rows: (columns, rows[:0]))
    comparison = traces.judge()
    assert first_of_kind(comparison, "empty")["phase"] == "start"
    assert comparison.steps == 0
    assert comparison.max_relative_loss_difference is None


@SIDES
def test_a_trace_without_an_end(traces: DamagedTraces, side: str) -> None:
    """A trace with all its steps and no end differs: the runner died before it was done."""
    (traces.path(side) / "end.json").unlink()
    assert first_of_kind(traces.judge(), "incomplete")["off_side"] == traces.read(side).manifest["runner"]


@pytest.mark.parametrize("sides", [["expected"], ["obtained"]], ids="-and-".join)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")], ids=str)
def test_a_loss_that_is_not_finite(traces: DamagedTraces, sides: list[str], value: float) -> None:
    """NaN or infinity in the loss of one side differs from its step on."""
    for side in sides:
        traces.set_figure(side, "loss", 7, value)
    location = first_of_kind(traces.judge(), "not-finite")
    assert (location["step"], location["phase"]) == (7, "loss")
    assert location["off_side"] == (traces.read(sides[0]).manifest["runner"] if len(sides) == 1 else "both")


@pytest.mark.parametrize("value", [float("nan"), float("inf")], ids=str)
@pytest.mark.parametrize("phase", ["gradient", "update"])
@SIDES
def test_a_norm_that_is_not_finite(traces: DamagedTraces, side: str, phase: str, value: float) -> None:
    """NaN or infinity in a tensor's gradient or update differs at its step, with the tensor's name."""
    traces.set_figure(side, f"{phase}/{KERNEL}", 7, value)
    comparison = traces.judge()
    assert comparison.status == "differs"
    if side == "obtained":
        first = comparison.as_json()["first_difference"]
        assert (first["step"], first["phase"], first["tensor"]) == (7, phase, KERNEL)


@SIDES
def test_missing_checkpoints(traces: DamagedTraces, side: str) -> None:
    """Weights that one side did not keep after an epoch differ at the epoch's last step."""
    traces.change_checkpoint(side, 2, lambda tensors: None)
    location = first_of_kind(traces.judge(), "missing-checkpoint")
    assert (location["step"], location["phase"]) == (2 * STEPS_PER_EPOCH - 1, "update")
    assert location["off_side"] == traces.read(side).manifest["runner"]


@pytest.mark.parametrize(("side", "kind"), [("obtained", "missing-tensor"), ("expected", "extra-tensor")])
def test_missing_tensors_in_a_checkpoint(traces: DamagedTraces, side: str, kind: str) -> None:
    """A tensor that one side's checkpoint lacks is named."""
    traces.change_checkpoint(side, 1, lambda tensors: {name: t for name, t in tensors.items() if name != KERNEL})
    location = first_of_kind(traces.judge(), kind)
    assert (location["tensor"], location["step"]) == (KERNEL, STEPS_PER_EPOCH - 1)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda tensor: tensor.T, id="transposed"),
        pytest.param(lambda tensor: tensor[None], id="another-rank"),
        pytest.param(lambda tensor: tensor[:, :1], id="smaller"),
        pytest.param(lambda tensor: tensor.astype(np.float64), id="dtype"),
    ],
)
@SIDES
def test_tensors_of_another_shape(traces: DamagedTraces, side: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """A tensor of another shape or dtype in a checkpoint is named, also where broadcasting would hide it."""
    traces.change_checkpoint(side, 1, lambda tensors: tensors | {KERNEL: change(tensors[KERNEL])})
    location = first_of_kind(traces.judge(), "shape")
    assert (location["tensor"], location["step"]) == (KERNEL, STEPS_PER_EPOCH - 1)


@SIDES
def test_weights_that_are_not_finite(traces: DamagedTraces, side: str) -> None:
    """NaN in the weights of a checkpoint differs."""
    traces.change_checkpoint(side, 3, lambda tensors: tensors | {KERNEL: tensors[KERNEL] * np.float32("nan")})
    assert traces.judge().status == "differs"


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        pytest.param(lambda predictions: None, "missing-predictions", id="missing"),
        pytest.param(lambda predictions: predictions[:0], "missing-predictions", id="empty"),
        pytest.param(lambda predictions: predictions[:-1], "shape", id="one-fewer"),
        pytest.param(lambda predictions: predictions[:1], "shape", id="one-for-all"),
        pytest.param(lambda predictions: predictions[:, 0], "shape", id="another-rank"),
    ],
)
@SIDES
def test_missing_predictions(
    traces: DamagedTraces, side: str, change: Callable[[np.ndarray], np.ndarray | None], kind: str
) -> None:
    """Predictions that are missing, or not of the shape of what they predict, differ and say whose they are."""
    traces.change_predictions(side, change)
    location = first_of_kind(traces.judge(), kind)
    assert (location["step"], location["phase"]) == (STEPS, "forward")
    assert location["off_side"] == traces.read(side).manifest["runner"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")], ids=str)
@SIDES
def test_predictions_that_are_not_finite(traces: DamagedTraces, side: str, value: float) -> None:
    """One prediction that is no number differs, and leaves that side without metrics rather than with NaN."""

    def spoil(predictions: np.ndarray) -> np.ndarray:
        predictions = predictions.copy()
        predictions[3] = value
        return predictions

    traces.change_predictions(side, spoil)
    comparison = traces.judge()
    assert comparison.status == "differs"
    assert comparison.as_json()["max_prediction_difference"] is None
    for other, runner in RUNNERS.items():
        assert (comparison.metrics[runner]["mse"] is None) == (other == side)


@pytest.mark.parametrize("name", ["data", "schedule", "weights"])
@SIDES
def test_another_start(traces: DamagedTraces, side: str, name: str) -> None:
    """Another hash of the data, the schedule or the initial weights differs before the first step."""
    traces.change_manifest(side, lambda manifest: manifest["hashes"].update({name: "0" * 64}))
    location = first_of_kind(traces.judge(), "start")
    assert (location["phase"], location["tensor"]) == ("start", name)


@pytest.mark.parametrize("name", ["data", "schedule", "weights"])
@pytest.mark.parametrize("sides", [["expected"], ["obtained"], ["expected", "obtained"]], ids="-and-".join)
def test_missing_hashes(traces: DamagedTraces, sides: list[str], name: str) -> None:
    """A hash that is missing differs, also where both sides lack it."""
    for side in sides:
        traces.change_manifest(side, lambda manifest: manifest["hashes"].pop(name))
    assert first_of_kind(traces.judge(), "missing-hash")["tensor"] == name


@pytest.mark.parametrize("side", ["expected", "obtained"])
def test_no_hashes_at_all(traces: DamagedTraces, side: str) -> None:
    """A trace that says nothing of its start differs."""
    traces.change_manifest(side, lambda manifest: manifest.pop("hashes"))
    assert first_of_kind(traces.judge(), "missing-hash")["phase"] == "start"


@SIDES
def test_another_dtype(traces: DamagedTraces, side: str) -> None:
    """A trace in another precision differs before the first step."""
    traces.change_manifest(side, lambda manifest: manifest.update({"dtype": "float64"}))
    assert first_of_kind(traces.judge(), "dtype")["phase"] == "start"


@pytest.mark.parametrize("value", [float("nan"), float("inf")], ids=str)
def test_what_neither_side_survives_is_not_decided(traces: DamagedTraces, value: float) -> None:
    """Where both losses are not finite, and nothing differs before, it is said that it cannot be decided."""
    for side in ("expected", "obtained"):
        traces.set_figure(side, "loss", 7, value)
    comparison = traces.judge()
    assert comparison.status == "undecidable"
    assert comparison.error is not None
    assert "from steps 7 and 7 on" in comparison.error
    assert Verdict([comparison]).exit_code == 3
