"""The curves of a run for TensorBoard, in its own format: it is needed to look at them, not to write them.

Format: TensorFlow's `record_writer.h` (a length and a record, each with a masked CRC-32C) and `event.proto`.
"""

import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from compare.errors import InputError
from compare.judge.verdict import Comparison, Verdict
from compare.storage import not_writable

# Castagnoli's polynomial, its bits in reverse, and what masks a checksum of data that hold checksums.
POLYNOMIAL, MASK = 0x82F63B78, 0xA282EAD8

# Types of a protobuf field.
VARINT, DOUBLE, BYTES, FLOAT = 0, 1, 2, 5


def folder_for_tensorboard(folder: str | Path) -> Path:
    """Make the folder; raises InputError where it cannot be written or holds something."""
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
        if any(path.iterdir()):
            raise InputError(f"--tensorboard {folder} is not empty: give a new folder")
    except OSError as error:
        raise not_writable("--tensorboard", path, error) from None
    return path


def write_tensorboard(verdict: Verdict, folder: Path) -> None:
    """Write a TensorBoard run for each side of each case: its losses, their drift, its test metrics."""
    runs: dict[Path, dict[str, Sequence[float]]] = {}
    for comparison in verdict.comparisons:
        for side, tag, values in _scalars(comparison):
            runs.setdefault(folder / comparison.case / side, {})[tag] = [float(value) for value in values]
    for place, scalars in runs.items():
        place.mkdir(parents=True, exist_ok=True)
        content = b"".join(map(_record, _events(scalars)))
        (place / f"events.out.tfevents.{int(time.time())}.rnn-parity").write_bytes(content)


def _scalars(comparison: Comparison) -> Iterator[tuple[str, str, Sequence[float] | np.ndarray]]:
    if comparison.curves is not None:
        curves = comparison.curves
        yield comparison.reference, "loss", curves.expected_losses
        yield comparison.runner, "loss", curves.obtained_losses
        yield comparison.runner, "relative drift of the loss", curves.loss_drift
        yield f"{comparison.runner} tolerance", "relative drift of the loss", curves.loss_tolerance
    for side, figures in comparison.metrics.items():
        yield from ((side, f"test/{name}", [value]) for name, value in figures.items() if value is not None)


def _events(scalars: Mapping[str, Sequence[float]]) -> Iterator[bytes]:
    now = _field(1, DOUBLE, struct.pack("<d", time.time()))
    yield now + _text(3, b"brain.Event:2")
    for tag, values in scalars.items():
        for step, value in enumerate(values):
            named = _text(1, tag.encode()) + _field(2, FLOAT, struct.pack("<f", np.float32(value)))
            yield now + _field(2, VARINT, _varint(step)) + _text(5, _text(1, named))


def _record(event: bytes) -> bytes:
    length = struct.pack("<Q", len(event))
    return length + _masked_checksum(length) + event + _masked_checksum(event)


def _field(number: int, kind: int, content: bytes) -> bytes:
    return bytes([number << 3 | kind]) + content


def _text(number: int, content: bytes) -> bytes:
    return _field(number, BYTES, _varint(len(content)) + content)


def _varint(value: int) -> bytes:
    groups = []
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])


def _masked_checksum(content: bytes) -> bytes:
    checksum = crc32c(content)
    rotated = (checksum >> 15 | checksum << 17) & 0xFFFFFFFF
    return struct.pack("<I", (rotated + MASK) & 0xFFFFFFFF)


def crc32c(content: bytes) -> int:
    """Compute the CRC-32C of some bytes."""
    checksum, table = 0xFFFFFFFF, _table()
    for byte in content:
        checksum = checksum >> 8 ^ table[(checksum ^ byte) & 0xFF]
    return checksum ^ 0xFFFFFFFF


@cache
def _table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return tuple(table)
