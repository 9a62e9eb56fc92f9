"""What `tune` searches: the fields with their values, the score, the folds and the sides that are trained."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from math import prod
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from compare.config.case import Case, with_fields
from compare.errors import InputError, nearest
from compare.experiment.experiment import Experiment
from compare.storage import digest
from compare.sweep.grid import Sweep, explain_problems, read_sweep
from compare.sweep.ranking import MAXIMISED, check_metric
from compare.tune.folds import fold_experiments
from compare.workers.backends import BACKENDS, REFERENCE_RUNNER, backend_of, keras_runner, version

TRIALS = 20

# The most values of a range that a grid takes.
LONGEST_RANGE = 1000

BOTH = "both"


class Table(BaseModel):
    """The table [tune] of a sweep's file.

    space: by field a range, {low, high} with log or step; lists stand in [grid].
    metric: the score; by default the first of the task's.
    sampler, trials: how the next values are chosen, and how many trials there are: 20, of a grid all.
    folds: of the cross-validation by which a trial is scored.
    side: "torch", "keras-<backend>" or "both".
    pruner: "median" ends a trial after a fold where it is worse than half of the others were.
    seed: of the sampler.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    space: dict[str, Any] = {}
    metric: str | None = None
    sampler: Literal["tpe", "random", "grid"] = "tpe"
    trials: int | None = Field(default=None, ge=1)
    folds: int = Field(default=3, ge=2)
    side: str = REFERENCE_RUNNER
    pruner: Literal["median", "none"] = "median"
    seed: int = Field(default=0, ge=0, lt=2**32)


class Range(BaseModel):
    """Numbers from `low` to `high`, both among them: by `step`, evenly, or evenly in their logarithm."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    low: int | float
    high: int | float
    step: int | float | None = None
    log: bool = False

    @model_validator(mode="after")
    def _spans_something(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low = {self.low} must be below high = {self.high}")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("log needs a low above 0, and no step")
        if self.step is not None and not 0 < self.step <= self.high - self.low:
            raise ValueError(f"step = {self.step} must be above 0 and fit between low and high")
        return self

    @property
    def whole(self) -> bool:
        """Whether all values are whole numbers."""
        return all(not isinstance(value, float) for value in (self.low, self.high, self.step))

    def values(self) -> list[int | float]:
        """List the values; raises InputError where there is no step or there are too many."""
        step = self.step or (1 if self.whole and not self.log else None)
        if step is None:
            raise InputError('sampler = "grid" needs a step in each range of numbers, or lists in [grid]')
        low, high, by = (Decimal(str(value)) for value in (self.low, self.high, step))
        count = int((high - low) / by) + 1
        if count > LONGEST_RANGE:
            raise InputError(f"a range of {count} values is too long for a grid; give a larger step")
        number = int if self.whole else float
        return [number(low + by * index) for index in range(count)]


Dimension = Range | Sequence[Any]


@dataclass(frozen=True)
class Search:
    """A search: the sweep whose file it is, its dimensions by field, and how it is scored."""

    sweep: Sweep
    space: Mapping[str, Dimension]
    table: Table
    metric: str
    runners: tuple[str, ...]

    @property
    def maximised(self) -> bool:
        """Whether a larger score is better."""
        return self.metric in MAXIMISED

    @property
    def seeds(self) -> Sequence[int]:
        """The seeds over which a score is the mean."""
        return self.sweep.axes["seed"]

    @property
    def backends(self) -> list[str]:
        """The backends on which the best case is confirmed."""
        searched = [backend_of(runner) for runner in self.runners if runner != REFERENCE_RUNNER]
        return list(dict.fromkeys([*searched, *self.sweep.backends]))

    @property
    def trials(self) -> int:
        """How many trials there are."""
        asked = self.table.trials or (TRIALS if self.table.sampler != "grid" else None)
        if self.table.sampler != "grid":
            return asked or TRIALS
        return min(asked or self.points, self.points)

    @property
    def points(self) -> int:
        """How many points its grid has."""
        return prod(len(_values(dimension)) for dimension in self.space.values())

    def point(self, number: int) -> dict[str, Any]:
        """Return the values of one point of its grid."""
        values = {name: _values(dimension) for name, dimension in self.space.items()}
        fields = {}
        for name in reversed(values):
            number, index = divmod(number, len(values[name]))
            fields[name] = values[name][index]
        return {name: fields[name] for name in values}

    def case(self, fields: Mapping[str, Any], seed: int, name: str) -> Case:
        """Return the case with these fields, whole, as it is confirmed; raises InputError where it cannot be."""
        chosen = {**self.sweep.common, "dtype": self.sweep.axes["dtype"][0], **fields, "seed": seed, "name": name}
        return with_fields(self.sweep.base, chosen)

    def experiments(self, fields: Mapping[str, Any], seed: int, name: str) -> list[Experiment]:
        """Return the experiment of each fold; raises InputError where the fields do not make one."""
        return fold_experiments(self.case(fields, seed, name), self.table.folds)

    def check(self) -> None:
        """Try the ends of every range and every value of every list; raises InputError, naming what cannot be.

        All points of a grid, else each with the others' first values.
        """
        for fields in self._to_check():
            try:
                self.experiments(fields, self.seeds[0], self.sweep.base.name)
            except InputError as error:
                chosen = ", ".join(f"{name} = {value!r}" for name, value in fields.items())
                raise InputError(f"{self.sweep.source}: with {chosen}: {error}") from None

    def _to_check(self) -> Iterator[dict[str, Any]]:
        if self.table.sampler == "grid":
            yield from map(self.point, range(self.points))
            return
        ends = {name: [d.low, d.high] if isinstance(d, Range) else list(d) for name, d in self.space.items()}
        first = {name: values[0] for name, values in ends.items()}
        yield first
        for name, values in ends.items():
            yield from (first | {name: value} for value in values[1:])

    def as_json(self) -> dict[str, Any]:
        """By what a search is known again: everything but the number of trials, which may grow."""
        experiment = self.experiments(next(self._to_check()), self.seeds[0], self.sweep.base.name)[-1]
        return {
            "case": json.loads(self.sweep.base.to_json()),
            "fields": dict(self.sweep.common),
            "dtype": self.sweep.axes["dtype"][0],
            "seeds": list(self.seeds),
            "space": {n: d.model_dump() if isinstance(d, Range) else list(d) for n, d in self.space.items()},
            "metric": self.metric,
            "runners": list(self.runners),
            **self.table.model_dump(include={"sampler", "folds", "pruner", "seed"}),
            "data": digest(experiment.examples.arrays()),
        }


def read_search(path: Path, **replaced: Any) -> Search:
    """Read a search from a sweep's file, with keys of its table [tune] replaced where they are given.

    Raises InputError for what cannot be searched: see `read_sweep`; also unknown metrics and sides.
    """
    sweep = read_sweep(path)
    given = {name: value for name, value in replaced.items() if value is not None}
    try:
        table = Table.model_validate({**sweep.tune, **given})
    except ValidationError as error:
        raise InputError(f"{path}: [tune] {explain_problems(error, Table)}") from None
    try:
        search = _search_of(sweep, table)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    search.check()
    return search


def _search_of(sweep: Sweep, table: Table) -> Search:
    if len(sweep.axes["dtype"]) > 1:
        raise InputError(f"dtypes = {sweep.axes['dtype']}: tune searches in one; give one")
    space: dict[str, Dimension] = {n: values for n, values in sweep.axes.items() if n not in ("dtype", "seed")}
    for name, dimension in _ranges(table.space):
        if name in space or name in sweep.common:
            raise InputError(f"{name} is in tune.space and in {'grid' if name in space else 'fields'} too; keep one")
        space[name] = dimension
    if not space:
        raise InputError("nothing is to be tried: give lists in [grid] or ranges in [tune.space]")
    if "task" in space:
        raise InputError("task cannot be tried: the scores of two tasks are no better or worse than each other")
    if made := {"data.folds", "data.fold"} & (space.keys() | sweep.common.keys()) or sweep.base.data.folds:
        raise InputError(f"{min(made) if isinstance(made, set) else 'data.folds'} is tune's own; give tune.folds")
    first = {n: d.low if isinstance(d, Range) else d[0] for n, d in space.items()}
    case = with_fields(sweep.base, {**sweep.common, **first})
    space = {name: _typed(case, name, dimension) for name, dimension in space.items()}
    metric = check_metric(case.task, table.metric)
    return Search(sweep, space, table, metric, _runners(table.side, sweep.backends))


def _ranges(tables: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Range]]:
    for key, value in tables.items():
        name = prefix + key
        if not isinstance(value, dict):
            raise InputError(f"tune.space.{name} = {value!r} is no range such as {{low = 1, high = 9}}; lists: [grid]")
        if not value.keys() & set(Range.model_fields):
            yield from _ranges(value, f"{name}.")
            continue
        try:
            yield name, Range.model_validate(value)
        except ValidationError as error:
            raise InputError(f"tune.space.{name}: {explain_problems(error, Range)}") from None


def _typed(case: Case, name: str, dimension: Dimension) -> Dimension:
    """Let a range of a number that is not whole be so where its ends are written as whole numbers."""
    value: Any = case
    for part in name.split("."):
        value = getattr(value, part)
    if isinstance(dimension, Range) and isinstance(value, float):
        return dimension.model_copy(update={"low": float(dimension.low), "high": float(dimension.high)})
    return dimension


def _values(dimension: Dimension) -> Sequence[Any]:
    return dimension.values() if isinstance(dimension, Range) else dimension


def _runners(side: str, backends: Sequence[str]) -> tuple[str, ...]:
    sides = (REFERENCE_RUNNER, *map(keras_runner, BACKENDS))
    if side == BOTH:
        return REFERENCE_RUNNER, keras_runner(backends[0])
    if side not in sides:
        raise InputError(f"tune.side {side!r} is unknown; {nearest(side, (*sides, BOTH))}")
    if version(backend_of(side)) is None:
        raise InputError(f"tune.side {side!r}: backend {backend_of(side)} is not installed")
    return (side,)
