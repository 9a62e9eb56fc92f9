"""What should have been checked is counted from the case: a run that lost a file never agrees with fewer checks."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from helpers.small_runs import Run
from hypothesis import given, settings
from hypothesis import strategies as st

from compare.experiment.experiment import read_experiment
from compare.judge import Comparison
from compare.run.judging import Job, judge_job, step_references
from compare.run.plan import is_done, plan

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
        """Whether the same run would train something again, as `is_done` says; nothing is removed."""
        tasks = plan(self.job.experiment, self.job.backends, self.out)
        return not all((task.out / "end.json").is_file() and is_done(task) for task in tasks)

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
    job = Job(read_experiment(clean_run.folder / "gru" / "experiment"), [BACKEND])
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
    """Of several records that both sides and the ensemble lost each is a difference of its own, at its step."""
    lost = [file for file in finished.files() if file.parent.name == part and int(file.stem) in (2, 4)]
    contents = {file: file.read_bytes() for file in lost}
    assert len({file.stem for file in lost}) == (1 if part == "checkpoints" else 2)
    try:
        for file in lost:
            file.unlink()
        comparison = finished.judge()
    finally:
        for file, content in contents.items():
            file.write_bytes(content)
    assert comparison.status == "differs"
    steps = {int(file.stem) for file in lost}
    per_epoch = finished.job.experiment.steps_per_epoch
    expected = {step * per_epoch - 1 for step in steps} if part == "checkpoints" else steps
    assert {difference.step for difference in comparison.differences if difference.kind == kind} == expected
