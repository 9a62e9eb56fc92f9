"""Records golden traces."""

import ctypes
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from compare.errors import InputError
from compare.experiment.experiment import Experiment
from compare.golden.store import INDEX, SCHEMA, kept_steps
from compare.judge import Verdict
from compare.run.folder import locked
from compare.run.plan import SHARED_MASKS, plan
from compare.run.training import run_cases
from compare.storage import file_digest, not_writable, sealed, write_json
from compare.trace.trace import keep_steps
from compare.workers.backends import REFERENCE_RUNNER
from compare.workers.pool import Pool
from compare.workers.tasks import Event, Task

# How what a recording has made so far is named, and a golden trace that is about to be replaced.
RECORDING, ASIDE = ".recording-", ".replaced-"

# Of renameat2: paths are relative to the working folder; the two change places.
AT_FDCWD, EXCHANGE = -100, 2


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
    written, is held by another process, or holds a folder of the case's name that is no golden trace.
    """
    for experiment in experiments:
        target = golden / experiment.case.name
        if target.exists() and not (target / INDEX).is_file():
            raise InputError(f"{target} is no golden trace and would be overwritten; give another --golden DIR")
    try:
        golden.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise not_writable("--golden", golden, error) from None
    with locked(golden, "--golden"):
        _tidy(golden)
        return _record(experiments, backends, golden, pool, on_event)


def _tidy(golden: Path) -> None:
    """Remove what a recording leaves that was killed; a golden trace that it had set aside is put back."""
    for aside in golden.glob(f"{ASIDE}*"):
        target = golden / aside.name.removeprefix(ASIDE)
        if target.exists():
            shutil.rmtree(aside)
        else:
            aside.rename(target)
    for left in golden.glob(f"{RECORDING}*"):
        shutil.rmtree(left)


def _record(
    experiments: Sequence[Experiment],
    backends: Sequence[str],
    golden: Path,
    pool: Pool,
    on_event: Callable[[Event], None],
) -> tuple[Verdict, list[str]]:
    try:
        # Beside the folders that they come to, so that they can be moved there as a whole.
        out = Path(tempfile.mkdtemp(prefix=RECORDING, dir=golden))
    except OSError as error:
        raise not_writable("--golden", golden, error) from None
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
        shutil.rmtree(out, ignore_errors=True)  # the next recording does so otherwise
    return verdict, recorded


def _keep(experiment: Experiment, runners: Sequence[str], tasks: Sequence[Task], target: Path) -> None:
    """Move a case's traces to the folder that keeps them, with few of the checked steps."""
    source = tasks[0].out.parent
    traces: dict[str, list[str]] = {runner: [] for runner in runners}
    for task in tasks:
        # Of steps with shared masks a golden trace says nothing.
        if task.runner not in traces or task.member is not None or task.out.parent != source:
            shutil.rmtree(task.out, ignore_errors=True)  # of a runner that failed there may be nothing
            continue
        traces[task.runner].append(task.out.name)
        keep_steps(task.out, kept_steps(experiment))
    shutil.rmtree(source / SHARED_MASKS, ignore_errors=True)
    files = {str(file.relative_to(source)): file_digest(file) for file in sorted(source.rglob("*")) if file.is_file()}
    index = {"schema": SCHEMA, "case": experiment.case.name, "traces": traces, "files": files}
    write_json(source / INDEX, sealed(index))
    if not target.exists():
        source.rename(target)
    elif not _exchange(source, target):
        aside = target.with_name(ASIDE + target.name)
        target.rename(aside)
        source.rename(target)
        shutil.rmtree(aside)


def _exchange(one: Path, other: Path) -> bool:
    """Have two folders change places at once, so that there is a whole one at any time; False where that cannot be.

    Source: renameat2(2), Linux.
    """
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    return rename is not None and rename(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), EXCHANGE) == 0
