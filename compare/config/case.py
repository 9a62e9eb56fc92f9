"""Case: one model, its data and its training; frozen, validated, read from and written to TOML or JSON."""

import tomllib
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import tomli_w
from pydantic import Field, ValidationError, field_validator, model_validator

from compare.config.data import DATASET_TASKS, PATHS, DataConfig, Task
from compare.config.model import ModelConfig
from compare.config.section import Section
from compare.config.training import TrainingConfig
from compare.errors import InputError, nearest

Dtype = Literal["float32", "float64"]

# What a run writes into its folder beside the cases' own folders, and how such files end.
RUN_FILES = ("logs", "lock", "experiment", "cases", "traces", "nul", "con")
RUN_FILE_ENDS = (".json", ".jsonl", ".html", ".xml", ".log", ".lock", ".tmp", ".csv", ".toml", ".safetensors")

# What leaves room for `-fold12` and the like in a file name, of 255 bytes at most.
LONGEST_NAME = 200

# What is run where no case is named.
DEFAULT_SUITE = ("simple_rnn", "lstm", "gru")


class Case(Section):
    """One comparison's model, data and training.

    name: by which a run knows it; its folder's name.
    task: what is learned.
    seed: of the data, the batch schedule, the weights and all other draws.
    dtype: what both sides compute in.
    expected_defects: defects of the frameworks (`compare.known.defects`) that show in this case; with them a run is
        still a success.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    task: Task = "forecasting"
    seed: int = Field(default=0, ge=0, lt=2**32)
    dtype: Dtype = "float32"
    expected_defects: tuple[str, ...] = Field(default=(), strict=False)
    model: ModelConfig
    data: DataConfig = DataConfig()
    training: TrainingConfig = TrainingConfig()

    @field_validator("name")
    @classmethod
    def _name_is_a_folder_of_its_own(cls, name: str) -> str:
        if len(name) > LONGEST_NAME:
            raise ValueError(f"has {len(name)} characters, and names a folder; give {LONGEST_NAME} or fewer")
        if name.lower() in RUN_FILES or name.lower().endswith(RUN_FILE_ENDS):
            raise ValueError(f"{name!r} is, or may be, a file of the run itself; give another name")
        return name

    @model_validator(mode="after")
    def _numbers_fit_the_dtype(self) -> Self:
        largest = float(np.finfo(self.dtype).max)
        for section in ("model", "data", "training"):
            for name, value in getattr(self, section):
                numbers = value if isinstance(value, tuple) else (value,)
                if any(isinstance(number, float) and number > largest for number in numbers):
                    raise ValueError(f"{section}.{name} = {value} is beyond {self.dtype}, {largest:.3g} at most")
        return self

    @model_validator(mode="after")
    def _dataset_serves_the_task(self) -> Self:
        served = DATASET_TASKS[self.data.dataset]
        if self.task not in served:
            raise ValueError(
                f"task {self.task!r} does not fit data.dataset {self.data.dataset!r}; give task = {' or '.join(served)}"
            )
        return self

    def to_toml(self) -> str:
        """Write the case as TOML, from which `case_from_toml` makes an equal case."""
        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True))

    def to_json(self) -> str:
        """Write the case as JSON, from which `case_from_json` makes an equal case."""
        return self.model_dump_json(indent=2, exclude_none=True)


def make_case(fields: Mapping[str, Any], source: str) -> Case:
    """Validate fields from outside; raises InputError naming each field that is wrong."""
    try:
        return Case.model_validate(dict(fields))
    except ValidationError as error:
        raise InputError(_explain(error, source)) from None


def case_from_json(text: str, source: str = "JSON") -> Case:
    """Read a case from JSON; raises InputError naming each field that is wrong."""
    try:
        return Case.model_validate_json(text)
    except ValidationError as error:
        raise InputError(_explain(error, source)) from None


def case_from_toml(text: str, source: str = "TOML") -> Case:
    """Read a case from TOML; raises InputError with the line of a syntax error or each field that is wrong."""
    try:
        fields = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also a number of thousands of digits
        raise InputError(f"{source} is not valid TOML: {error}") from None
    return make_case(fields, source)


def built_in_names() -> list[str]:
    """Name the built-in cases, those of the default suite first."""
    names = [file.name.removesuffix(".toml") for file in _built_in_folder().iterdir() if file.name.endswith(".toml")]
    return [*DEFAULT_SUITE, *sorted(set(names) - set(DEFAULT_SUITE))]


def load_case(name: str | Path) -> Case:
    """Load a built-in case by name or a case from a TOML file; paths in it are relative to the file.

    Raises InputError for an unknown name, an unreadable file and wrong fields.
    """
    if name in built_in_names():
        return case_from_toml((_built_in_folder() / f"{name}.toml").read_text("utf-8"), str(name))
    file = Path(name)
    if file.suffix != ".toml":
        raise InputError(f"case {name!r} is unknown; {nearest(str(name), built_in_names())}, or a .toml file")
    if file.exists() and not file.is_file():  # to read from a pipe might never end
        raise InputError(f"case file {str(name)!r} is not a file")
    try:
        case = case_from_toml(file.read_text("utf-8"), str(name))
    except OSError as error:
        raise InputError(f"case file {str(name)!r} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"case file {str(name)!r} is not UTF-8 text") from None
    paths = {f"data.{field}": getattr(case.data, field) for field in PATHS}
    return with_fields(case, {field: str(file.parent / path) for field, path in paths.items() if path})


def with_fields(case: Case, fields: Mapping[str, Any]) -> Case:
    """Return the case with fields replaced, given as dotted names: {"model.units": 32}.

    Raises InputError for an unknown field (naming the nearest) or a value that it does not take.
    """
    changed = case.model_dump()
    for dotted, value in fields.items():
        section: Any = changed
        *parents, last = dotted.split(".")
        for parent in parents:
            section = section.get(parent) if isinstance(section, dict) else None
        if not isinstance(section, dict) or last not in section or isinstance(section[last], dict):
            raise InputError(f"field {dotted!r} is unknown; {nearest(dotted, field_names(case.model_dump()))}")
        section[last] = value
    return make_case(changed, f"case {case.name}")


def fold_cases(case: Case, folds: int) -> list[Case]:
    """Return a case for each fold of a cross-validation in time, named after the case as in `lstm-fold1`.

    Raises InputError where the case's dataset is no series, and for fewer than two folds.
    """
    return [
        with_fields(case, {"name": f"{case.name}-fold{fold}", "data.folds": folds, "data.fold": fold})
        for fold in range(1, max(folds, 1) + 1)
    ]


def fold_group(case: Case) -> str | None:
    """Return the name of the case of which this one is a fold; None where it is none."""
    end = f"-fold{case.data.fold}"
    return case.name.removesuffix(end) if case.data.fold is not None and case.name.endswith(end) else None


def field_names(fields: Mapping[str, Any], prefix: str = "") -> Iterable[str]:
    """Yield the dotted names of all fields."""
    for name, value in fields.items():
        if isinstance(value, dict):
            yield from field_names(value, f"{prefix}{name}.")
        else:
            yield prefix + name


def parse_setting(text: str) -> tuple[str, Any]:
    """Read FIELD=VALUE as the command line gives it; the value as TOML has it, else as plain text."""
    name, equals, value = text.partition("=")
    if not equals or not name or not value:
        raise InputError(f"--set {text!r} is not FIELD=VALUE, for example model.units=32")
    try:
        return name, tomllib.loads(f"value = {value}")["value"]
    except (ValueError, RecursionError):  # also a number of thousands of digits
        return name, value


def _built_in_folder() -> Any:
    return resources.files("compare.config") / "cases"


def _explain(error: ValidationError, source: str) -> str:
    return f"{source}: " + "; ".join(map(_explain_problem, error.errors()))


def _explain_problem(problem: Any) -> str:
    field, value = ".".join(map(str, problem["loc"])) or "the case", problem.get("input")
    match problem["type"]:
        case "extra_forbidden":
            template = Case(name="template", model=ModelConfig(cell="lstm")).model_dump()
            return f"field {field!r} is unknown; {nearest(field, field_names(template))}"
        case "missing":
            return f"field {field!r} is missing"
        case "literal_error":
            accepted = str(problem["ctx"]["expected"]).replace(" or ", ", ").replace("'", "").split(", ")
            return f"{field} = {value!r} is unknown; {nearest(str(value), accepted)}"
        case "value_error":
            return f"{field}: {problem['msg'].removeprefix('Value error, ')}"
        case _:
            return f"{field} = {value!r}: {problem['msg'][0].lower()}{problem['msg'][1:]}"
