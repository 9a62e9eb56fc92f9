"""Trace: what one runner did, on disk; append-only, readable up to the last whole record after a crash."""

import json
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Self

import numpy as np

from compare.data.text_sampling import Sample
from compare.storage import CHECKSUM, file_digest, is_sealed, read_json, read_tensors, sealed, write_json, write_tensors

SCHEMA = 2

# Written last: what came of the training, and the checksum of every other file.
END = "end.json"

# A record of steps: magic, number of steps, CRC-32 of the figures; then the figures, little-endian float64.
_HEADER = struct.Struct("<4sII")
_MAGIC = b"STEP"


class TraceError(ValueError):
    """A trace that cannot be read: no manifest, or one of another schema."""


class TraceWriter:
    """Writes a trace into a new folder, record by record; every method leaves a readable trace behind."""

    def __init__(self, folder: Path, manifest: Mapping[str, Any], columns: Iterable[str]) -> None:
        self.folder = folder
        self.columns = tuple(columns)
        folder.mkdir(parents=True)
        write_json(folder / "manifest.json", {"schema": SCHEMA, **manifest, "columns": self.columns})
        self._steps: BinaryIO = (folder / "steps.bin").open("xb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._steps.close()

    def append(self, rows: np.ndarray) -> None:
        """Add one record of steps: figures (steps, columns)."""
        if rows.ndim != 2 or rows.shape[1] != len(self.columns):
            raise ValueError(f"rows have shape {rows.shape}, expected (steps, {len(self.columns)})")
        figures = np.ascontiguousarray(rows, dtype="<f8").tobytes()
        try:
            self._steps.write(_HEADER.pack(_MAGIC, len(rows), zlib.crc32(figures)) + figures)
            self._steps.flush()
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.folder / "steps.bin")) from error

    def checkpoint(self, epoch: int, tensors: Mapping[str, np.ndarray]) -> None:
        """Write the weights after a number of epochs."""
        self._write_part("checkpoints", epoch, tensors)

    def state(
        self,
        step: int,
        weights: Mapping[str, np.ndarray],
        slots: Mapping[str, np.ndarray],
        non_trainable: Mapping[str, np.ndarray],
    ) -> None:
        """Write weights, optimizer slots and non-trainable state before a step: from these both sides take it."""
        tensors = {f"weights/{name}": tensor for name, tensor in weights.items()}
        tensors |= {f"slots/{name}": tensor for name, tensor in slots.items()}
        tensors |= {f"non_trainable/{name}": tensor for name, tensor in non_trainable.items()}
        self._write_part("states", step, tensors)

    def single_step(self, step: int, record: Mapping[str, np.ndarray]) -> None:
        """Write everything computed in a checked step."""
        self._write_part("single_step", step, record)

    def _write_part(self, part: str, number: int, tensors: Mapping[str, np.ndarray]) -> None:
        # Not made before it is needed: to make and remove a folder takes as long as to train a step.
        (self.folder / part).mkdir(exist_ok=True)
        write_tensors(_tensors_file(self.folder, part, number), tensors)

    def finish(self, predicted: Mapping[str, np.ndarray], end: Mapping[str, Any]) -> None:
        """Write the "predictions" for the held-out windows, and mark the trace complete.

        Beside them, where asked for, "forecast" (1, values), "sample" (ids) and "margins"
        (see `compare.data.text_sampling`).
        """
        write_tensors(self.folder / "predictions.safetensors", predicted)
        seal_trace(self.folder, end)


@dataclass(frozen=True)
class Trace:
    """A trace as read from its folder; `complete` is false where the runner did not come to its end."""

    folder: Path
    manifest: Mapping[str, Any]
    columns: tuple[str, ...]
    rows: np.ndarray
    complete: bool
    truncated: bool

    @cached_property
    def checkpoints(self) -> dict[int, dict[str, np.ndarray]]:
        """The weights by the number of epochs trained, as far as they were written whole."""
        files = sorted((self.folder / "checkpoints").glob("*.safetensors"))
        by_epoch = {int(file.stem): read_tensors(file) for file in files}
        return {epoch: tensors for epoch, tensors in by_epoch.items() if tensors is not None}

    def up_to(self, steps: int) -> Self:
        """Return the trace of the first steps alone, with the weights kept by then and no predictions."""
        epochs = {
            epoch for epoch in self.checkpoints if epoch * self.manifest["steps"] <= steps * self.manifest["epochs"]
        }
        beginning = replace(self, rows=self.rows[:steps])
        vars(beginning).update(checkpoints={epoch: self.checkpoints[epoch] for epoch in epochs}, _predicted={})
        return beginning

    @property
    def predictions(self) -> np.ndarray | None:
        """The predictions for the held-out windows (windows, outputs), scaled; None where they were not written."""
        return self._predicted.get("predictions")

    @property
    def forecast(self) -> np.ndarray | None:
        """The free-running forecast (1, values), scaled; None where none was asked for or written."""
        return self._predicted.get("forecast")

    @property
    def sample(self) -> Sample | None:
        """What was sampled; None where nothing was asked for or written."""
        ids, margins = self._predicted.get("sample"), self._predicted.get("margins")
        return None if ids is None or margins is None else Sample(ids, margins)

    @cached_property
    def _predicted(self) -> dict[str, np.ndarray]:
        return read_tensors(self.folder / "predictions.safetensors") or {}

    def single_step(self, step: int) -> dict[str, np.ndarray] | None:
        """Everything computed in a checked step; None where it was not written."""
        return read_tensors(_tensors_file(self.folder, "single_step", step))

    @property
    def losses(self) -> np.ndarray:
        """The loss at every step; zeros where none was recorded, which the judge reports."""
        return self.rows[:, self.columns.index("loss")] if "loss" in self.columns else np.zeros(len(self.rows))


def read_trace(folder: Path) -> Trace:
    """Read a trace, up to the last whole record where the runner died or the file was cut.

    Raises TraceError where there is no manifest of a known schema.
    """
    try:
        manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
        columns = tuple(manifest["columns"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TraceError(f"{folder} holds no trace: {type(error).__name__}: {error}") from None
    if manifest.get("schema") != SCHEMA:
        raise TraceError(f"{folder} holds a trace of schema {manifest.get('schema')!r}; this version reads {SCHEMA}")
    steps_file = folder / "steps.bin"
    content = steps_file.read_bytes() if steps_file.is_file() else b""
    rows, truncated = _read_records(content, len(columns))
    return Trace(folder, manifest, columns, rows, (folder / END).is_file() and not truncated, truncated)


def seal_trace(folder: Path, end: Mapping[str, Any]) -> None:
    """Mark a trace complete: write the checksum of each of its files, and its own, beside what came of the training."""
    files = {name: file_digest(folder / name) for name in sorted(_files(folder)) if name != END}
    write_json(folder / END, sealed({**end, "files": files}))


def damaged_files(folder: Path) -> list[str]:
    """Name the files of a finished trace that are not as they were written, or are missing; none of an unfinished."""
    if not (folder / END).exists():
        return []
    end = read_json(folder / END)
    if not is_sealed(end) or not isinstance(end.get("files"), dict):
        return [END]
    return [
        name
        for name, digest in end["files"].items()
        if not (folder / name).is_file() or file_digest(folder / name) != digest
    ]


def keep_steps(folder: Path, steps: Iterable[int]) -> None:
    """Remove the states and records of all checked steps but some from a finished trace."""
    kept = {_tensors_file(folder, part, step) for part in ("states", "single_step") for step in steps}
    for file in (*folder.glob("states/*"), *folder.glob("single_step/*")):
        if file not in kept:
            file.unlink()
    end = read_json(folder / END)
    seal_trace(folder, {key: value for key, value in end.items() if key not in ("files", CHECKSUM)})


def _files(folder: Path) -> Iterator[str]:
    return (str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


class State(NamedTuple):
    """What a step starts from, by canonical name."""

    weights: dict[str, np.ndarray]
    slots: dict[str, np.ndarray]
    non_trainable: dict[str, np.ndarray]


def read_state(folder: Path, step: int) -> State | None:
    """Read the state before a step from a trace's folder; None if it was not written whole."""
    tensors = read_tensors(_tensors_file(folder, "states", step))
    if tensors is None:
        return None
    state = State({}, {}, {})
    for name, tensor in tensors.items():
        kind, _, rest = name.partition("/")
        getattr(state, kind)[rest] = tensor
    return state


def _tensors_file(folder: Path, part: str, number: int) -> Path:
    """The file of an epoch's checkpoint, or of a step's state or record."""
    return folder / part / f"{number:08d}.safetensors"


def _read_records(content: bytes, width: int) -> tuple[np.ndarray, bool]:
    """Return the rows (steps, width) of all whole records, and whether anything follows them."""
    records = []
    position = 0
    while position + _HEADER.size <= len(content):
        magic, steps, checksum = _HEADER.unpack_from(content, position)
        start = position + _HEADER.size
        end = start + steps * width * 8
        if magic != _MAGIC or end > len(content) or zlib.crc32(content[start:end]) != checksum:
            break
        records.append(np.frombuffer(content, "<f8", steps * width, start).reshape(steps, width))
        position = end
    rows = np.concatenate(records) if records else np.empty((0, width))
    return rows, position != len(content)
