"""Which settings of a sweep have the best test metric, over their seeds and runners."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from compare.config.data import Task
from compare.errors import InputError, nearest
from compare.sweep.grid import Sweep
from compare.sweep.table import Row

# What cases can be ranked by, by task, the default first; `MAXIMISED` are better where they are larger.
METRICS: Mapping[Task, tuple[str, ...]] = {
    "forecasting": ("mse", "rmse", "mae", "r2"),
    "classification": ("accuracy", "perplexity"),
    "tagging": ("accuracy", "perplexity"),
}
MAXIMISED = ("r2", "accuracy")

# The two sides, as the columns of a sweep's table name them.
SIDES = ("torch", "keras")


@dataclass(frozen=True)
class Ranked:
    """Settings of a sweep: their values, the mean of the metric on each side over seeds and runners, what agrees.

    A side is None where a comparison has no such figure, because it failed or diverged.
    """

    fields: Mapping[str, Any]
    sides: Mapping[str, float | None]
    agree: int
    comparisons: int

    @property
    def score(self) -> float | None:
        """The mean of both sides; None where one is missing."""
        figures = [value for value in self.sides.values() if value is not None]
        return fmean(figures) if len(figures) == len(self.sides) else None


def check_metric(task: Task, name: str | None) -> str:
    """Return the metric to rank by, the task's default if None; raises InputError for one that the task has not."""
    accepted = METRICS[task]
    if name is not None and name not in accepted:
        raise InputError(f"metric {name!r} is none of task {task!r}; {nearest(name, accepted)}")
    return name or accepted[0]


def rank(sweep: Sweep, rows: Sequence[Row], metric: str) -> list[Ranked]:
    """Rank the settings that a sweep tried, the best first; its seeds and dtypes are not settings."""
    varied = [name for name, values in sweep.axes.items() if len(values) > 1 and name not in ("seed", "dtype")]
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(repr(row[name]) for name in varied), []).append(row)
    ranked = [
        Ranked(
            {name: group[0][name] for name in varied},
            {side: _mean([row.get(f"{metric}_{side}") for row in group]) for side in SIDES},
            sum(row["status"] == "agrees" for row in group),
            len(group),
        )
        for group in groups.values()
    ]
    sign = -1 if metric in MAXIMISED else 1
    return sorted(ranked, key=lambda one: (one.score is None, sign * (one.score or 0.0)))


def _mean(figures: Sequence[float | None]) -> float | None:
    known = [figure for figure in figures if figure is not None]
    return fmean(known) if known and len(known) == len(figures) else None
