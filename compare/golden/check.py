"""Compares today's training with golden traces."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from compare.golden.store import Golden, kept_steps
from compare.judge import Comparison, Difference, Verdict, judge
from compare.judge.completeness import require_one_device
from compare.judge.distribution import judge_samples
from compare.judge.self_consistency import NOT_ITS_STEP, NOT_ITS_WEIGHTS
from compare.judge.single_step import OFF_REFERENCE
from compare.judge.witness import SHARED
from compare.run.judging import (
    FailedError,
    Failure,
    TraceReader,
    failed_comparison,
    judge_failed,
    step_references,
    with_causes,
)
from compare.run.plan import plan, plan_samples
from compare.storage import write_json
from compare.trace.trace import Trace, TraceError
from compare.workers.backends import REFERENCE_RUNNER
from compare.workers.pool import Pool
from compare.workers.tasks import Event, Task

# The kinds of differences that a side has from the reference or from itself.
OFF_BY_ITSELF = (OFF_REFERENCE, SHARED, NOT_ITS_STEP, NOT_ITS_WEIGHTS)

# Before the name of the runner, what the expected side is called where it is a golden trace.
GOLDEN = "golden-"


def trainings(golden: Golden, out: Path) -> list[Task]:
    """List today's trainings: those that were recorded, from the recorded experiment, and the ensemble."""
    independent = golden.experiment.case.model.independent_masks
    tasks = (plan_samples if independent else plan)(golden.experiment, golden.backends, out)
    states = golden.folder / REFERENCE_RUNNER
    return [
        replace(task, experiment=golden.folder / "experiment", reference=None if task.reference is None else states)
        for task in tasks
    ]


def check_golden(
    goldens: Sequence[Golden], out: Path, pool: Pool, on_event: Callable[[Event], None] = lambda event: None
) -> Verdict:
    """Train each recorded case again and judge every runner against its golden trace.

    `verdict.json` goes into `out`, a folder that exists.
    """
    planned = {golden.experiment.case.name: trainings(golden, out) for golden in goldens}
    failures: dict[Path, Failure] = {}
    for event in pool.run([task for tasks in planned.values() for task in tasks]):
        if event.kind == "failed":
            failures[event.task.out] = Failure(event.error or "unknown", event.log)
        on_event(event)

    def compared(golden: Golden, runner: str) -> Comparison:
        case = golden.experiment.case
        try:
            return _compare(golden, runner, planned[case.name], failures)
        except Exception as error:
            return judge_failed(error, case, [(runner, GOLDEN + runner)], out)[0]

    comparisons = [compared(golden, runner) for golden in goldens for runner in golden.traces]
    verdict = Verdict(comparisons)
    write_json(out / "verdict.json", verdict.as_json())
    return verdict


def _compare(golden: Golden, runner: str, tasks: Sequence[Task], failures: Mapping[Path, Failure]) -> Comparison:
    experiment, case = golden.experiment, golden.experiment.case
    read = TraceReader(failures)
    try:
        read.refuse_failed(*(task.out for task in tasks if task.runner in (runner, REFERENCE_RUNNER)))
        expected = [_as_golden(read(folder)) for folder in golden.traces[runner]]
        obtained = [read(task.out) for task in tasks if task.runner == runner and task.member is None]
        if case.model.independent_masks:
            comparison = judge_samples(expected, obtained, experiment)
            return _with_changes(comparison, expected[0], obtained[0])
        (today,) = obtained
        precision = today.manifest["precision"]
        reference = next(task.out for task in tasks if task.runner == REFERENCE_RUNNER and not task.member)
        with_ensemble = read(reference)
        of_reference = {task.member: read(task.out) for task in tasks if task.member}
        repetition = next(trace for member, trace in of_reference.items() if member.repeats)
        members = [
            trace for member, trace in of_reference.items() if member.precision == precision and not member.repeats
        ]
        require_one_device((expected[0], today, with_ensemble, *members))
    except (FailedError, TraceError) as error:
        return replace(failed_comparison(case, runner, GOLDEN + runner, error), expected=False)
    references = None
    if not case.training.stock:
        references = step_references(experiment, golden.folder / REFERENCE_RUNNER, precision)
    checked = kept_steps(experiment)
    comparison = judge(expected[0], today, members, experiment, references, with_ensemble, checked, repetition)
    comparison = _with_changes(comparison, expected[0], today)
    if comparison.status == "agrees":
        return comparison
    # A defect that has come since; one that is expected of the case was not there then.
    return replace(with_causes(case, comparison, (expected[0], today), references), expected=False)


def _as_golden(trace: Trace) -> Trace:
    return replace(trace, manifest={**trace.manifest, "runner": GOLDEN + trace.manifest["runner"]})


def _with_changes(comparison: Comparison, expected: Trace, obtained: Trace) -> Comparison:
    """Say what computed then and what computes now, and leave out what was off the reference then as it is now."""
    then, now = expected.manifest, obtained.manifest
    differences = list(comparison.differences)
    if then["precision"] != now["precision"]:
        message = f"computed in {then['precision']} then and in {now['precision']} now"
        differences.append(Difference("precision", 0, "start", message))
    # What the two have further apart than rounding carries them is of another kind.
    off_then_too = [d for d in differences if d.kind in OFF_BY_ITSELF and d.off_side == "both"]
    notes, step_ratio = list(comparison.notes), comparison.step_tolerance_ratio
    if off_then_too:
        step_ratio = None
        differences = [difference for difference in differences if difference not in off_then_too]
        steps = ", ".join(sorted({f"step {d.step}, {d.phase}" for d in off_then_too}))
        notes.append(f"off the reference then and now, and judged by the trajectory alone there: {steps}")
    notes += [
        f"{name} was {before}, now it is {after}"
        for (name, before), (other, after) in zip(_conditions(then).items(), _conditions(now).items(), strict=True)
        if before != after
    ]
    return replace(
        comparison,
        differences=differences,
        notes=notes,
        step_tolerance_ratio=step_ratio,
        status="differs" if differences else "agrees" if comparison.status == "differs" else comparison.status,
        versions={**{GOLDEN + name: version for name, version in then["versions"].items()}, **now["versions"]},
    )


def _conditions(manifest: Mapping[str, Any]) -> dict[str, Any]:
    versions = ", ".join(f"{name} {version}" for name, version in manifest["versions"].items())
    execution = manifest["execution"]
    return {"version": versions, "kernel": execution["kernel"], "device": execution["device"]}
