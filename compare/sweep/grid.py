"""The file of a sweep and the cases that it spans."""

import hashlib
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from compare.config.case import Case, load_case, with_fields
from compare.config.data import PATHS
from compare.errors import InputError, nearest
from compare.experiment.experiment import Experiment, make_experiment
from compare.storage import digest
from compare.workers.backends import BACKENDS, choose_backends

# How much of a hash tells the cases of a sweep apart: 48 bits, so that a million are very likely all different.
NAME_DIGITS = 12

# What a sweep says of all cases at once, and what is to be given instead.
NOT_IN_THE_GRID = {"seed": "seeds = [0, 1]", "dtype": 'dtypes = ["float32"]', "name": "none: names are made"}


class SweepFile(BaseModel):
    """What a sweep's file has: a base case, what replaces its fields, and lists of what is tried for a field.

    `tune` says how `compare tune` searches; a sweep tries every value of every list.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    case: str
    fields: dict[str, Any] = {}
    grid: dict[str, Any] = {}
    backends: list[str] | None = None
    seeds: list[int] | None = None
    dtypes: list[str] | None = None
    tune: dict[str, Any] = {}


@dataclass(frozen=True)
class Point:
    """A case of a sweep: its name, which tells it from any other, and the values that it has of the lists."""

    name: str
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class Sweep:
    """A grid: the base case, what all cases have instead of its fields, backends, and by field what is tried."""

    source: str
    base: Case
    common: Mapping[str, Any]
    backends: Sequence[str]
    axes: Mapping[str, Sequence[Any]]
    tune: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return prod(map(len, self.axes.values()))

    def label(self, point: Point) -> str:
        """Say which case it is, by the fields that are not the same in all."""
        varied = [f"{name}={value}" for name, value in point.fields.items() if len(self.axes[name]) > 1]
        return " ".join(varied) or point.name

    def experiment(self, point: Point) -> Experiment:
        """Make the experiment of a case."""
        return make_experiment(with_fields(self.base, {**self.common, **point.fields, "name": point.name}))

    def points(self) -> Iterator[Point]:
        """Check and name every case.

        Raises InputError for one that cannot be, with the values that it has.
        """
        for values in product(*self.axes.values()):
            fields = dict(zip(self.axes, values, strict=True))
            try:
                experiment = make_experiment(with_fields(self.base, {**self.common, **fields}))
            except InputError as error:
                chosen = ", ".join(f"{name} = {value!r}" for name, value in fields.items())
                raise InputError(f"{self.source}: with {chosen}: {error}") from None
            # The data are in the name too: with another content of a file it is another case.
            content = experiment.case.to_json() + digest(experiment.examples.arrays())
            yield Point(f"{self.base.name}-{hashlib.sha256(content.encode()).hexdigest()[:NAME_DIGITS]}", fields)


def read_sweep(path: Path) -> Sweep:
    """Read the file of a sweep; paths in it are relative to it.

    Raises InputError for a file that cannot be read, unknown keys and fields, and lists that are empty or repeat.
    """
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(f"sweep {str(path)!r} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"sweep {str(path)!r} is not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path} is not valid TOML: {error}") from None
    try:
        file = SweepFile.model_validate(content)
    except ValidationError as error:
        raise InputError(f"{path}: {explain_problems(error, SweepFile)}") from None
    try:
        return _sweep_of(file, path)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _sweep_of(file: SweepFile, path: Path) -> Sweep:
    folder = path.parent
    base = load_case(folder / file.case if file.case.endswith(".toml") else file.case)
    lists = _flat(file.grid)
    for name, instead in NOT_IN_THE_GRID.items():
        if name in lists:
            raise InputError(f"grid.{name} does not belong into the grid; give {instead}")
    axes = {**lists, "dtype": file.dtypes, "seed": file.seeds}
    if file.dtypes is None:
        axes["dtype"] = [base.dtype]
    if file.seeds is None:
        axes["seed"] = [base.seed]
    for name, values in axes.items():
        _check_list(name, values)
    fields = _flat(file.fields)
    if both := fields.keys() & axes.keys():
        raise InputError(f"{min(both)} is in fields and in a list too; keep one")
    for name in (f"data.{path}" for path in PATHS):
        if name in fields:
            fields[name] = str(folder / str(fields[name]))
        if name in axes:
            axes[name] = [str(folder / str(value)) for value in axes[name]]
    backends = choose_backends(None) if file.backends is None else file.backends
    if file.backends is not None:
        _check_list("backends", backends)
    for name in backends:
        if name not in BACKENDS:
            raise InputError(f"backends: backend {name!r} is unknown; {nearest(name, BACKENDS)}")
    return Sweep(str(path), base, fields, backends, axes, file.tune)


def _flat(tables: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Name fields with dots, given as model.units = …, as "model.units" = … or below [fields.model]."""
    fields: dict[str, Any] = {}
    for name, value in tables.items():
        fields |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return fields


def _check_list(name: str, values: Any) -> None:
    if not isinstance(values, list):
        raise InputError(f"{name} = {values!r} is no list; what all cases have belongs into [fields]")
    if not values:
        raise InputError(f"{name} = [] is empty; give at least one value, or leave it out")
    for index, value in enumerate(values):
        if value in values[:index]:
            raise InputError(f"{name} has {value!r} twice")


def explain_problems(error: ValidationError, table: type[BaseModel]) -> str:
    """Say what is wrong with a table of the file."""
    return "; ".join(_explain(problem, table) for problem in error.errors())


def _explain(problem: Any, table: type[BaseModel]) -> str:
    name = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"key {name!r} is unknown; {nearest(name, table.model_fields)}"
    if problem["type"] == "missing":
        return f"key {name!r} is missing"
    return f"{name} = {problem['input']!r}: {problem['msg'][0].lower()}{problem['msg'][1:]}"
