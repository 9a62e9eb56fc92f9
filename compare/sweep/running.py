"""Runs a sweep: finds what is done, has the rest run, keeps each verdict as it comes."""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from compare.sweep.cases import TRACES, PooledSweep
from compare.sweep.grid import Point, Sweep
from compare.sweep.judging import SERVICES
from compare.sweep.on_ray import RayPool, check_ray
from compare.sweep.results import LINES_FILE, Record, Results
from compare.sweep.table import Row, rows_of
from compare.workers.pool import Pool

# How often a training is tried again whose process died, before its case has failed.
RETRIES = 2


@dataclass(frozen=True)
class Where:
    """Where a sweep runs: on this machine, or on Ray's cluster at an address or one started here."""

    kind: Literal["local", "ray"]
    jobs: int
    timeout: float
    address: str | None = None
    device: str = "cpu"


@dataclass(frozen=True)
class Outcome:
    """What came of a sweep: a row for each comparison, in the order of the grid, and the counts of cases.

    `skipped` cases were found done; they count as what they came to, too.
    """

    rows: Sequence[Row]
    agree: int
    differ: int
    failed: int
    skipped: int
    internal_errors: int = 0

    @property
    def cases(self) -> int:
        """The number of cases."""
        return self.agree + self.differ + self.failed

    @property
    def exit_code(self) -> int:
        """0 where all agree, 1 where something differs, 3 where a case could not be run; a difference goes first.

        70 where a case was not judged for an error of this project's own.
        """
        if self.internal_errors:
            return 70
        return 1 if self.differ else 3 if self.failed or not self.cases else 0

    def as_json(self) -> dict[str, int]:
        """The counts by the names that `sweep --json` has."""
        names = ("cases", "agree", "differ", "failed", "skipped")
        return {name: getattr(self, name) for name in names} | {"comparisons": len(self.rows)}


def run_sweep(
    sweep: Sweep,
    points: Sequence[Point],
    out: Path,
    where: Where,
    say: Callable[[str], None] = lambda line: None,
    on_done: Callable[[Point, str, bool], None] = lambda point, status, was_done: None,
) -> Outcome:
    """Run the cases that `out` does not hold yet; one that failed before is run again.

    `on_done` is told of every case, what it came to, and whether it was done before. Raises InputError where the
    folder cannot be used, or no case can be run there.
    """
    if where.kind == "ray":
        check_ray(where.address)
    statuses: dict[str, str] = {}
    rows: dict[str, list[Row]] = {}
    by_name = {point.name: point for point in points}

    not_judged: dict[str, bool] = {}

    def keep(record: Record) -> None:
        not_judged[record["case"]] = record.get("internal_error", False)
        statuses[record["case"]] = record["status"]
        rows[record["case"]] = rows_of(by_name[record["case"]], record)

    # Meanwhile the next cases are trained: where files are many their removal takes longer than their writing.
    with Results(out, sweep.backends) as results, ThreadPoolExecutor(1) as remover:
        for record in results.read():
            if record["case"] in by_name:
                keep(record)
        if results.damaged:
            say(f"{out / LINES_FILE} is damaged in {results.damaged} lines: cases not found elsewhere are run again")
        done = {name for name, status in statuses.items() if status != "failed"}
        for point in points:
            if point.name in done:
                on_done(point, statuses[point.name], True)
        for name in done:
            if statuses[name] == "agrees" and (out / TRACES / name).exists():
                shutil.rmtree(out / TRACES / name)
        for record in _run(sweep, [point for point in points if point.name not in done], out, where, say):
            results.add(record)
            # Only now: where this process is killed before, the trainings are not repeated.
            if record["status"] == "agrees":
                remover.submit(shutil.rmtree, out / TRACES / record["case"], ignore_errors=True)
            keep(record)
            on_done(by_name[record["case"]], record["status"], False)
    agree, differ, failed, undecidable = (
        list(statuses.values()).count(kind) for kind in ("agrees", "differs", "failed", "undecidable")
    )
    failed += undecidable  # neither could be judged
    return Outcome(
        [row for name in by_name for row in rows[name]], agree, differ, failed, len(done), sum(not_judged.values())
    )


def _run(
    sweep: Sweep, points: Sequence[Point], out: Path, where: Where, say: Callable[[str], None]
) -> Iterator[Record]:
    if not points:
        return
    with open_pool(out, where, SERVICES) as pool:
        yield from PooledSweep(sweep, out, pool, where.kind, say).run(points)


def open_pool(out: Path, where: Where, services: Mapping[str, str]) -> Pool | RayPool:
    """Make the pool of workers of a place; their logs go into a folder of results."""
    # Each training has one thread, here and on Ray: with another number of threads sums are rounded otherwise.
    if where.kind == "ray":
        return RayPool(where.address, where.jobs, where.timeout, threads=1, retries=RETRIES, services=services)
    return Pool(
        out / "logs",
        where.jobs,
        where.timeout,
        threads=1,
        retries=RETRIES,
        services=services,
        device=where.device,
    )
