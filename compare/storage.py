"""Files that are whole or not there, and hashes of arrays."""

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from compare.errors import InputError

# What the system says of a disk, or a user's share of it, that is full.
FULL = (errno.ENOSPC, errno.EDQUOT)


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


@contextlib.contextmanager
def new_folder(out: Path) -> Iterator[None]:
    """Make a folder that is empty; what is refused within leaves none behind.

    Raises InputError where it cannot be written or holds something.
    """
    missing = [folder for folder in (out, *out.parents) if not folder.exists()]
    try:
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()):
            raise InputError(f"--out {out} is not empty: give a new folder")
        (out / ".writable").touch()
        (out / ".writable").unlink()
    except OSError as error:
        raise InputError(f"--out {out} cannot be written: {error.strerror}") from None
    try:
        yield
    except InputError:
        for folder in missing:
            folder.rmdir()
        raise


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
        code = errno.ENOSPC if f"os error {errno.ENOSPC}" in str(error) else errno.EIO
        raise OSError(code, str(error), str(path)) from None
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_json(path: Path, content: Any) -> None:
    """Write JSON so that the file is whole or not there."""
    with whole_file(path) as partial:
        partial.write_text(json.dumps(content, indent=1), "utf-8")


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
