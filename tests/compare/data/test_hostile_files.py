"""Files that are not what they are said to be: each is refused with a message, and nothing waits for them."""

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from compare.config.case import load_case, make_case, parse_setting, with_fields
from compare.data.csv_file import read_csv
from compare.data.precision import check_range
from compare.data.sequences import check, read_npz
from compare.data.text import read_text
from compare.errors import InputError

CSV_FILES = {
    "duplicate columns": (b"a,b,a\n1,2,3\n", "has 2 columns 'a'"),
    "compressed": (gzip.compress(b"a\n1\n"), r"is compressed \(gzip\)"),
    "zip": (b"PK\x03\x04rest", r"is compressed \(zip\)"),
    "NUL bytes": (b"a\n1\x00\n", "NUL bytes"),
    "booleans": (b"a\nTrue\nFalse\n", "has True and False"),
}


@pytest.mark.parametrize(("content", "message"), CSV_FILES.values(), ids=list(CSV_FILES))
def test_csv_files_that_are_none(tmp_path: Path, content: bytes, message: str) -> None:
    """What is no table of numbers is refused for what it is."""
    file = tmp_path / "series.csv"
    file.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_csv(str(file), "a")


@pytest.mark.parametrize("content", [b"\xef\xbb\xbfa\r\n1\r\n2\r\n", b"a\n1\n2\n"], ids=["BOM and CRLF", "plain"])
def test_a_name_says_nothing_of_compression(tmp_path: Path, content: bytes) -> None:
    """A plain CSV whose name ends in .gz is read; a byte-order mark and CRLF change nothing."""
    file = tmp_path / "series.csv.gz"
    file.write_bytes(content)
    assert read_csv(str(file), "a").target.tolist() == [1, 2]


READERS = {
    "csv": lambda path: read_csv(path, "a"),
    "npz": read_npz,
    "text": read_text,
    "case": load_case,
}


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
@pytest.mark.parametrize("read", READERS.values(), ids=list(READERS))
def test_nothing_is_read_from_a_pipe(
    tmp_path: Path, read: Callable[[str], object], make: Callable[[Path], object]
) -> None:
    """What is no file is refused; to open a pipe would wait for ever."""
    path = tmp_path / "x.toml"
    make(path)
    with pytest.raises(InputError, match="not a file"):
        read(str(path))


@pytest.mark.parametrize("dtype", ["int64", "uint32", "uint64"])
def test_labels_out_of_reason(dtype: str) -> None:
    """Labels far beyond their number are no classes, whatever whole numbers they are; small ones are."""
    arrays = {"inputs": np.zeros((3, 2, 1)), "lengths": np.full(3, 2), "targets": np.array([0, 1, 2], dtype)}
    assert check(arrays, "the file", "classification", 2, None).outputs == 3
    arrays["targets"] = np.array([0, 1, 200_000_000], dtype)
    with pytest.raises(InputError, match="the largest of 3 labels is 200000000"):
        check(arrays, "the file", "classification", 2, None)


def test_objects_in_an_npz_file(tmp_path: Path) -> None:
    """Python objects are not unpickled."""
    np.savez(tmp_path / "a.npz", inputs=np.array([{}], dtype=object))
    with pytest.raises(InputError, match="cannot be read"):
        read_npz(str(tmp_path / "a.npz"))


def test_an_npz_file_that_unpacks_to_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a small file unpacks to is known before it is unpacked."""
    np.savez_compressed(tmp_path / "a.npz", inputs=np.zeros(10**6))
    monkeypatch.setattr("compare.data.sequences.LARGEST", 10**6)
    with pytest.raises(InputError, match="says that it holds 8,000,"):
        read_npz(str(tmp_path / "a.npz"))


@pytest.mark.parametrize("value", [1e39, -1e39, np.inf, np.nan])
def test_values_beyond_the_dtype(value: float) -> None:
    """A number that float32 does not hold is told with its row; the largest that it holds is none."""
    check_range(np.array([1.0, 3e38]), "float32", "the target")
    with pytest.raises(InputError, match=r"the target, row 2: .* is beyond float32"):
        check_range(np.array([1.0, value]), "float32", "the target")


@pytest.mark.parametrize(
    "name", ["verdict.json", "run.json", "Report.HTML", "junit.xml", "logs", "error.log", "x" * 300]
)
def test_names_of_the_runs_own_files(name: str) -> None:
    """A case's folder is no file of the run, nor longer than a file's name may be."""
    with pytest.raises(InputError, match="name"):
        make_case({"name": name, "model": {"cell": "lstm"}}, "a case")
    assert make_case({"name": "lstm-v1.2", "model": {"cell": "lstm"}}, "a case").name == "lstm-v1.2"


def test_numbers_beyond_the_dtype_of_a_case() -> None:
    """A setting that float32 does not hold is refused; float64 holds it."""
    with pytest.raises(InputError, match=r"training.learning_rate = 1e\+300 is beyond float32"):
        with_fields(load_case("lstm"), {"training.learning_rate": 1e300})
    with_fields(load_case("lstm"), {"training.learning_rate": 1e300, "dtype": "float64"})


def test_a_number_of_thousands_of_digits() -> None:
    """A number that Python does not read is refused like any other text."""
    with pytest.raises(InputError):
        with_fields(load_case("lstm"), dict([parse_setting("model.units=" + "9" * 5000)]))
