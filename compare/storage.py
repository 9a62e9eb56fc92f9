"""Files that are whole or not there, and what tells that they are as they were written: hashes and checksums."""

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from compare.errors import InputError

# What the system says of a disk, a user's share of it or a limit of a file's size that is full.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

# The key of the checksum in a JSON object that is sealed.
CHECKSUM = "checksum"


def digest(arrays: Mapping[str, np.ndarray]) -> str:
    """Hash names, dtypes, shapes and bytes with SHA-256; views are read in blocks, not copied whole."""
    hasher = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        hasher.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        block = max(1, 2**20 // max(array[:1].nbytes, 1))
        for start in range(0, len(array), block):
            hasher.update(np.ascontiguousarray(array[start : start + block]).tobytes())
    return hasher.hexdigest()


def file_digest(path: Path) -> str:
    """Hash a file with SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """Add to a JSON object the checksum by which it is known to be as it was written."""
    return {**content, CHECKSUM: _checksum(content)}


def is_sealed(content: Any) -> bool:
    """Whether a JSON object is as it was sealed."""
    if not isinstance(content, dict):
        return False
    return content.get(CHECKSUM) == _checksum({key: value for key, value in content.items() if key != CHECKSUM})


def _checksum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@contextlib.contextmanager
def new_folder(out: Path, option: str = "--out") -> Iterator[None]:
    """Make a folder that is empty; what is refused within leaves none behind.

    Raises InputError where it cannot be written or holds something.
    """
    missing = [folder for folder in (out, *out.parents) if not folder.exists()]
    try:
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()):
            raise InputError(f"{option} {out} is not empty: give a new folder")
        (out / ".writable").touch()
        (out / ".writable").unlink()
    except OSError as error:
        raise not_writable(option, out, error) from None
    try:
        yield
    except InputError:
        for folder in missing:
            folder.rmdir()
        raise


def not_writable(option: str, path: Path, error: OSError) -> Exception:
    """What is raised for a place that cannot be written; that a disk is full is no mistake of the user's."""
    return error if error.errno in FULL else InputError(f"{option} {path} cannot be written: {error.strerror}")


def file_to_write(option: str, path: str | Path) -> Path:
    """Return the path of a file that a long command writes at its end.

    Raises InputError where that could not be done, before the work.
    """
    file = Path(path)
    if file.is_dir():
        raise InputError(f"{option} {path} is a folder: give a file")
    if not file.parent.is_dir():
        raise InputError(f"{option} {path} cannot be written: there is no folder {file.parent}")
    if not os.access(file if file.exists() else file.parent, os.W_OK):
        raise InputError(f"{option} {path} cannot be written: permission denied")
    return file


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a partial file to write, which takes the file's place when it is whole; errors name the file."""
    partial = path.with_suffix(".partial")
    try:
        yield partial
        os.replace(partial, path)
    except SafetensorError as error:  # as it tells what the system has told it
        code = next((code for code in FULL if f"(os error {code})" in str(error)), errno.EIO)
        raise OSError(code, str(error), str(path)) from None
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_text(path: Path, text: str) -> None:
    """Write a text so that the file is whole or not there."""
    with whole_file(path) as partial:
        partial.write_text(text, "utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write JSON so that the file is whole or not there."""
    write_text(path, json.dumps(content, indent=1))


class SealedLines:
    """A file with a JSON object on each line, each with its checksum, to which lines are added as they come.

    A last line that was cut short is dropped when it is read; one that is not as it was written is left out, and
    counted in `damaged`.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.damaged = path, 0
        self._file = path.open("a+b")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self) -> Iterator[dict[str, Any]]:
        """Read every line there is, and make room for more."""
        self._file.seek(0)
        whole = 0
        for line in self._file:
            if not line.endswith(b"\n"):
                break
            whole += len(line)
            try:
                content = json.loads(line)
            except ValueError:
                content = None
            if is_sealed(content):
                yield {key: value for key, value in content.items() if key != CHECKSUM}
            else:
                self.damaged += 1
        self._file.truncate(whole)
        self._file.seek(0, os.SEEK_END)

    def add(self, content: Mapping[str, Any]) -> None:
        """Add a line; it is written whole or, where the process dies meanwhile, dropped by the next one to read."""
        try:
            self._file.write(json.dumps(sealed(content)).encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from error


def read_json(path: Path) -> Any:
    """Read JSON; None where it is missing or not whole."""
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Write a safetensors file so that it is whole or not there."""
    with whole_file(path) as partial:
        save_file({name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}, partial)


def read_tensors(path: Path) -> dict[str, np.ndarray] | None:
    """Read a safetensors file; None where it is missing or not whole."""
    try:
        return dict(load_file(path))
    except (OSError, SafetensorError):
        return None
