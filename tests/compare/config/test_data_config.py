"""The data section of a case takes the options of its dataset, and no others."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compare.config.case import Case, built_in_names, case_from_toml, load_case, make_case
from compare.config.data import DATASET_OPTIONS, DATASET_TASKS, PATHS, DataConfig
from compare.data.datasets import DATASETS, load_data
from compare.errors import InputError

# A value of every option that is not its default.
GIVEN: dict[str, Any] = {
    "csv": "a.csv",
    "target": "b",
    "features": ("c", "d"),
    "text_column": "words",
    "label_column": "stars",
    "file": "a.txt",
    "folder": "files",
    "download": True,
    "window": 11,
    "future": 7,
    "sampled": 20,
    "temperature": 0.5,
    "horizon": 3,
    "folds": 5,
    "fold": 2,
    "calendar": True,
    "examples": 40,
    "channels": 4,
    "classes": 5,
    "vocabulary": 9,
    "padding": "left",
}


def case_of(dataset: str, **data: Any) -> Case:
    """A case of a dataset, of the first task that it serves."""
    task = DATASET_TASKS[dataset][0]
    return make_case(
        {"name": "a", "task": task, "model": {"cell": "gru"}, "data": {"dataset": dataset, **data}}, "mine"
    )


def test_every_dataset_is_known_everywhere() -> None:
    """Each dataset has its tasks, its options and its loader; each option has an owner."""
    names = set(DataConfig.model_fields["dataset"].annotation.__args__)
    assert names == set(DATASET_TASKS) == set(DATASET_OPTIONS) == set(DATASETS)
    owned = {option for options in DATASET_OPTIONS.values() for option in options}
    assert owned == set(GIVEN)
    assert owned | {"dataset", "test_fraction", "points", "noise"} == set(DataConfig.model_fields)
    assert set(PATHS) <= owned


@pytest.mark.parametrize("dataset", DATASET_OPTIONS)
def test_a_dataset_takes_its_options(dataset: str) -> None:
    """All options of a dataset together are taken, and survive being written and read."""
    case = case_of(dataset, **{option: GIVEN[option] for option in DATASET_OPTIONS[dataset]})
    assert case_from_toml(case.to_toml()) == case


@pytest.mark.parametrize("dataset", DATASET_OPTIONS)
def test_a_dataset_refuses_options_of_others(dataset: str) -> None:
    """An option that would do nothing is refused, with the datasets that take it."""
    own = {option: GIVEN[option] for option in DATASET_OPTIONS[dataset]}
    for option in GIVEN.keys() - own.keys():
        owners = [name for name, options in DATASET_OPTIONS.items() if option in options]
        with pytest.raises(InputError) as raised:
            case_of(dataset, **own, **{option: GIVEN[option]})
        assert f"{option} belongs to dataset {', '.join(owners)}, not to {dataset}; leave it out" in str(raised.value)


@pytest.mark.parametrize("dataset", DATASET_TASKS)
def test_a_dataset_serves_its_tasks(dataset: str) -> None:
    """A task that a dataset does not serve is refused, with those that it does."""
    own = {option: GIVEN[option] for option in DATASET_OPTIONS[dataset]}
    for task in ("forecasting", "classification", "tagging"):
        fields = {"name": "a", "task": task, "model": {"cell": "gru"}, "data": {"dataset": dataset, **own}}
        if task in DATASET_TASKS[dataset]:
            assert make_case(fields, "mine").task == task
        else:
            message = f"task '{task}' does not fit data.dataset '{dataset}'; give task = {DATASET_TASKS[dataset][0]}"
            with pytest.raises(InputError, match=message):
                make_case(fields, "mine")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"dataset": "sunspot"}, "data.dataset = 'sunspot' is unknown; did you mean 'sunspots'?"),
        ({"dataset": "digits", "download": True}, "data.download belongs to dataset mnist, not to digits"),
        ({"dataset": "sine", "folds": 3}, "folds and fold go together: fold = 1 of folds = 5"),
        ({"dataset": "sine", "fold": 3}, "folds and fold go together"),
        ({"dataset": "sine", "folds": 1, "fold": 1}, "data.folds = 1: input should be greater than or equal to 2"),
        ({"dataset": "sine", "folds": 3, "fold": 4}, "fold 4 is not one of the 3 folds, 1 to 3"),
        ({"dataset": "sine", "folds": 3, "fold": 1, "test_fraction": 0.3}, "leave test_fraction out"),
        ({"dataset": "tokens", "padding": "scattered"}, "accepted here: none, right, left"),
        ({"dataset": "digits", "examples": 1}, "data.examples = 1: input should be greater than or equal to 2"),
        ({"dataset": "symbols", "vocabulary": 2}, "data.vocabulary = 2: input should be greater than or equal to 3"),
        ({"dataset": "signals", "classes": 1}, "data.classes = 1: input should be greater than or equal to 2"),
        ({"dataset": "signals", "padding": "middle"}, "data.padding = 'middle' is unknown"),
    ],
)
def test_options_that_make_no_sense_are_refused(data: dict[str, Any], message: str) -> None:
    """What is out of range, incomplete or contrary is refused by name."""
    task = DATASET_TASKS.get(data["dataset"], ("forecasting",))[0]
    with pytest.raises(InputError) as raised:
        make_case({"name": "a", "task": task, "model": {"cell": "gru"}, "data": data}, "mine")
    assert message in str(raised.value)


@pytest.mark.parametrize("path", PATHS)
def test_paths_are_relative_to_the_case_file(tmp_path: Path, path: str) -> None:
    """A file or folder named in a case file is looked for beside it, wherever the command is run."""
    dataset = next(name for name, options in DATASET_OPTIONS.items() if path in options)
    own = {option: GIVEN[option] for option in DATASET_OPTIONS[dataset]}
    file = tmp_path / "mine.toml"
    file.write_text(case_of(dataset, **own).to_toml())
    assert getattr(load_case(str(file)).data, path) == str(tmp_path / GIVEN[path])


@pytest.mark.parametrize("name", built_in_names())
def test_data_of_built_in_cases_load(name: str) -> None:
    """Every built-in case has its own name and data that can be loaded."""
    case = load_case(name)
    assert case.name == name
    assert load_data(case)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sunspots", "--folds", "309"], "309 folds need more than 309 rows; the series has 309: give fewer folds"),
        (["sunspots", "--folds", "100"], "up to the end of fold 1 of 100 has 12 rows, 9 of them to train on: too few"),
        (["digits", "--folds", "5"], "folds belongs to dataset sine, csv, sunspots, co2, elnino, not to digits"),
        (["lstm", "lstm", "--folds", "3"], "two cases are named 'lstm-fold1'"),
        (["lstm", "--all"], "--all runs every built-in case; leave lstm or --all out"),
    ],
    ids=["more-than-rows", "too-short", "no-series", "twice", "case-and-all"],
)
def test_folds_that_cannot_be_made_are_refused(refused: Callable[..., str], arguments: list[str], message: str) -> None:
    """Folds larger than the data, or of data that is no series, are refused before anything is trained."""
    assert message in refused("run", *arguments)
