"""Golden traces: what each runner did with a case, kept to compare later trainings with."""

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError

from compare.config.case import Case, Dtype, case_from_json
from compare.errors import InputError
from compare.experiment.experiment import Experiment, read_experiment
from compare.judge import Comparison, Difference, Verdict, judge
from compare.judge.distribution import judge_samples
from compare.known.defects import with_defects
from compare.run.harness import Failure, plan, run_cases, step_references
from compare.storage import read_json, read_tensors, write_json
from compare.trace.trace import Trace, TraceError, read_trace
from compare.workers.backends import REFERENCE_RUNNER
from compare.workers.pool import Event, Pool, Task

SCHEMA = 1

# Before the name of the runner, what the expected side is called where it is a golden trace.
GOLDEN = "golden-"

# Written last into a case's folder: which traces it holds, by runner, and their files.
INDEX = "golden.json"

Runner = Literal["torch", "keras-tensorflow", "keras-torch", "keras-jax"]
Names = Annotated[list[str], Field(min_length=1)]


class _Index(BaseModel):
    """What `golden.json` has: the folders of each runner's traces, and all files."""

    traces: dict[Runner, Names]
    files: Names


class _Execution(BaseModel):
    kernel: str
    device: str


class _Manifest(BaseModel):
    """What the judge reads of a trace's manifest."""

    runner: Runner
    dtype: Dtype
    precision: Dtype
    steps: int = Field(ge=1)
    epochs: int = Field(ge=1)
    hashes: dict[str, str]
    versions: dict[str, str]
    execution: _Execution


@dataclass(frozen=True, eq=False)
class Golden:
    """The golden traces of one case: its folder, its start, and each runner's folders, several where it was sampled."""

    folder: Path
    experiment: Experiment
    traces: Mapping[str, Sequence[Path]]

    @property
    def backends(self) -> list[str]:
        """The backends whose Keras runner has a golden trace."""
        return [name.removeprefix("keras-") for name in self.traces if name != REFERENCE_RUNNER]


def record_golden(
    experiments: Sequence[Experiment],
    backends: Sequence[str],
    golden: Path,
    pool: Pool,
    on_event: Callable[[Event], None] = lambda event: None,
) -> tuple[Verdict, list[str]]:
    """Train every case on both sides, judge, and keep the traces of each case whose runners have all done their work.

    Returns the verdict and the names of the cases that were kept. What was kept of a case before is replaced. A runner
    that a framework's known defect keeps from training has no trace. Raises InputError where the folder cannot be
    written, or holds a folder of the case's name that is no golden trace.
    """
    for experiment in experiments:
        target = golden / experiment.case.name
        if target.exists() and not (target / INDEX).is_file():
            raise InputError(f"{target} is no golden trace and would be overwritten; give another --golden DIR")
    try:
        golden.mkdir(parents=True, exist_ok=True)
        # Beside the folders that they come to, so that they can be moved there as a whole.
        out = Path(tempfile.mkdtemp(prefix=".recording-", dir=golden))
    except OSError as error:
        raise InputError(f"--golden {golden} cannot be written: {error.strerror}") from None
    kept = []
    try:
        verdict = run_cases(experiments, backends, out, pool, on_event)
        for experiment in experiments:
            found = [comparison for comparison in verdict.comparisons if comparison.case == experiment.case.name]
            if any(comparison.status == "failed" and not comparison.expected for comparison in found):
                continue
            trained = [comparison.runner for comparison in found if comparison.status != "failed"]
            _keep(
                experiment, [REFERENCE_RUNNER, *trained], plan(experiment, backends, out), golden / experiment.case.name
            )
            kept.append(experiment.case.name)
    finally:
        shutil.rmtree(out)
    return verdict, kept


def _keep(experiment: Experiment, runners: Sequence[str], tasks: Sequence[Task], target: Path) -> None:
    """Move a case's traces to their place, only some of the steps that were taken apart."""
    source = tasks[0].out.parent
    traces: dict[str, list[str]] = {runner: [] for runner in runners}
    wanted = {f"{step:08d}.safetensors" for step in _kept_steps(experiment)}
    for task in tasks:
        if task.runner not in traces or task.member is not None:
            shutil.rmtree(task.out, ignore_errors=True)  # of a runner that failed there may be nothing
            continue
        traces[task.runner].append(task.out.name)
        for file in (*task.out.glob("states/*"), *task.out.glob("single_step/*")):
            if file.name not in wanted:
                file.unlink()
    files = sorted(str(file.relative_to(source)) for file in source.rglob("*") if file.is_file())
    write_json(source / INDEX, {"schema": SCHEMA, "case": experiment.case.name, "traces": traces, "files": files})
    if target.exists():
        shutil.rmtree(target)
    source.rename(target)


def _kept_steps(experiment: Experiment) -> set[int]:
    """The steps taken apart that are kept: the first, the smaller last batch of an epoch, and the last of them."""
    return {0, experiment.steps_per_epoch - 1, experiment.recorded_steps[-1]}


def golden_cases(golden: Path) -> list[str]:
    """Name the cases that have golden traces in a folder; raises InputError where there is none."""
    try:
        names = sorted(folder.name for folder in golden.iterdir() if (folder / INDEX).is_file())
    except OSError as error:
        raise InputError(f"--golden {golden} cannot be read: {error.strerror}; {_how_to_record(golden)}") from None
    if not names:
        raise InputError(f"--golden {golden} holds no golden traces; {_how_to_record(golden)}")
    return names


def read_golden(folder: Path) -> Golden:
    """Read the golden traces of one case, and see that all that was recorded is there and whole.

    Raises InputError for what is missing, damaged or of another schema.
    """

    def refuse(words: str) -> InputError:
        restore = f"restore it, or record it again: python -m compare record {folder.name} --golden {folder.parent}"
        return InputError(f"golden trace {folder} {words}; {restore}")

    index = read_json(folder / INDEX)
    if not isinstance(index, dict):
        raise refuse(f"has no {INDEX}" if not (folder / INDEX).exists() else f"has a damaged {INDEX}")
    if index.get("schema") != SCHEMA:
        raise refuse(f"is of schema {index.get('schema')!r}, this version reads {SCHEMA}")
    try:
        found = _Index.model_validate(index)
    except ValidationError as error:
        raise refuse(f"has a damaged {INDEX}: {_first(error)}") from None
    files = [folder / name for name in found.files]
    traces = {str(runner): [folder / name for name in names] for runner, names in found.traces.items()}
    if REFERENCE_RUNNER not in traces:
        raise refuse(f"has a damaged {INDEX}: no trace of {REFERENCE_RUNNER}")
    for file in files:
        if not file.is_file():
            raise refuse(f"lacks {file.relative_to(folder)}")
        whole = read_tensors(file) if file.suffix == ".safetensors" else read_json(file)
        if file.suffix in (".safetensors", ".json") and whole is None:
            raise refuse(f"has a damaged {file.relative_to(folder)}")
    for runner, paths in traces.items():
        for path in paths:
            try:
                trace = read_trace(path)
                manifest = _Manifest.model_validate(trace.manifest)
            except ValidationError as error:
                raise refuse(f"has a damaged {path.name}/manifest.json: {_first(error)}") from None
            except TraceError as error:
                raise refuse(f"cannot be read: {error}") from None
            if manifest.runner != runner:
                raise refuse(f"has a trace of {manifest.runner} in {path.name}, which is to be of {runner}")
            if not trace.complete:
                raise refuse(f"has no whole steps in {path.name}")
    try:
        experiment = read_experiment(
            folder / "experiment", lambda fields: case_from_json(json.dumps(fields), str(folder))
        )
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise refuse(f"has a damaged start: {type(error).__name__}: {error}") from None
    if experiment.case.name != folder.name:
        raise refuse(f"is of case {experiment.case.name!r}; a recording cannot be renamed")
    return Golden(folder, experiment, traces)


def _first(error: ValidationError) -> str:
    problem = error.errors()[0]
    return f"{'.'.join(map(str, problem['loc']))}: {problem['msg'][0].lower()}{problem['msg'][1:]}"


def choose_golden(golden: Path, cases: Sequence[str] = (), backends: Sequence[str] | None = None) -> list[Golden]:
    """Read the golden traces of some cases, of all if none is named, and of some backends, or of all recorded.

    Raises InputError for a case or a backend of which none was recorded.
    """
    known = golden_cases(golden)
    for name in cases:
        if name not in known:
            raise InputError(
                f"--golden {golden} holds no trace of case {name!r}, only of {', '.join(known)}; "
                f"{_how_to_record(golden, name)}"
            )
    found = []
    for name in cases or known:
        one = read_golden(golden / name)
        missing = [backend for backend in backends or () if backend not in one.backends]
        if missing:
            raise InputError(
                f"golden trace {one.folder} holds none of keras-{missing[0]}, only of {', '.join(one.traces)}; "
                f"{_how_to_record(golden, name)} --backend {' '.join(sorted({*one.backends, *missing}))}"
            )
        kept = {runner: paths for runner, paths in one.traces.items() if _asked(runner, backends)}
        found.append(replace(one, traces=kept))
    return found


def _asked(runner: str, backends: Sequence[str] | None) -> bool:
    return backends is None or runner == REFERENCE_RUNNER or runner.removeprefix("keras-") in backends


def trainings(golden: Golden, out: Path) -> list[Task]:
    """List today's trainings: those that were recorded, from the recorded start, and the PyTorch side's twins."""
    tasks = plan(golden.experiment, golden.backends, out)
    states = golden.folder / REFERENCE_RUNNER
    return [
        replace(task, experiment=golden.folder / "experiment", reference=None if task.reference is None else states)
        for task in tasks
    ]


def check_golden(
    found: Sequence[Golden], out: Path, pool: Pool, on_event: Callable[[Event], None] = lambda event: None
) -> Verdict:
    """Train each recorded case again and judge every runner against its golden trace.

    `verdict.json` goes into `out`, a folder that exists.
    """
    planned = {golden.experiment.case.name: trainings(golden, out) for golden in found}
    failures: dict[Path, Failure] = {}
    for event in pool.run([task for tasks in planned.values() for task in tasks]):
        if event.kind == "failed":
            failures[event.task.out] = Failure(event.error or "unknown", event.log)
        on_event(event)
    comparisons = [
        _with_cause(golden.experiment.case, _compare(golden, runner, planned[golden.experiment.case.name], failures))
        for golden in found
        for runner in golden.traces
    ]
    verdict = Verdict(comparisons)
    write_json(out / "verdict.json", verdict.as_json())
    return verdict


def _compare(golden: Golden, runner: str, tasks: Sequence[Task], failures: Mapping[Path, Failure]) -> Comparison:
    case = golden.experiment.case

    def failed(error: str, log: str | None = None) -> Comparison:
        return Comparison(case.name, runner, GOLDEN + runner, case.dtype, "failed", error=error, log=log)

    members = [task for task in tasks if task.member is not None]
    for task in tasks:
        if task.out in failures and task.runner in (runner, REFERENCE_RUNNER):
            return failed(f"{task.out.name}: {failures[task.out].error}", failures[task.out].log)
    expected = [_as_golden(read_trace(folder)) for folder in golden.traces[runner]]
    try:
        obtained = [read_trace(task.out) for task in tasks if task.runner == runner and task.member is None]
        if case.model.independent_masks:
            comparison = judge_samples(expected, obtained, golden.experiment)
            return _with_changes(comparison, expected[0], obtained[0])
        (today,) = obtained
        precision = today.manifest["precision"]
        with_ensemble = read_trace(
            next(task.out for task in tasks if task.runner == REFERENCE_RUNNER and not task.member)
        )
        of_today = [read_trace(task.out) for task in members if (task.member or {})["precision"] == precision]
    except TraceError as error:
        return failed(str(error))
    references = None
    if not case.training.stock:
        references = step_references(golden.experiment, golden.folder / REFERENCE_RUNNER, precision)
    comparison = judge(expected[0], today, of_today, golden.experiment, references, with_ensemble)
    return _with_changes(comparison, expected[0], today)


def _with_cause(case: Case, comparison: Comparison) -> Comparison:
    """Name a framework's defect that has come since; one that is expected of the case was not there then."""
    return comparison if comparison.status == "agrees" else replace(with_defects(case, comparison), expected=False)


def _as_golden(trace: Trace) -> Trace:
    return replace(trace, manifest={**trace.manifest, "runner": GOLDEN + trace.manifest["runner"]})


def _with_changes(comparison: Comparison, expected: Trace, obtained: Trace) -> Comparison:
    """Say what computed then and what computes now, and leave out what was off the reference then as it is now."""
    then, now = expected.manifest, obtained.manifest
    differences = list(comparison.differences)
    if then["precision"] != now["precision"]:
        words = f"computed in {then['precision']} then and in {now['precision']} now"
        differences.append(Difference("precision", 0, "start", words))
    both = [d for d in differences if d.kind == "off-reference" and d.off_side == "both"]
    notes, share = list(comparison.notes), comparison.largest_step_share
    if both:
        share = None
        differences = [difference for difference in differences if difference not in both]
        steps = ", ".join(sorted({f"step {d.step}, {d.phase}" for d in both}))
        notes.append(f"off the reference then and now, and judged by the journey alone there: {steps}")
    notes += [
        f"{name} was {before}, now it is {after}"
        for (name, before), (other, after) in zip(_conditions(then).items(), _conditions(now).items(), strict=True)
        if before != after
    ]
    return replace(
        comparison,
        differences=differences,
        notes=notes,
        largest_step_share=share,
        status="differs" if differences else "agrees",
        versions={**{GOLDEN + name: version for name, version in then["versions"].items()}, **now["versions"]},
    )


def _conditions(manifest: Mapping[str, Any]) -> dict[str, Any]:
    versions = ", ".join(f"{name} {version}" for name, version in manifest["versions"].items())
    execution = manifest["execution"]
    return {"version": versions, "kernel": execution["kernel"], "device": execution["device"]}


def _how_to_record(golden: Path, case: str = "CASE") -> str:
    return f"python -m compare record {case} --golden {golden}"
