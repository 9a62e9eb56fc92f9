"""Case: one model, its data and its training; frozen, validated, read from and written to TOML or JSON."""

import tomllib
from collections.abc import Iterable, Mapping
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Self

import tomli_w
from pydantic import Field, ValidationError, model_validator

from compare.config.data import DATASET_TASKS, PATHS, DataConfig, Section, Task
from compare.config.model_facts import ModelFacts
from compare.errors import InputError, nearest

Dtype = Literal["float32", "float64"]

# What is run where no case is named.
DEFAULT_SUITE = ("simple_rnn", "lstm", "gru")


class ModelConfig(ModelFacts, Section):
    """The recurrent model; features, vocabulary and outputs follow from the data.

    `head` says what the head sees: the last state of the last layer, which is its last output unless it runs both
    ways, its last output, or every output (a label a timestep). `initial_state` "given" draws one for every example;
    `dropout` stands between the layers and before the head, `input_dropout` and `recurrent_dropout` in every cell, one
    mask for all timesteps; `dropout_masks` are given to both sides, or each side draws its own. `l2` is Keras's: c
    times the sum of the squares of all kernels is added to the loss.
    """

    cell: Literal["simple_rnn", "lstm", "gru"]
    units: int = Field(default=50, ge=1)
    layers: int = Field(default=1, ge=1)
    embedding: int | None = Field(default=None, ge=1)
    bidirectional: Literal["concat", "sum", "mul", "ave"] | None = None
    head: Literal["last_state", "last_output", "every_output"] = "last_state"
    activation: Literal["tanh", "relu", "linear", "elu", "hard_sigmoid", "sigmoid", "softplus", "softsign"] = "tanh"
    recurrent_activation: Literal["sigmoid", "hard_sigmoid", "tanh"] = "sigmoid"
    reset_after: bool = True
    use_bias: bool = True
    go_backwards: bool = False
    zero_output_for_mask: bool = False
    initial_state: Literal["zeros", "given"] = "zeros"
    stateful: bool = False
    dropout: float = Field(default=0, ge=0, lt=1)
    input_dropout: float = Field(default=0, ge=0, lt=1)
    recurrent_dropout: float = Field(default=0, ge=0, lt=1)
    normalization: Literal["layer", "batch"] | None = None
    l2: float = Field(default=0, ge=0)
    sequence_first: bool = False
    dropout_masks: Literal["given", "own"] = "given"

    @model_validator(mode="after")
    def _model_makes_sense(self) -> Self:
        if not self.reset_after and self.cell != "gru":
            raise ValueError(f"reset_after = false belongs to gru, not to {self.cell}; leave it out")
        if self.recurrent_activation != "sigmoid" and self.cell == "simple_rnn":
            raise ValueError(
                "recurrent_activation belongs to the gates of lstm and gru; simple_rnn has activation alone"
            )
        if self.bidirectional and self.go_backwards:
            raise ValueError("bidirectional layers run both ways already; leave go_backwards out")
        if self.bidirectional and self.stateful:
            raise ValueError("a backward layer has no state to carry on; keep bidirectional or stateful")
        if self.bidirectional and self.zero_output_for_mask:
            raise ValueError("Keras's Bidirectional sets zero_output_for_mask itself; leave it out")
        if self.stateful and self.initial_state == "given":
            raise ValueError('stateful carries each state on; keep stateful or initial_state = "given"')
        return self


class TrainingConfig(Section):
    """The training, the same on both sides; with `stock` each framework's own optimizer defaults and biases.

    `weight_decay` None is what Keras gives the optimizer by default: 0.004 for adamw, none for the others. Steps of a
    schedule are training steps; "piecewise" takes its learning rates from `values`, the next one after each boundary.
    `keras_layers` "fast" trains the layers of `keras_models.fast` on the Keras side, `engine` "fit" by `model.fit`.
    `record` "loss" leaves out the norms of each step's gradients and updates.
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
    loss: Literal["mse", "mae", "huber", "sparse_categorical_crossentropy"] = "mse"
    initial_weights: Literal["keras", "torch"] = "keras"
    stock: bool = False
    keras_layers: Literal["stock", "fast"] = "stock"
    engine: Literal["compiled", "fit"] = "compiled"
    record: Literal["norms", "loss"] = "norms"

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


class Case(Section):
    """One comparison's model, data and training."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    task: Task = "forecasting"
    seed: int = Field(default=0, ge=0, lt=2**32)
    dtype: Dtype = "float32"
    # Defects of the frameworks (compare.known.defects) that show in this case; with them a run is still a success.
    expected_defects: tuple[str, ...] = Field(default=(), strict=False)
    model: ModelConfig
    data: DataConfig = DataConfig()
    training: TrainingConfig = TrainingConfig()

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
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{source} is not valid TOML: {error}") from None
    return make_case(fields, source)


def built_in_names() -> list[str]:
    """Name the built-in cases, those of the default suite first."""
    names = [file.name.removesuffix(".toml") for file in _built_in_folder().iterdir() if file.name.endswith(".toml")]
    return [*DEFAULT_SUITE, *sorted(set(names) - set(DEFAULT_SUITE))]


def load_case(given: str) -> Case:
    """Load a built-in case by name or a case from a TOML file; paths in it are relative to the file.

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
    paths = {name: getattr(case.data, name) for name in PATHS}
    return with_fields(case, {f"data.{name}": str(path.parent / given) for name, given in paths.items() if given})


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
    cases = []
    for fold in range(1, max(folds, 1) + 1):
        fields = {"name": f"{case.name}-fold{fold}", "data.folds": folds, "data.fold": fold}
        cases.append(with_fields(case, fields))
    return cases


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
    except tomllib.TOMLDecodeError:
        return name, value


def _built_in_folder() -> Any:
    return resources.files("compare.config") / "cases"


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
