"""Checked steps: what is changed in a side's record is found in its phase, its tensor and on its side."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.small_runs import Run

from compare.experiment.experiment import Experiment, read_experiment
from compare.judge.single_step import initial_state_differences, step_differences
from compare.judge.step_errors import step_errors
from compare.judge.step_reference import StepReference
from compare.judge.verdict import Difference
from compare.trace.trace import read_state, read_trace

RUNNER = "keras-torch"
Record = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def folder(clean_run: Run) -> Path:
    """The folder of a clean LSTM comparison."""
    return clean_run.folder / "lstm"


@pytest.fixture(scope="module")
def experiment(folder: Path) -> Experiment:
    """What both sides started from."""
    return read_experiment(folder / "experiment")


@pytest.fixture(scope="module")
def reference(folder: Path, experiment: Experiment) -> StepReference:
    """What step 4 should compute."""
    state = read_state(folder / "torch", 4)
    assert state is not None
    return StepReference(experiment, 4, *state, "float32")


def records(folder: Path) -> dict[str, Record]:
    """Both sides' records of step 4."""
    steps = {side: read_trace(folder / side).single_step(4) for side in ("torch", RUNNER)}
    return {side: record for side, record in steps.items() if record is not None}


def test_clean_step_is_rounding(folder: Path, reference: StepReference) -> None:
    """Two sides that took the same step differ from the reference by no more than rounding does, in every tensor."""
    differences, errors = step_differences(reference, records(folder))

    assert differences == []
    assert errors.keys() == {"torch", RUNNER}
    for of_side in errors.values():
        assert {error.phase for error in of_side} == {"forward", "loss", "gradient", "clip", "update"}
        assert max(error.tolerance_ratio for error in of_side) > 0


def scaled(name: str, factor: float) -> Callable[[Record], Record]:
    """Multiply a tensor of a record."""
    return lambda record: record | {name: record[name] * np.float32(factor)}


def late_timestep(record: Record) -> Record:
    """Change a layer's outputs from the third timestep on."""
    changed = record["forward/layer0"].copy()
    changed[:, 2:] += np.float32(1e-3)
    return record | {"forward/layer0": changed}


KERNEL = "layer0/forward/kernel/forget"


@pytest.mark.parametrize(
    ("change", "phase", "tensor", "timestep"),
    [
        pytest.param(scaled("inputs/sequence", 1 + 1e-6), "forward", "inputs", None, id="inputs"),
        pytest.param(scaled(f"weights/{KERNEL}", 1 + 1e-6), "forward", KERNEL, None, id="weights of one gate"),
        pytest.param(late_timestep, "forward", "layer0", 2, id="outputs from a timestep on"),
        pytest.param(scaled("forward/head", 1.001), "forward", "head", None, id="outputs of the head"),
        pytest.param(scaled("loss", 1 + 1e-5), "loss", None, None, id="loss"),
        pytest.param(scaled(f"gradient/{KERNEL}", 1.001), "gradient", KERNEL, None, id="gradient of one gate"),
        pytest.param(scaled(f"clip/{KERNEL}", 1 + 1e-5), "clip", KERNEL, None, id="clipped gradient of one gate"),
        pytest.param(scaled("learning_rate", 1 + 1e-5), "update", "learning_rate", None, id="learning rate"),
        pytest.param(scaled(f"update/{KERNEL}", 1.01), "update", KERNEL, None, id="update of one gate"),
        pytest.param(
            scaled(f"slot/velocity/{KERNEL}", 1.001), "update", f"velocity/{KERNEL}", None, id="slot of one gate"
        ),
    ],
)
@pytest.mark.parametrize("side", ["torch", RUNNER])
def test_change_is_placed(
    change: Callable[[Record], Record],
    phase: str,
    tensor: str | None,
    timestep: int | None,
    side: str,
    folder: Path,
    reference: StepReference,
) -> None:
    """The first difference names the phase, the tensor, the timestep and the side that were changed."""
    both = records(folder)
    both[side] = change(both[side])

    differences, _ = step_differences(reference, both)
    first = min(differences, key=lambda difference: difference.order)

    assert (first.phase, first.tensor, first.off_side) == (phase, tensor, side)
    assert first.timestep == timestep or (timestep is None and tensor in ("inputs", KERNEL))


@pytest.mark.parametrize(("size", "rounding"), [(1e-19, True), (1e-12, False)], ids=["no digits left", "digits"])
def test_squares_without_digits_may_be_zero(folder: Path, experiment: Experiment, size: float, rounding: bool) -> None:
    """A framework may make zeros of squares that are smaller than the smallest normal number, and of no others."""
    state, record = read_state(folder / "torch", 0), read_trace(folder / "torch").single_step(0)
    assert state is not None
    assert record is not None
    tiny = {name: record[name] * np.float32(size) for name in record if name.startswith("clip/")}
    zeros = {name: record[name] * 0 for name in record if name.startswith("slot/velocity/")}

    errors = step_errors(StepReference(experiment, 0, *state, "float32"), record | tiny | zeros)
    ratios = [error.tolerance_ratio for error in errors if error.tensor.startswith("slot/velocity/")]
    assert len(ratios) == len(zeros)
    assert (max(ratios) <= 1) is rounding


@pytest.mark.parametrize("name", ["loss", f"gradient/{KERNEL}", "forward/layer0", "slot/momentum/head/bias"])
def test_what_is_missing_is_a_difference(name: str, folder: Path, reference: StepReference) -> None:
    """A figure that one side did not record is a difference, and so is a whole step."""
    both = records(folder)
    both[RUNNER] = {key: value for key, value in both[RUNNER].items() if key != name}

    (difference,), errors = step_differences(reference, both)

    assert (difference.kind, difference.off_side, errors) == ("missing-tensor", RUNNER, {})
    (difference,), _ = step_differences(reference, both | {RUNNER: None})
    assert difference.kind == "missing-step"


def test_not_a_number_is_a_difference(folder: Path, reference: StepReference) -> None:
    """NaN in a gradient is off, however small the tensor."""
    both = records(folder)
    both["torch"] = scaled("gradient/head/bias", np.nan)(both["torch"])

    differences, _ = step_differences(reference, both)

    assert [d for d in differences if d.phase == "gradient" and d.off_side == "torch"]


def test_start_is_compared(folder: Path, experiment: Experiment, tmp_path: Path) -> None:
    """The weights and slots that a side starts with are those given to it; a missing state is a difference."""
    folders = {side: folder / side for side in ("torch", RUNNER)}

    def differences(case_experiment: Experiment) -> list[Difference]:
        return initial_state_differences(case_experiment, folders, "float32")

    assert differences(experiment) == []
    name = next(iter(experiment.weights))
    weights = {**experiment.weights, name: experiment.weights[name] + 1}
    other = Experiment(experiment.case, experiment.windows, experiment.scaling, weights, experiment.schedule)
    assert {(d.kind, d.tensor) for d in differences(other)} == {("initial-weights", name)}
    (missing,) = initial_state_differences(experiment, {"torch": tmp_path}, "float32")
    assert missing.kind == "missing-state"
