"""Files that are whole or not there, and hashes of arrays."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file


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


def write_json(path: Path, content: Any) -> None:
    """Write JSON so that the file is whole or not there."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=1), "utf-8")
    os.replace(partial, path)


def read_json(path: Path) -> Any:
    """Read JSON; None where it is missing or not whole."""
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Write a safetensors file so that it is whole or not there."""
    partial = path.with_suffix(".partial")
    save_file({name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}, partial)
    os.replace(partial, path)


def read_tensors(path: Path) -> dict[str, np.ndarray] | None:
    """Read a safetensors file; None where it is missing or not whole."""
    try:
        return dict(load_file(path))
    except (OSError, SafetensorError):
        return None
