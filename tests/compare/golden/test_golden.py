"""Golden traces: what is kept, that today's training agrees with it, and that what has changed is found."""

import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.resealed import reseal_golden
from helpers.small_runs import STEPS, tiny_case

from compare.errors import InputError
from compare.golden import check as golden_check
from compare.golden.check import check_golden
from compare.golden.record import record_golden
from compare.golden.store import choose_golden, held_golden
from compare.judge import Comparison, Verdict
from compare.run.folder import locked
from compare.run.plan import prepare
from compare.storage import read_json, read_tensors, write_json, write_tensors
from compare.trace.trace import Trace, read_trace
from compare.workers import backends
from compare.workers.pool import Pool
from compare.workers.tasks import Event

SIDES = ("torch", "keras-torch")
RECORD = struct.Struct("<4sII")


def test_a_recording_is_small_and_says_what_computed(recorded: Path) -> None:
    """A tiny case takes a fraction of a megabyte; of the checked steps three stay, the smaller batch among them."""
    files = [file for file in recorded.rglob("*") if file.is_file()]
    assert 0 < sum(file.stat().st_size for file in files) < 500_000
    assert sorted(int(file.stem) for file in recorded.glob("lstm/torch/single_step/*")) == [0, 5, 16]
    for side in SIDES:
        manifest = read_json(recorded / "lstm" / side / "manifest.json")
        assert manifest["versions"]["torch"]
        assert manifest["execution"]["device"]
        assert manifest["execution"]["kernel"]
    assert [path.name for path in recorded.iterdir()] == ["lstm"], "nothing of the run is left behind"


def test_today_agrees_with_the_recording(recorded: Path, check: Callable[[Path], Verdict], tmp_path: Path) -> None:
    """Each side is compared with its own trace; the verdict is written as that of any run."""
    verdict = check(recorded)
    assert verdict.agree
    verdicts = [
        (comparison.runner, comparison.reference, comparison.status, comparison.steps)
        for comparison in verdict.comparisons
    ]
    assert verdicts == [(side, f"golden-{side}", "agrees", STEPS) for side in SIDES]
    assert all(comparison.checks > 100 and not comparison.notes for comparison in verdict.comparisons)
    assert read_json(tmp_path / "out" / "verdict.json") == json.loads(json.dumps(verdict.as_json()))


def another_learning_rate(golden: Path) -> None:
    """The recording was made with another learning rate than its case has."""
    experiment = read_json(golden / "lstm" / "experiment" / "experiment.json")
    experiment["case"]["training"]["learning_rate"] *= 2
    write_json(golden / "lstm" / "experiment" / "experiment.json", experiment)


def other_weights(golden: Path) -> None:
    """One initial weight is another."""
    file = golden / "lstm" / "experiment" / "weights.safetensors"
    tensors = read_tensors(file)
    tensors["head/kernel"] += np.float32(1e-3)
    write_tensors(file, tensors)


def another_loss(golden: Path) -> None:
    """The loss of one step is another; the file is as whole as before."""
    folder = golden / "lstm" / "torch"
    trace = read_trace(folder)
    rows = trace.rows.copy()
    rows[7, trace.columns.index("loss")] *= 1.001
    figures = rows.astype("<f8").tobytes()
    (folder / "steps.bin").write_bytes(RECORD.pack(b"STEP", len(rows), zlib.crc32(figures)) + figures)


def edited(file: str, tensor: str) -> Callable[[Path], None]:
    """One number of a tensor is another."""

    def edit(golden: Path) -> None:
        tensors = read_tensors(golden / "lstm" / "torch" / file)
        changed = tensors[tensor].copy()
        changed.flat[0] += np.float32(0.01)
        write_tensors(golden / "lstm" / "torch" / file, tensors | {tensor: changed})

    return edit


@pytest.mark.parametrize(
    ("change", "location", "off_side"),
    [
        pytest.param(another_learning_rate, (0, "update", "learning_rate"), "golden-torch", id="learning-rate"),
        pytest.param(other_weights, (0, "start", "weights"), "unknown", id="initial-weights"),
        pytest.param(another_loss, (7, "loss", None), "golden-torch", id="loss"),
        pytest.param(
            edited("single_step/00000005.safetensors", "gradient/head/kernel"),
            (5, "gradient", "head/kernel"),
            "golden-torch",
            id="gradient",
        ),
        pytest.param(
            edited("checkpoints/00000002.safetensors", "head/bias"),
            (11, "update", "head/bias"),
            "golden-torch",
            id="weights",
        ),
        pytest.param(
            edited("predictions.safetensors", "predictions"),
            (STEPS, "evaluation", None),
            "golden-torch",
            id="predictions",
        ),
    ],
)
def test_a_changed_recording_differs_at_its_place(
    golden: Path, check: Callable[[Path], Verdict], change, location: tuple, off_side: str
) -> None:
    """What was recorded otherwise than it is computed today differs, with its place and the side that is off."""
    change(golden)
    reseal_golden(golden / "lstm")
    verdict = check(golden)
    assert verdict.exit_code == 1
    first = verdict.comparisons[0].first_difference
    assert first is not None
    assert (first.step, first.phase, first.tensor) == location
    assert first.off_side == off_side


def test_the_ensemble_does_not_hide_a_change_of_their_own_side(pool: Pool, tmp_path: Path, check) -> None:
    """Where only the trajectory is compared, changed members do not widen the tolerance."""
    case = tiny_case("lstm", {"training.stock": True})
    record_golden(prepare([case]), ["torch"], tmp_path / "golden", pool)
    another_learning_rate(tmp_path / "golden")
    reseal_golden(tmp_path / "golden" / "lstm")
    assert [comparison.status for comparison in check(tmp_path / "golden").comparisons] == ["differs", "differs"]


def test_what_is_off_the_reference_then_as_now_has_not_changed(pool: Pool, tmp_path: Path, check) -> None:
    """A framework's known defect that shows in the recording and today is no change of training, and is said."""
    case = tiny_case("embedding", {"data.points": 1000, "data.examples": 60})
    verdict, recorded = record_golden(prepare([case]), ["tensorflow"], tmp_path / "golden", pool)
    assert [comparison.status for comparison in verdict.comparisons] == ["differs"], "the defect shows"
    assert recorded == ["embedding"]
    today = check(tmp_path / "golden")
    assert today.agree
    (note,) = today.comparisons[1].notes
    assert note.startswith("off the reference then and now")


def test_a_defect_that_has_come_since_is_no_expected_one(pool: Pool, tmp_path: Path, check) -> None:
    """A side that could train when it was recorded and cannot today has failed, with the framework's defect named."""
    case = tiny_case("stateful", {"training.keras_layers": "fast"})
    _, recorded = record_golden(prepare([case]), ["torch"], tmp_path / "golden", pool)
    assert recorded == ["stateful"]
    experiment = read_json(tmp_path / "golden" / "stateful" / "experiment" / "experiment.json")
    experiment["case"]["training"]["keras_layers"] = "stock"
    write_json(tmp_path / "golden" / "stateful" / "experiment" / "experiment.json", experiment)
    reseal_golden(tmp_path / "golden" / "stateful")
    verdict = check(tmp_path / "golden")
    assert verdict.exit_code == 3
    torch, keras = verdict.comparisons
    assert torch.status == "agrees"
    assert keras.status == "failed"
    assert [cause.name for cause in keras.causes] == ["framework-defect"]


def test_a_failed_runner_leaves_the_recording_as_it_was(
    golden: Path, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A case of which a runner could not do its work is not recorded, and what was recorded before stays."""
    monkeypatch.setitem(backends.BACKENDS, "jax", backends.Backend("no_such_module", ("no-such-module",)))
    before = {file: file.stat().st_mtime_ns for file in golden.rglob("*")}
    verdict, recorded = record_golden(prepare([tiny_case("lstm", {"training.epochs": 1})]), ["jax"], golden, pool)
    assert verdict.exit_code == 3
    assert recorded == []
    assert {file: file.stat().st_mtime_ns for file in golden.rglob("*")} == before


def test_a_folder_that_is_no_recording_is_not_overwritten(pool: Pool, tmp_path: Path) -> None:
    """A folder of a case's name that holds something else stops the recording before anything is trained."""
    (tmp_path / "lstm").mkdir()
    (tmp_path / "lstm" / "thesis.tex").touch()
    with pytest.raises(InputError, match="would be overwritten"):
        record_golden(prepare([tiny_case("lstm")]), ["torch"], tmp_path, pool)
    assert (tmp_path / "lstm" / "thesis.tex").exists()


def test_recording_again_replaces(golden: Path, pool: Pool) -> None:
    """A case recorded again is the new one alone."""
    record_golden(prepare([tiny_case("lstm", {"training.epochs": 1})]), ["torch"], golden, pool)
    (verdicts,) = choose_golden(golden)
    assert verdicts.experiment.case.training.epochs == 1
    assert sorted(path.name for path in golden.glob("lstm/torch/checkpoints/*")) == ["00000001.safetensors"]


@pytest.mark.parametrize("exchange", [True, False], ids=["at-once", "in-two-steps"])
def test_what_a_killed_recording_leaves_is_removed(
    golden: Path, pool: Pool, monkeypatch: pytest.MonkeyPatch, exchange: bool
) -> None:
    """The next recording removes what one that was killed had made, puts back what it had set aside and replaces."""
    (golden / ".recording-killed" / "lstm").mkdir(parents=True)
    (golden / "lstm").rename(golden / ".replaced-lstm")
    if not exchange:
        monkeypatch.setattr("compare.golden.record._exchange", lambda one, other: False)
    record_golden(prepare([tiny_case("lstm", {"training.epochs": 1})]), ["torch"], golden, pool)
    (found,) = choose_golden(golden)
    assert found.experiment.case.training.epochs == 1
    assert [path.name for path in golden.iterdir()] == ["lstm"]


def test_a_recording_that_cannot_be_moved_leaves_the_old_one(
    golden: Path, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until the new golden trace takes its place the old one is whole."""

    def killed(one: Path, other: Path) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr("compare.golden.record._exchange", killed)
    with pytest.raises(KeyboardInterrupt):
        record_golden(prepare([tiny_case("lstm", {"training.epochs": 1})]), ["torch"], golden, pool)
    (found,) = choose_golden(golden)
    assert found.experiment.case.training.epochs == 3


def test_an_error_of_the_judge_loses_no_other_side(
    golden: Path, check: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An error of this project's own while one side is judged fails that side alone, and the exit code is 70."""
    judge = golden_check.judge

    def planted(expected: Trace, *arguments: object) -> Comparison:
        if expected.manifest["runner"] == "golden-torch":
            raise KeyError("planted")
        return judge(expected, *arguments)

    monkeypatch.setattr(golden_check, "judge", planted)
    verdict = check(golden)
    assert [comparison.status for comparison in verdict.comparisons] == ["failed", "agrees"]
    assert verdict.exit_code == 70
    assert "internal error: KeyError: 'planted'" in verdict.comparisons[0].error
    assert "planted" in (tmp_path / "out" / "error.log").read_text()


def test_what_is_being_checked_is_not_replaced(golden: Path, pool: Pool, refused: Callable) -> None:
    """A recording waits until nobody reads the golden traces that it would replace, and the other way round."""
    experiments = prepare([tiny_case("lstm", {"training.epochs": 1})])
    with held_golden(golden), pytest.raises(InputError, match=r"--golden \S+ is in use by another process"):
        record_golden(experiments, ["torch"], golden, pool)
    with locked(golden):
        assert "is in use by process" in refused("check", "--golden", golden)


def test_a_trace_of_today_that_is_damaged_is_told(golden: Path, pool: Pool, tmp_path: Path) -> None:
    """A file that changes between its training and the judge is no change of training."""

    def flip(event: Event) -> None:
        if event.kind == "done" and event.task.out.name == "keras-torch":
            file = event.task.out / "predictions.safetensors"
            file.write_bytes(file.read_bytes()[:-1] + b"\x7f")

    (tmp_path / "out").mkdir()
    with held_golden(golden) as goldens:
        torch, keras = check_golden(goldens, tmp_path / "out", pool, flip).comparisons
    assert (torch.status, keras.status) == ("agrees", "failed")
    assert keras.error == "the trace of keras-torch is damaged: predictions.safetensors"
