"""Case: one model, its data and its training; frozen, validated, read from and written to TOML or JSON."""

import tomllib
from collections.abc import Iterable, Mapping
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Self

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from compare.errors import InputError, nearest

Dtype = Literal["float32", "float64"]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class ModelConfig(_Section):
    """The recurrent model; features and outputs follow from the data."""

    cell: Literal["simple_rnn", "lstm", "gru"]
    units: int = Field(default=50, ge=1)
    layers: int = Field(default=1, ge=1)


class DataConfig(_Section):
    """The series and how it is cut: windows of `window` values predict the next `horizon` values of the target."""

    dataset: Literal["sine", "csv"] = "sine"
    csv: str | None = None
    target: str | None = None
    features: tuple[str, ...] = Field(default=(), strict=False)
    window: int = Field(default=10, ge=1)
    horizon: int = Field(default=1, ge=1)
    test_fraction: float = Field(default=0.2, gt=0, lt=1)
    points: int = Field(default=1000, ge=2)
    noise: float = Field(default=0.1, ge=0)

    @model_validator(mode="after")
    def _csv_is_whole(self) -> Self:
        if self.dataset == "csv" and (self.csv is None or self.target is None):
            raise ValueError('dataset "csv" needs both csv (a file) and target (a column)')
        if self.dataset != "csv" and (self.csv is not None or self.target is not None or self.features):
            raise ValueError(f'csv, target and features belong to dataset "csv", not to {self.dataset!r}')
        if len(set(self.features)) != len(self.features):
            raise ValueError("features names a column twice")
        return self


class TrainingConfig(_Section):
    """The training, the same on both sides; with `stock` each framework's own optimizer defaults and biases.

    `weight_decay` None is what Keras gives the optimizer by default: 0.004 for adamw, none for the others. Steps of a
    schedule are training steps; "piecewise" takes its learning rates from `values`, the next one after each boundary.
    `keras_layers` "fast" trains the layers of `keras_models.fast` on the Keras side.
    """

    epochs: int = Field(default=20, ge=1)
    batch_size: int = Field(default=32, ge=1)
    optimizer: Literal["sgd", "rmsprop", "adam", "adamw", "adamax", "nadam", "adagrad", "adadelta"] = "adam"
    learning_rate: float = Field(default=1e-3, gt=0)
    momentum: float = Field(default=0, ge=0, le=1)
    nesterov: bool = False
    weight_decay: float | None = Field(default=None, ge=0)
    clipvalue: float | None = Field(default=None, gt=0)
    clipnorm: float | None = Field(default=None, gt=0)
    global_clipnorm: float | None = Field(default=None, gt=0)
    schedule: Literal["constant", "exponential", "cosine", "piecewise"] = "constant"
    decay_steps: int | None = Field(default=None, ge=1)
    decay_rate: float | None = Field(default=None, gt=0)
    boundaries: tuple[int, ...] = Field(default=(), strict=False)
    values: tuple[float, ...] = Field(default=(), strict=False)
    loss: Literal["mse"] = "mse"
    initial_weights: Literal["keras", "torch"] = "keras"
    stock: bool = False
    keras_layers: Literal["stock", "fast"] = "stock"

    @model_validator(mode="after")
    def _optimizer_makes_sense(self) -> Self:
        if self.momentum and self.optimizer not in ("sgd", "rmsprop"):
            raise ValueError(f"momentum belongs to sgd and rmsprop, not to {self.optimizer}; leave it out")
        if self.nesterov and self.optimizer != "sgd":
            raise ValueError(f"nesterov belongs to sgd, not to {self.optimizer}; leave it out")
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0, for example momentum = 0.9")
        clipping = [name for name in ("clipvalue", "clipnorm", "global_clipnorm") if getattr(self, name) is not None]
        if len(clipping) > 1:
            raise ValueError(f"{' and '.join(clipping)} exclude each other; keep one")
        return self

    @model_validator(mode="after")
    def _schedule_makes_sense(self) -> Self:
        needed = {
            "constant": (),
            "exponential": ("decay_steps", "decay_rate"),
            "cosine": ("decay_steps",),
            "piecewise": ("boundaries", "values"),
        }[self.schedule]
        given = [name for name in ("decay_steps", "decay_rate", "boundaries", "values") if getattr(self, name)]
        missing = [name for name in needed if name not in given]
        if missing:
            raise ValueError(f"schedule {self.schedule!r} needs {' and '.join(missing)}")
        if unused := [name for name in given if name not in needed]:
            raise ValueError(f"schedule {self.schedule!r} does not use {' and '.join(unused)}; leave it out")
        if self.schedule == "piecewise":
            self._check_pieces()
        return self

    def _check_pieces(self) -> None:
        if len(self.values) != len(self.boundaries) + 1:
            raise ValueError(
                f"{len(self.boundaries)} boundaries need {len(self.boundaries) + 1} values, not {len(self.values)}"
            )
        if any(later <= earlier for earlier, later in pairwise((-1, *self.boundaries))):
            raise ValueError(f"boundaries must be steps that increase, not {list(self.boundaries)}")
        if min(self.values) <= 0:
            raise ValueError(f"values are learning rates and must be above 0, not {list(self.values)}")
        if self.learning_rate not in (self.values[0], TrainingConfig.model_fields["learning_rate"].default):
            raise ValueError("schedule 'piecewise' takes its learning rates from values; leave learning_rate out")


class Case(_Section):
    """One comparison's model, data and training."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    task: Literal["forecasting"] = "forecasting"
    seed: int = Field(default=0, ge=0, lt=2**32)
    dtype: Dtype = "float32"
    model: ModelConfig
    data: DataConfig = DataConfig()
    training: TrainingConfig = TrainingConfig()

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
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{source} is not valid TOML: {error}") from None
    return make_case(fields, source)


def built_in_names() -> list[str]:
    """Name the built-in cases, in the order of the default suite."""
    order = {"simple_rnn": 0, "lstm": 1, "gru": 2}
    names = [file.name.removesuffix(".toml") for file in _built_in_folder().iterdir() if file.name.endswith(".toml")]
    return sorted(names, key=lambda name: (order.get(name, len(order)), name))


def load_case(given: str) -> Case:
    """Load a built-in case by name or a case from a TOML file; a CSV path in it is relative to the file.

    Raises InputError for an unknown name, an unreadable file and wrong fields.
    """
    if given in built_in_names():
        return case_from_toml((_built_in_folder() / f"{given}.toml").read_text("utf-8"), given)
    path = Path(given)
    if path.suffix != ".toml":
        raise InputError(f"case {given!r} is unknown; {nearest(given, built_in_names())}, or a .toml file")
    try:
        case = case_from_toml(path.read_text("utf-8"), given)
    except OSError as error:
        raise InputError(f"case file {given!r} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"case file {given!r} is not UTF-8 text") from None
    if case.data.csv is not None:
        case = with_fields(case, {"data.csv": str(path.parent / case.data.csv)})
    return case


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
    except tomllib.TOMLDecodeError:
        return name, value


def _built_in_folder() -> Any:
    return resources.files("compare") / "cases"


def _explain(error: ValidationError, source: str) -> str:
    lines = []
    for problem in error.errors():
        field = ".".join(str(part) for part in problem["loc"]) or "the case"
        given = problem.get("input")
        if problem["type"] == "extra_forbidden":
            template = Case(name="template", model=ModelConfig(cell="lstm")).model_dump()
            lines.append(f"field {field!r} is unknown; {nearest(field, field_names(template))}")
        elif problem["type"] == "missing":
            lines.append(f"field {field!r} is missing")
        elif problem["type"] == "literal_error":
            accepted = str(problem["ctx"]["expected"]).replace(" or ", ", ").replace("'", "").split(", ")
            lines.append(f"{field} = {given!r} is unknown; {nearest(str(given), accepted)}")
        elif problem["type"] == "value_error":
            lines.append(f"{field}: {problem['msg'].removeprefix('Value error, ')}")
        else:
            lines.append(f"{field} = {given!r}: {problem['msg'][0].lower()}{problem['msg'][1:]}")
    return f"{source}: " + "; ".join(lines)
