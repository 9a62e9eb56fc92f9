"""The data of a case: which datasets there are, what each serves and which options it takes."""

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, model_validator

from compare.config.section import Section

Task = Literal["forecasting", "classification", "tagging"]

_ALL_TASKS: tuple[Task, ...] = ("forecasting", "classification", "tagging")

# The tasks that each dataset serves.
DATASET_TASKS: Mapping[str, tuple[Task, ...]] = {
    **dict.fromkeys(("sine", "csv", "sunspots", "co2", "elnino"), ("forecasting",)),
    **dict.fromkeys(("digits", "mnist", "tokens"), ("classification",)),
    "text": ("tagging",),
    "sequences": _ALL_TASKS,
    "signals": _ALL_TASKS,
    "symbols": ("classification", "tagging"),
}

# The options that each dataset takes, beside those that all take.
_SERIES = ("window", "horizon", "folds", "fold", "future")
DATASET_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "sine": _SERIES,
    "csv": (*_SERIES, "csv", "target", "features"),
    "sunspots": _SERIES,
    "co2": (*_SERIES, "calendar"),
    "elnino": (*_SERIES, "calendar"),
    "digits": ("examples",),
    "mnist": ("folder", "download", "examples"),
    "text": ("file", "window", "examples", "sampled", "temperature"),
    "tokens": ("csv", "text_column", "label_column", "window", "vocabulary", "padding", "examples"),
    "sequences": ("file", "window", "padding", "examples", "classes"),
    "signals": ("window", "horizon", "padding", "examples", "channels", "classes"),
    "symbols": ("window", "padding", "examples", "vocabulary", "classes"),
}

# Options that are paths, in a case file relative to it.
PATHS = ("csv", "file", "folder")


class DataConfig(Section):
    """The data of a task; DATASET_OPTIONS says which dataset takes which field.

    dataset: where the data come from.
    csv, file, folder: the user's own data; in a case file relative to it.
    download: whether what is missing of mnist is fetched, into the folder, by default a cache.
    target, features: the column of a CSV file to predict, and those to predict from (default: the target).
    text_column, label_column: of a CSV file of labelled texts.
    window: timesteps of an example: values of a series, characters of a text, at most so many of longer sequences.
    horizon: how many of the next values of the target are predicted.
    test_fraction: which part is held out, from the end.
    folds, fold: cut a series by scikit-learn's TimeSeriesSplit; the case is of one of the folds, the first being 1.
    future: how many values each side forecasts after the held-out part by feeding its own predictions back.
    sampled, temperature: how many characters each side writes after the held-out text, from the same random numbers.
    points, noise: of the sine.
    calendar: whether the time of the year is a feature too.
    examples: how many are used, both parts together: all there are by default, of generated ones 200.
    channels, classes, vocabulary: of generated data; of texts the size of the vocabulary.
    padding: where shorter sequences are padded.
    """

    dataset: Literal[
        "sine", "csv", "sunspots", "co2", "elnino",
        "digits", "mnist", "text", "tokens", "sequences", "signals", "symbols",
    ] = "sine"  # fmt: skip
    csv: str | None = None
    target: str | None = None
    features: tuple[str, ...] = Field(default=(), strict=False)
    text_column: str = "text"
    label_column: str = "label"
    file: str | None = None
    folder: str | None = None
    download: bool | None = None
    window: int = Field(default=10, ge=1, lt=2**31)
    horizon: int = Field(default=1, ge=1)
    test_fraction: float = Field(default=0.2, gt=0, lt=1)
    folds: int | None = Field(default=None, ge=2, lt=2**31)
    fold: int | None = Field(default=None, ge=1)
    future: int = Field(default=0, ge=0)
    sampled: int = Field(default=0, ge=0)
    temperature: float = Field(default=1, ge=0)
    points: int = Field(default=1000, ge=2)
    noise: float = Field(default=0.1, ge=0)
    calendar: bool = False
    examples: int | None = Field(default=None, ge=2)
    channels: int = Field(default=3, ge=1)
    classes: int | None = Field(default=None, ge=2, lt=2**31)
    vocabulary: int | None = Field(default=None, ge=3, lt=2**31)
    padding: Literal["none", "right", "left", "scattered"] = "none"

    @model_validator(mode="after")
    def _options_belong_to_the_dataset(self) -> Self:
        own = DATASET_OPTIONS[self.dataset]
        for name in dict.fromkeys(option for options in DATASET_OPTIONS.values() for option in options):
            if name not in own and getattr(self, name) != DataConfig.model_fields[name].default:
                owners = ", ".join(dataset for dataset, options in DATASET_OPTIONS.items() if name in options)
                raise ValueError(f"data.{name} belongs to dataset {owners}, not to {self.dataset}; leave it out")
        if self.dataset == "csv" and (self.csv is None or self.target is None):
            raise ValueError('dataset "csv" needs both csv (a file) and target (a column)')
        if self.padding == "scattered" and self.dataset in ("tokens", "sequences"):
            raise ValueError('padding "scattered" belongs to generated data; accepted here: none, right, left')
        if len(set(self.features)) != len(self.features):
            raise ValueError("features names a column twice")
        return self

    @model_validator(mode="after")
    def _fold_is_one_of_the_folds(self) -> Self:
        if (self.folds is None) != (self.fold is None):
            raise ValueError("folds and fold go together: fold = 1 of folds = 5; --folds 5 makes a case of each")
        if self.folds is not None and self.fold is not None:
            if self.fold > self.folds:
                raise ValueError(f"fold {self.fold} is not one of the {self.folds} folds, 1 to {self.folds}")
            if self.test_fraction != DataConfig.model_fields["test_fraction"].default:
                raise ValueError("folds say what is held out; leave test_fraction out")
        return self
