"""Sequences of different length with many features, as in speech, from an NPZ file."""

import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from compare.config.case import Case
from compare.config.data import Task
from compare.config.streams import Stream, random_stream
from compare.data.examples import Examples
from compare.data.generated_speech import speech
from compare.data.padding import pad
from compare.data.parts import draw_order, held_out, split
from compare.data.precision import check_range
from compare.errors import InputError

FORM = "inputs (examples, time, features), lengths (examples,), targets, and labels (classes,) as text if there are any"

# Bytes of an NPZ file's arrays; a small file may say that it unpacks to any size.
LARGEST = 2**33

# More than these must have been seen once each, if nothing says how many classes there are.
MOST_CLASSES = 1000

# Kinds of NumPy's dtypes.
WHOLE_NUMBERS = "iu"
NUMBERS = "iuf"


@dataclass(frozen=True)
class Sequences:
    """Checked arrays: inputs (examples, time, features) valid up to `lengths`, targets of a task, names of classes."""

    inputs: np.ndarray
    lengths: np.ndarray
    targets: np.ndarray
    outputs: int
    labels: tuple[str, ...]


def sequences(case: Case) -> Examples:
    """Read sequences from an NPZ file (or draw spoken words), standardise each feature and pad them to `window`.

    What stands beyond a sequence's length is not looked at. The features' figures are those of the training part's
    timesteps. Raises InputError for a file that cannot be used.
    """
    data = case.data
    generator = random_stream(case.seed, Stream.DATA)
    if data.file is None:
        arrays, source = speech(generator, case.task, data.examples), "the generated speech"
    else:
        arrays, source = read_npz(data.file), f"NPZ file {data.file!r}"
    checked = check(arrays, source, case.task, data.window, data.classes)
    order = draw_order(generator, len(checked.inputs), data.examples)
    held = held_out(len(order), data.test_fraction)
    rows = [checked.inputs[row, : checked.lengths[row]].astype(np.float64) for row in order]
    check_range(np.concatenate(rows), case.dtype, f"{source}: the inputs")
    if case.task == "forecasting":
        check_range(checked.targets, case.dtype, f"{source}: the targets")
    rows = standardise(rows, training=len(order) - held)
    check_range(np.concatenate(rows), case.dtype, f"{source}: the standardised inputs")
    inputs, mask = pad(rows, data.window, data.padding)
    if case.task == "tagging":
        targets, _ = pad([checked.targets[row, : checked.lengths[row]] for row in order], data.window, data.padding)
    else:
        targets = checked.targets[order]
    targets = targets.astype(case.dtype if case.task == "forecasting" else np.int32)
    training, test = split(inputs.astype(case.dtype), targets, mask, held)
    return Examples(training, test, checked.outputs, features=inputs.shape[2], labels=checked.labels)


def read_npz(path: str) -> dict[str, np.ndarray]:
    """Read the arrays of an NPZ file; raises InputError where it is missing, damaged or holds Python objects."""
    if Path(path).exists() and not Path(path).is_file():  # to read from a pipe might never end
        raise InputError(f"NPZ file {path!r} is not a file")
    try:
        with Path(path).open("rb") as stream:
            content = np.load(stream, allow_pickle=False)
            if not isinstance(content, np.lib.npyio.NpzFile):
                raise InputError(f"NPZ file {path!r} holds one array; expected {FORM}")
            size = sum(info.file_size for info in content.zip.infolist()) if content.zip is not None else 0
            if size > LARGEST:
                raise InputError(f"NPZ file {path!r} says that it holds {size:,} bytes; {LARGEST:,} are read at most")
            return {name: content[name] for name in content.files}
    except OSError as error:
        raise InputError(f"NPZ file {path!r} cannot be read: {error.strerror or error}") from None
    except InputError:
        raise
    except (ValueError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"NPZ file {path!r} cannot be read: {str(error).splitlines()[0]}") from None


def shape_in_npz(path: str) -> tuple[int, ...] | None:
    """Read the shape of the inputs (examples, time, features) off an NPZ file's header; None where it has none."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open("inputs.npy") as file:
            read = np.lib.format.read_array_header_1_0 if np.lib.format.read_magic(file) == (1, 0) else None
            shape = read(file)[0] if read is not None else ()
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    return shape if len(shape) == 3 else None


def check(arrays: Mapping[str, np.ndarray], source: str, task: Task, window: int, classes: int | None) -> Sequences:
    """Check that arrays are sequences with the targets of a task; raises InputError naming what is wrong where."""
    if missing := [name for name in ("inputs", "lengths", "targets") if name not in arrays]:
        raise InputError(f"{source} has no {' and no '.join(missing)}; expected {FORM}")
    inputs, lengths, targets = (arrays[name] for name in ("inputs", "lengths", "targets"))
    if inputs.ndim != 3 or not inputs.size or inputs.dtype.kind not in NUMBERS:
        raise InputError(f"{source}: inputs are {_form(inputs)}, expected numbers (examples, time, features)")
    if lengths.shape != inputs.shape[:1] or lengths.dtype.kind not in WHOLE_NUMBERS:
        raise InputError(f"{source}: lengths are {_form(lengths)}, expected one whole number for each example")
    wrong = np.flatnonzero((lengths < 1) | (lengths > inputs.shape[1]))
    if wrong.size:
        first = int(wrong[0])
        raise InputError(
            f"{source}: example {first} (the first is 0) has length {lengths[first]}, expected 1 to {inputs.shape[1]}, "
            "the timesteps of inputs"
        )
    if lengths.max() > window:
        raise InputError(
            f"{source}: example {int(lengths.argmax())} (the first is 0) has length {lengths.max()}, more than "
            f"data.window = {window}; give data.window = {lengths.max()}"
        )
    real = np.arange(inputs.shape[1]) < lengths[:, None]
    not_finite = np.argwhere(~np.isfinite(inputs).all(axis=2) & real)
    if len(not_finite):
        example, step = not_finite[0]
        raise InputError(f"{source}: inputs of example {example} at timestep {step} are not finite numbers")
    if task == "forecasting":
        return Sequences(inputs, lengths, *_values(targets, len(inputs), source), labels=())
    names = tuple(str(label) for label in np.ravel(arrays.get("labels", ())))
    expected = real.shape if task == "tagging" else lengths.shape
    if targets.shape != expected or targets.dtype.kind not in WHOLE_NUMBERS:
        raise InputError(f"{source}: targets are {_form(targets)}, expected whole numbers {expected} for {task}")
    seen = np.where(real, targets, 0) if task == "tagging" else targets
    if not classes and not names and int(seen.max()) >= max(MOST_CLASSES, seen.size):
        raise InputError(
            f"{source}: the largest of {seen.size} labels is {int(seen.max())}, which would make as many classes; "
            "give labels from 0 on without gaps"
        )
    count = classes or len(names) or max(int(seen.max()) + 1, 2)
    if names and len(names) != count:
        raise InputError(f"{source}: {len(names)} labels, but data.classes = {count}")
    outside = np.argwhere((seen < 0) | (seen >= count))
    if len(outside):
        location = tuple(int(index) for index in outside[0])
        at = f"example {location[0]}" + (f", timestep {location[1]}" if len(location) > 1 else "")
        raise InputError(f"{source}: the label of {at} (the first is 0) is {seen[location]}, expected 0 to {count - 1}")
    return Sequences(inputs, lengths, seen, count, names)


def standardise(rows: list[np.ndarray], training: int) -> list[np.ndarray]:
    """Give each feature mean 0 and standard deviation 1 over all timesteps of the first `training` sequences."""
    from sklearn.preprocessing import StandardScaler  # takes a second, and `import compare` must not

    scaler = StandardScaler().fit(np.concatenate(rows[:training]))
    return [scaler.transform(row) for row in rows]


def _values(targets: np.ndarray, examples: int, source: str) -> tuple[np.ndarray, int]:
    values = targets[:, None] if targets.ndim == 1 else targets
    if values.ndim != 2 or len(values) != examples or not values.size or values.dtype.kind not in NUMBERS:
        raise InputError(f"{source}: targets are {_form(targets)}, expected numbers (examples,) or (examples, outputs)")
    if not np.isfinite(values).all():
        first = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
        raise InputError(f"{source}: the target of example {first} (the first is 0) is not a finite number")
    return values, values.shape[1]


def _form(array: np.ndarray) -> str:
    return f"{array.dtype}{list(array.shape)}"
