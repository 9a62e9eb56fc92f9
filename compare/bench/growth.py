"""How the cost of training, recording, ensemble and judging grows with units, timesteps, batch and steps."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compare.bench.bench import Child
from compare.bench.cost import ENSEMBLE, JUDGING, STOCK, CostModel, Work, exponent, fit, work_of
from compare.config.case import Case, load_case, with_fields
from compare.experiment.experiment import Experiment, make_experiment
from compare.run.judging import Job, judge_job, step_references
from compare.run.plan import plan, write_experiments
from compare.storage import read_json
from compare.trace.trace import END
from compare.workers.backends import REFERENCE_RUNNER, keras_runner
from compare.workers.pool import Pool
from compare.workers.tasks import Task
from compare.workers.temporary_folder import TemporaryFolder

# What grows, one at a time from the base case; a dimension ends with the value that takes longer than the budget.
DIMENSIONS: Mapping[str, Sequence[int]] = {
    "units": (50, 128, 256, 512, 1024),
    "timesteps": (10, 30, 100, 300, 1000),
    "batch": (32, 128, 512, 1024),
    "steps": (100, 1_000, 10_000, 100_000),
}
BASE: Mapping[str, int] = {"units": 50, "timesteps": 10, "batch": 32, "steps": 20}
BUDGET = 60.0  # seconds of a value, all its parts together


@dataclass(frozen=True)
class Point:
    """One measured value of a dimension: the work that it is, and what each part took, in seconds."""

    dimension: str
    value: int
    work: Work
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class Growth:
    """What was measured: by runner, "stock" (a plain PyTorch loop), "ensemble" (with the repetition) and "judging"."""

    cell: str
    points: Sequence[Point]
    model: CostModel

    @property
    def parts(self) -> list[str]:
        """The names of the parts."""
        return list(self.points[0].seconds)

    def of_dimension(self, dimension: str) -> list[Point]:
        """The points of a dimension, the smallest first."""
        return [point for point in self.points if point.dimension == dimension]

    def exponents(self, dimension: str) -> dict[str, float]:
        """The exponent with which each part grows; nothing where fewer than two values were measured."""
        points = self.of_dimension(dimension)
        values = [float(point.value) for point in points]
        if len(values) < 2:
            return {}
        return {part: exponent(values, [point.seconds[part] for point in points]) for part in self.parts}

    def as_json(self) -> dict[str, Any]:
        """The form in which `--json` has it."""
        points = [vars(point) | {"work": vars(point.work), "seconds": dict(point.seconds)} for point in self.points]
        exponents = {dimension: self.exponents(dimension) for dimension in DIMENSIONS}
        return {"cell": self.cell, "points": points, "exponents": exponents, "model": self.model.as_json()}


def measure_growth(
    cell: str,
    backends: Sequence[str],
    budget: float = BUDGET,
    say: Callable[[str], None] = lambda line: None,
    dimensions: Mapping[str, Sequence[int]] = DIMENSIONS,
) -> Growth:
    """Measure each part of the cost along each dimension, one process at a time, and fit the model of costs.

    Each process trains one epoch before, so that neither imports nor compiling are in it.
    """
    with TemporaryFolder() as folder, Pool(folder / "logs", jobs=1) as pool:
        points = list(_points(cell, backends, budget, say, dimensions, pool, folder))
    parts = points[0].seconds
    measured = {part: [(point.work, point.seconds[part]) for point in points] for part in parts}
    return Growth(cell, points, fit(measured))


def _points(
    cell: str,
    backends: Sequence[str],
    budget: float,
    say: Callable[[str], None],
    dimensions: Mapping[str, Sequence[int]],
    pool: Pool,
    folder: Path,
) -> Iterator[Point]:
    for dimension, values in dimensions.items():
        for value in values:
            case = case_of(cell, {**BASE, dimension: value})
            experiment = make_experiment(case)
            out = folder / f"{dimension}-{value}"
            seconds = _measure(experiment, backends, pool, out)
            yield Point(dimension, value, work_of(experiment), seconds)
            parts = ", ".join(f"{part} {second:.2f} s" for part, second in seconds.items())
            say(f"{cell}, {dimension} {value}: {parts}")
            if sum(seconds.values()) > budget:
                break


def case_of(cell: str, sizes: Mapping[str, int]) -> Case:
    """Return a case with so many units, timesteps, windows a batch and steps, of a sine, ten batches an epoch."""
    batches = min(10, sizes["steps"])
    windows = batches * sizes["batch"]
    # Four fifths of the windows are trained on.
    points = -(-windows * 5 // 4) + sizes["timesteps"] + 1
    fields = {
        "name": "growth",
        "model.units": sizes["units"],
        "data.window": sizes["timesteps"],
        "data.points": points,
        "training.batch_size": sizes["batch"],
        "training.epochs": -(-sizes["steps"] // batches),
    }
    return with_fields(load_case(cell), fields)


def _measure(experiment: Experiment, backends: Sequence[str], pool: Pool, out: Path) -> dict[str, float]:
    runners = (REFERENCE_RUNNER, *map(keras_runner, backends))
    write_experiments(experiment, out / experiment.case.name)
    seconds: dict[str, float] = {}
    first_epoch = make_experiment(with_fields(experiment.case, {"training.epochs": 1}))
    write_experiments(first_epoch, out / "first" / experiment.case.name)
    for _ in _done(pool, [task for task in plan(first_epoch, backends, out / "first") if task.out.name in runners]):
        pass
    for task in _done(pool, plan(experiment, backends, out)):
        part = task.out.name if task.out.name in runners else ENSEMBLE
        seconds[part] = seconds.get(part, 0.0) + read_json(task.out / END)["seconds"]
    step_references.cache_clear()
    began = time.perf_counter()
    (comparison, *_) = judge_job(Job(experiment, backends[:1]), out, {})
    seconds[JUDGING] = time.perf_counter() - began
    if comparison.status != "agrees":
        raise RuntimeError(f"the comparison that is timed does not agree: {comparison.first_difference}")
    return {STOCK: _stock_seconds(experiment, out)} | seconds


def _done(pool: Pool, tasks: Sequence[Task]) -> Iterator[Task]:
    """Yield each task that is done; raises RuntimeError where one fails."""
    for event in pool.run(tasks):
        if event.kind == "failed":
            raise RuntimeError(f"{event.task.runner}: {event.error}")
        if event.kind == "done":
            yield event.task


def _stock_seconds(experiment: Experiment, out: Path) -> float:
    """Time as many steps of a plain PyTorch loop: the second round of two."""
    epochs = experiment.case.training.epochs
    child = Child(REFERENCE_RUNNER, "stock", out / experiment.case.name / "experiment")
    try:
        child.train(1)
        child.train(epochs)
    finally:
        child.process.end()
    return child.seconds[-1]
