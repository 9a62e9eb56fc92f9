"""A user's own series from a CSV file with a header line."""

import csv
import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from compare.data.series import Series
from compare.errors import InputError, nearest

# The first bytes of what is compressed, whatever its name.
COMPRESSED = {
    "gzip": b"\x1f\x8b",
    "zip": b"PK\x03\x04",
    "bzip2": b"BZh",
    "xz": b"\xfd7zXZ\x00",
    "zstd": b"\x28\xb5\x2f\xfd",
}


def read_csv(path: str, target: str, features: Sequence[str] = ()) -> Series:
    """Read the target column and the feature columns (by default the target alone), rows in time order.

    Raises InputError for a file that is missing, empty or not text, an unknown column, and a value that is missing,
    infinite or not a number.
    """
    names = tuple(features) or (target,)
    table = read_table(path, (target, *names))
    columns = {name: _numbers(table[name], path) for name in dict.fromkeys((target, *names))}
    return Series(np.stack([columns[name] for name in names], axis=1), columns[target], names, target)


def read_table(path: str, names: Sequence[str], **options: Any) -> Any:
    """Read a CSV file with a header line that has the named columns, as a pandas DataFrame with at least one row.

    Raises InputError for a file that is missing, empty or not text, and for a column that it does not have.
    """
    import pandas as pd  # takes most of a second, and only these readers need it

    if not Path(path).is_file():
        raise InputError(f"CSV file {path!r} does not exist or is not a file")
    _check_content(path)
    try:
        with warnings.catch_warnings():
            # A row longer than the header would shift every column; pandas only warns.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table = pd.read_csv(path, skipinitialspace=True, index_col=False, compression=None, **options)
    except pd.errors.EmptyDataError:
        raise InputError(f"CSV file {path!r} is empty; expected a header line and rows") from None
    except UnicodeDecodeError:
        raise InputError(f"CSV file {path!r} is not UTF-8 text") from None
    except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
        raise InputError(f"CSV file {path!r} is not a table: {str(error).strip()}") from None
    except OSError as error:
        raise InputError(f"CSV file {path!r} cannot be read: {error.strerror}") from None

    for name in names:
        if name not in table.columns:
            raise InputError(f"CSV file {path!r} has no column {name!r}; {nearest(name, map(str, table.columns))}")
    if table.empty:
        raise InputError(f"CSV file {path!r} has a header but no rows")
    return table


def _check_content(path: str) -> None:
    """Raise InputError for what is no text, by its first bytes, and for columns of one name."""
    try:
        with Path(path).open("rb") as stream:
            start = stream.read(2**16)
    except OSError as error:
        raise InputError(f"CSV file {path!r} cannot be read: {error.strerror}") from None
    for kind, magic in COMPRESSED.items():
        if start.startswith(magic):
            raise InputError(f"CSV file {path!r} is compressed ({kind}); give it uncompressed")
    if b"\0" in start:
        raise InputError(f"CSV file {path!r} is not UTF-8 text: it has NUL bytes")
    try:
        header = next(csv.reader(io.StringIO(start.decode("utf-8-sig", "replace")), skipinitialspace=True), [])
    except csv.Error:
        return  # the reader of the whole file says what is wrong
    for name in header:
        if name and header.count(name) > 1:
            raise InputError(f"CSV file {path!r} has {header.count(name)} columns {name!r}; give each its own name")


def _numbers(column: Any, path: str) -> np.ndarray:
    import pandas as pd

    if pd.api.types.is_bool_dtype(column):
        raise InputError(f"CSV file {path!r}, column {column.name!r} has True and False; give 1 and 0")
    numbers = np.asarray(pd.to_numeric(column, errors="coerce"), dtype=np.float64)
    wrong = np.flatnonzero(~np.isfinite(numbers))
    if wrong.size:
        first = int(wrong[0])
        value = column.iloc[first]
        what = (
            "is missing"
            if pd.isna(value)
            else f"{value if isinstance(value, float) else repr(value)} is not a finite number"
        )
        more = f" (and {wrong.size - 1} more)" if wrong.size > 1 else ""
        raise InputError(f"CSV file {path!r}, column {column.name!r}, row {first + 1} after the header: {what}{more}")
    return numbers
