"""Records golden traces."""

import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from compare.errors import InputError
from compare.experiment.experiment import Experiment
from compare.golden.store import INDEX, SCHEMA, kept_steps
from compare.judge import Verdict
from compare.run.plan import SHARED_MASKS, plan
from compare.run.training import run_cases
from compare.storage import write_json
from compare.workers.backends import REFERENCE_RUNNER
from compare.workers.pool import Pool
from compare.workers.tasks import Event, Task


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
    recorded = []
    try:
        verdict = run_cases(experiments, backends, out, pool, on_event)
        for experiment in experiments:
            name = experiment.case.name
            comparisons = [comparison for comparison in verdict.comparisons if comparison.case == name]
            if any(comparison.status == "failed" and not comparison.expected for comparison in comparisons):
                continue
            trained = [comparison.runner for comparison in comparisons if comparison.status != "failed"]
            _keep(experiment, [REFERENCE_RUNNER, *trained], plan(experiment, backends, out), golden / name)
            recorded.append(name)
    finally:
        shutil.rmtree(out)
    return verdict, recorded


def _keep(experiment: Experiment, runners: Sequence[str], tasks: Sequence[Task], target: Path) -> None:
    """Move a case's traces to the folder that keeps them, with few of the checked steps."""
    source = tasks[0].out.parent
    traces: dict[str, list[str]] = {runner: [] for runner in runners}
    kept_files = {f"{step:08d}.safetensors" for step in kept_steps(experiment)}
    for task in tasks:
        # Of steps with shared masks a golden trace says nothing.
        if task.runner not in traces or task.member is not None or task.out.parent != source:
            shutil.rmtree(task.out, ignore_errors=True)  # of a runner that failed there may be nothing
            continue
        traces[task.runner].append(task.out.name)
        for file in (*task.out.glob("states/*"), *task.out.glob("single_step/*")):
            if file.name not in kept_files:
                file.unlink()
    shutil.rmtree(source / SHARED_MASKS, ignore_errors=True)
    files = sorted(str(file.relative_to(source)) for file in source.rglob("*") if file.is_file())
    write_json(source / INDEX, {"schema": SCHEMA, "case": experiment.case.name, "traces": traces, "files": files})
    if target.exists():
        shutil.rmtree(target)
    source.rename(target)
