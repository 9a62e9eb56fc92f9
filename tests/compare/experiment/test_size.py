"""What is too large is refused before anything of it is allocated."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compare.api import check_work, choose_cases
from compare.config.case import Case, field_names, load_case, with_fields
from compare.errors import InputError
from compare.experiment.size import HOURS_VARIABLE, MEMORY_VARIABLE, check_size
from compare.run.plan import prepare

# What a field needs beside it, where a plain LSTM on the sine does not take it.
SYMBOLS = {"task": "classification", "data.dataset": "symbols", "model.embedding": 4}
LOSS = {"training.loss": "sparse_categorical_crossentropy"}
BESIDE: dict[str, dict[str, Any]] = {
    "data.fold": {"data.folds": 3},
    "data.folds": {"data.fold": 1},
    "data.examples": {"data.dataset": "signals"},
    "data.channels": {"data.dataset": "signals"},
    "data.classes": SYMBOLS | LOSS,
    "data.vocabulary": SYMBOLS | LOSS,
    "model.embedding": SYMBOLS | LOSS,
    "data.sampled": {"task": "tagging", "data.dataset": "text", "model.head": "every_output", "model.embedding": 4}
    | LOSS,
    "training.decay_steps": {"training.schedule": "cosine"},
}


def whole_number_fields() -> list[str]:
    """Every field of a case that is a whole number, by dotted name."""
    names = []
    for name in field_names(load_case("lstm").model_dump()):
        section: Any = Case
        *parents, last = name.split(".")
        for parent in parents:
            section = section.model_fields[parent].annotation
        if section.model_fields[last].annotation in (int, int | None):
            names.append(name)
    return names


@pytest.mark.parametrize("field", whole_number_fields())
@settings(max_examples=10, deadline=None)
@given(value=st.integers(10**10, 10**40) | st.just(10**400))
def test_huge_numbers_are_refused_in_one_line(field: str, value: int) -> None:
    """No number, however large, is allocated for: the message has one line and names the field or what is too few."""
    tracemalloc.start()
    try:
        with pytest.raises(InputError) as refusal:
            prepare(choose_cases("lstm", {**BESIDE.get(field, {}), field: value}))
        assert "\n" not in str(refusal.value)
        assert tracemalloc.get_traced_memory()[1] < 2**26
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("field", "value", "what"),
    [("model.units", 10**6, "memory"), ("training.epochs", 10**9, "memory"), ("data.points", 10**10, "memory")],
)
def test_the_largest_that_fits_fits(monkeypatch: pytest.MonkeyPatch, field: str, value: int, what: str) -> None:
    """The message has what it would take and the largest that fits: that fits, one more does not."""
    monkeypatch.setenv(MEMORY_VARIABLE, "4")
    with pytest.raises(InputError, match=f"GiB of {what}.*{field} = {value} is too large") as refusal:
        prepare(choose_cases("lstm", {field: value}))
    largest = int(str(refusal.value).rpartition(" ")[2])
    check_size(choose_cases("lstm", {field: largest})[0])
    with pytest.raises(InputError, match="too large"):
        check_size(choose_cases("lstm", {field: largest + 1})[0])


def test_limits_can_be_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit is the user's to raise; what was refused then goes on."""
    (case,) = choose_cases("lstm", {"training.epochs": 10**8})
    monkeypatch.setenv(MEMORY_VARIABLE, "1e9")
    with pytest.raises(InputError, match=r"hours \(the limit is 24; --limit-hours"):
        check_size(case)
    monkeypatch.setenv(HOURS_VARIABLE, "1e9")
    check_size(case)


def test_processes_take_memory_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """So many trainings at a time, and so many folds, are refused like anything else that is too large."""
    monkeypatch.setenv(MEMORY_VARIABLE, "4")
    with pytest.raises(InputError, match=r"--jobs 1000000000 would take .* the largest that fits is 16"):
        check_work(10**9, 1)
    check_work(16, 1)
    with pytest.raises(InputError, match="too large"):
        choose_cases("lstm", {}, 10**9)


def test_built_in_cases_fit() -> None:
    """No built-in case is near the limits."""
    from compare.config.case import built_in_names

    for name in built_in_names():
        check_size(load_case(name))


def csv_case(folder: Path) -> Case:
    """A series of 4,000 rows in a file."""
    (folder / "prices.csv").write_text("price\n" + "\n".join(f"{row % 7}.5" for row in range(4000)), "utf-8")
    fields = {"data.dataset": "csv", "data.csv": str(folder / "prices.csv"), "data.target": "price"}
    return with_fields(load_case("lstm"), fields)


def npz_case(folder: Path) -> Case:
    """4,000 sequences in a file."""
    numbers = np.random.default_rng(0).normal(size=(4000, 8, 1))
    np.savez(folder / "sequences.npz", inputs=numbers, targets=numbers[:, 0], lengths=np.full(4000, 8))
    fields = {"data.dataset": "sequences", "data.file": str(folder / "sequences.npz"), "data.window": 8}
    return with_fields(load_case("lstm"), fields)


@pytest.mark.parametrize(
    ("make", "fields", "message"),
    [
        (csv_case, {"training.epochs": 10**5}, "training.epochs = 100000 is too large, the largest that fits is"),
        (csv_case, {"training.epochs": 2000}, "rows of the data = 4000 is too large, the largest that fits is"),
        (npz_case, {"training.epochs": 2000}, "examples of the data = 4000 is too large, the largest that fits is"),
    ],
    ids=["epochs of a CSV", "rows of a CSV", "examples of an NPZ"],
)
def test_sizes_that_a_file_tells_are_estimated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable, fields: dict[str, Any], message: str
) -> None:
    """What is in a file is counted as soon as it is read, before windows are cut or weights and schedules drawn."""
    case = with_fields(make(tmp_path), fields)
    monkeypatch.setenv(HOURS_VARIABLE, "0.005")
    check_size(case)  # its fields alone say too little
    monkeypatch.setattr("compare.experiment.experiment.make_windows", lambda *data: pytest.fail("windows were cut"))
    monkeypatch.setattr("compare.data.sequences.pad", lambda *data: pytest.fail("sequences were padded"))
    with pytest.raises(InputError, match=message):
        prepare([case])
