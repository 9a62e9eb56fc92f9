"""A user's own CSV file is read exactly, or refused with what is wrong and where."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.paths import SUNSPOTS
from hypothesis import given
from hypothesis import strategies as st

from compare.data.csv_file import read_csv

# Yearly mean sunspot numbers from 1700 to 2008, the first version of the international series (SIDC, Brussels).

Refused = Callable[..., str]


def table(rows: int, bad: dict[int, str] | None = None) -> str:
    """A table with a header and numbers, but for the given rows (the first is 1)."""
    lines = [f"{year},{(bad or {}).get(year, year % 7)}" for year in range(1, rows + 1)]
    return "\n".join(["year,value", *lines]) + "\n"


def test_columns_are_read_in_time_order() -> None:
    """A real series is read whole: its target, and by default the target as the one feature."""
    series = read_csv(str(SUNSPOTS), "sunspots")
    assert series.target.shape == (309,)
    assert series.target[[0, 78, 257, 308]].tolist() == [5, 154.4, 190.2, 2.9]
    assert series.feature_names == ("sunspots",)
    assert np.array_equal(series.features[:, 0], series.target)


def test_features_are_read_in_the_order_asked_for() -> None:
    """Features stand in the order in which they are named, and the target need not be one of them."""
    series = read_csv(str(SUNSPOTS), "sunspots", ["sunspots", "year"])
    assert np.array_equal(series.features[:, 1], np.arange(1700, 2009))
    assert np.array_equal(series.features[:, 0], series.target)
    assert read_csv(str(SUNSPOTS), "sunspots", ["year"]).features.shape == (309, 1)


@given(values=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=8))
def test_numbers_are_read_to_the_last_digit(values: list[float], tmp_path_factory: pytest.TempPathFactory) -> None:
    """A number written with all its digits is read as the same number."""
    file = tmp_path_factory.getbasetemp() / "numbers.csv"
    file.write_text("\n".join(["x", *map(repr, values)]))
    np.testing.assert_array_equal(read_csv(str(file), "x").target, values)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("a, b\n1, 2\n3, 4\n", id="spaces-after-commas"),
        pytest.param("\ufeffa,b\n1,2\n3,4\n", id="byte-order-mark"),
        pytest.param("a,b\r\n1,2\r\n3,4\r\n", id="windows-line-ends"),
        pytest.param("a,b\n1,2\n3,4", id="no-last-line-end"),
        pytest.param('a,"b"\n"1","2"\n"3","4"\n', id="quoted"),
        pytest.param("a,b\n1,2\n\n3,4\n\n", id="blank-lines"),
    ],
)
def test_common_forms_are_read(tmp_path: Path, content: str) -> None:
    """What spreadsheets write is read alike."""
    file = tmp_path / "form.csv"
    file.write_text(content, "utf-8", newline="")
    series = read_csv(str(file), "b", ["a", "b"])
    assert series.features.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("content", "phrases"),
    [
        pytest.param(b"", ["is empty", "expected a header line"], id="empty"),
        pytest.param(b"\n\n", ["is empty"], id="blank"),
        pytest.param(bytes(range(256)) * 20, ["series.csv"], id="binary"),
        pytest.param(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\1\0", ["series.csv"], id="picture"),
        pytest.param("J\xe4nner,value\n1,2\n".encode("latin-1"), ["is not UTF-8 text"], id="latin-1"),
        pytest.param(b"year,value\n", ["has a header but no rows"], id="header-only"),
        pytest.param(b"year,vlaue\n1,2\n", ["has no column 'value'; did you mean 'vlaue'?", "year"], id="no-column"),
        pytest.param(b"1,2\n3,4\n", ["has no column 'value'", "accepted: 1, 2"], id="no-header"),
        pytest.param(b"year;value\n1;2\n3;4\n", ["has no column 'value'"], id="semicolons"),
        pytest.param(b"year,value\n1,2\n3,4,5,6\n", ["is not a table", "line 3"], id="ragged"),
        pytest.param(b"year,value\n1,2,3\n4,5,6\n", ["series.csv"], id="rows-longer-than-the-header"),
        pytest.param(
            table(40, {3: "five"}).encode(), ["column 'value', row 3", "'five' is not a finite number"], id="text"
        ),
        pytest.param(table(40, {7: "1,5"}).encode(), ["is not a table", "line 8"], id="decimal-comma"),
        pytest.param(table(40, {7: ""}).encode(), ["column 'value', row 7 after the header: is missing"], id="missing"),
        pytest.param(table(40, {7: "NA"}).encode(), ["row 7 after the header: is missing"], id="not-available"),
        pytest.param(table(40, {2: "inf"}).encode(), ["row 2", "inf is not a finite number"], id="infinite"),
        pytest.param(table(40, {2: "-inf"}).encode(), ["row 2", "-inf is not a finite number"], id="minus-infinite"),
        pytest.param(table(40, {2: "1e999"}).encode(), ["row 2", "not a finite number"], id="too-large"),
        pytest.param(table(40, {40: "", 39: "x"}).encode(), ["row 39", "(and 1 more)"], id="two-bad-values"),
        pytest.param(table(10).encode(), ["10 rows", "too few for one window of 10"], id="fewer-rows-than-a-window"),
        pytest.param(table(1).encode(), ["1 rows", "too few"], id="one-row"),
    ],
)
def test_files_that_cannot_be_used_are_refused(
    tmp_path: Path, refused: Refused, content: bytes, phrases: list[str]
) -> None:
    """A command with a CSV file that cannot be used says what is wrong and where, and writes nothing."""
    file = tmp_path / "series.csv"
    file.write_bytes(content)
    message = refused("run", "lstm", "--csv", file, "--target", "value")
    for phrase in phrases:
        assert phrase in message


@pytest.mark.parametrize("name", ["missing.csv", "."], ids=["missing", "folder"])
def test_files_that_are_not_there_are_refused(refused: Refused, name: str) -> None:
    """A command with a path where there is no file names the path."""
    message = refused("run", "lstm", "--csv", name, "--target", "value")
    assert message == f"CSV file {name!r} does not exist or is not a file"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--csv", SUNSPOTS], "--csv needs --target COLUMN"),
        (["--target", "sunspots"], "need --csv FILE"),
        (["--features", "year"], "need --csv FILE"),
        (["--csv", SUNSPOTS, "--target", "sunspots", "--features", "yaer"], "no column 'yaer'; did you mean 'year'?"),
        (["--csv", SUNSPOTS, "--target", "sunspots", "--features", "year", "year"], "features names a column twice"),
    ],
    ids=["no-target", "target-alone", "features-alone", "unknown-feature", "feature-twice"],
)
def test_options_of_a_csv_file_belong_together(refused: Refused, arguments: list[object], message: str) -> None:
    """Options for a CSV file that are incomplete or name no column are refused."""
    assert message in refused("run", "lstm", *arguments)
