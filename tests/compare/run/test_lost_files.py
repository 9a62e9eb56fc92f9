"""What should have been checked is counted from the case: a run that lost a file never agrees with fewer checks."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from helpers.resealed import reseal_trace
from helpers.small_runs import Run
from hypothesis import given, settings
from hypothesis import strategies as st

from compare.config.case import Case, with_fields
from compare.experiment.experiment import read_experiment
from compare.judge import Comparison, Verdict
from compare.run import training
from compare.run.judging import Job, judge_job, step_references
from compare.run.plan import plan
from compare.run.training import run_jobs
from compare.trace.trace import END, damaged_files
from compare.workers.pool import Pool
from compare.workers.tasks import Event

BACKEND = "torch"


class Finished(NamedTuple):
    """A finished run that may be damaged: its folder, what it compares, and what was said of it."""

    out: Path
    job: Job
    whole: Comparison

    def files(self) -> list[Path]:
        """The files of all trainings that the comparison needs, in an order that does not change."""
        tasks = plan(self.job.experiment, self.job.backends, self.out)
        return sorted(file for task in tasks for file in task.out.rglob("*") if file.is_file())

    def trained_again(self) -> bool:
        """Whether the same run would train something again, as `remaining` says; nothing is removed."""
        tasks = plan(self.job.experiment, self.job.backends, self.out)
        return any(damaged_files(task.out) or not (task.out / END).is_file() for task in tasks)

    def judge(self) -> Comparison:
        """Judge what is there now."""
        step_references.cache_clear()
        (comparison,) = judge_job(self.job, self.out, {})
        return comparison


@pytest.fixture(scope="module")
def finished(clean_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A copy of the clean run of a GRU."""
    out = tmp_path_factory.mktemp("finished")
    shutil.copytree(clean_run.folder / "gru", out / "gru")
    job = Job(read_experiment(clean_run.folder / "gru" / "experiment", Case.model_validate), [BACKEND])
    run = Finished(out, job, clean_run.comparison("gru", f"keras-{BACKEND}"))
    again = run.judge()
    assert (again.status, again.checks) == ("agrees", run.whole.checks)
    return run


def removed(content: bytes) -> None:
    """The file is not there."""


def halved(content: bytes) -> bytes:
    """The file was cut in the middle."""
    return content[: len(content) // 2]


def empty(content: bytes) -> bytes:
    """Nothing of the file was written."""
    return b""


@settings(max_examples=30)
@given(data=st.data(), damage=st.sampled_from([removed, halved, empty]))
def test_no_lost_file_goes_unseen(
    finished: Finished, data: st.DataObject, damage: Callable[[bytes], bytes | None]
) -> None:
    """Whichever file is lost or cut, it is trained again, or missed, or nothing less was checked."""
    files = finished.files()
    file = data.draw(st.sampled_from(files), label="file")
    content = file.read_bytes()
    left = damage(content)
    try:
        file.unlink()
        if left is not None:
            file.write_bytes(left)
        if not finished.trained_again():
            comparison = finished.judge()
            assert comparison.status != "agrees" or comparison.checks == finished.whole.checks
    finally:
        file.write_bytes(content)


@pytest.mark.parametrize(
    ("part", "kind"),
    [("states", "missing-state"), ("single_step", "missing-step"), ("checkpoints", "missing-checkpoint")],
)
def test_each_record_that_is_lost_is_named(finished: Finished, part: str, kind: str) -> None:
    """Of several records that both sides and the ensemble never wrote each is a difference of its own, at its step."""
    lost = [file for file in finished.files() if file.parent.name == part and int(file.stem) in (2, 4)]
    traces = {file.parents[1] for file in lost}
    contents = {file: file.read_bytes() for file in [*lost, *(trace / END for trace in traces)]}
    assert len({file.stem for file in lost}) == (1 if part == "checkpoints" else 2)
    try:
        for file in lost:
            file.unlink()
        for trace in traces:
            reseal_trace(trace)
        comparison = finished.judge()
    finally:
        for file, content in contents.items():
            file.write_bytes(content)
    assert comparison.status == "differs"
    steps = {int(file.stem) for file in lost}
    per_epoch = finished.job.experiment.steps_per_epoch
    expected = {step * per_epoch - 1 for step in steps} if part == "checkpoints" else steps
    assert {difference.step for difference in comparison.differences if difference.kind == kind} == expected


def test_a_damaged_trace_is_trained_again_and_said(finished: Finished, pool: Pool, tmp_path: Path) -> None:
    """A finished trace of which a bit was flipped is trained again, with what was checked from it, and this is said."""
    shutil.copytree(finished.out / "gru", tmp_path / "gru")
    file = tmp_path / "gru" / "torch" / "states" / "00000004.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    events: list[Event] = []
    (comparison,) = run_jobs([finished.job], tmp_path, pool, events.append)
    message = "states/00000004.safetensors is damaged, so that it is trained again"
    assert [(event.task.out.name, event.error) for event in events if event.kind == "retried"] == [("torch", message)]
    assert {event.task.out.name for event in events if event.kind == "done"} == {"torch", f"keras-{BACKEND}"}
    assert (comparison.status, comparison.checks) == ("agrees", finished.whole.checks)
    assert f"torch: {message}" in comparison.notes


def test_an_error_of_the_judge_loses_no_other_case(
    finished: Finished, pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of this project's own while a case is judged fails that case alone, with a log, and exits 70."""
    shutil.copytree(finished.out / "gru", tmp_path / "gru")
    renamed = with_fields(finished.job.experiment.case, {"name": "broken"})
    broken = Job(dataclasses.replace(finished.job.experiment, case=renamed), [BACKEND])
    shutil.copytree(finished.out / "gru", tmp_path / "broken")
    judge = training.judge_job

    def planted(job: Job, *arguments: object) -> list[Comparison]:
        return judge(job, *arguments) if job.name == "gru" else {}["planted"]

    monkeypatch.setattr(training, "judge_job", planted)
    comparisons = run_jobs([broken, finished.job], tmp_path, pool)
    assert [(c.case, c.runner, c.status) for c in comparisons] == [
        ("broken", f"keras-{BACKEND}", "failed"),
        ("gru", f"keras-{BACKEND}", "agrees"),
    ]
    assert (
        comparisons[0].error == f"internal error: KeyError: 'planted'; please report it with {tmp_path / 'error.log'}"
    )
    assert "Traceback" in (tmp_path / "error.log").read_text("utf-8")
    assert Verdict(comparisons).exit_code == 70
