"""Images as sequences of rows: scikit-learn's digits, and MNIST from its IDX files."""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from compare.config.case import Case
from compare.data.examples import Examples, Part
from compare.data.mnist_files import mnist_folder
from compare.data.parts import held_out, limited, split
from compare.errors import InputError

CLASSES = 10
LABELS = tuple(str(digit) for digit in range(CLASSES))

MNIST_SIDE = 28
IMAGES_MAGIC, LABELS_MAGIC = 0x803, 0x801

# Bytes of data: sets of the same form with ten times MNIST's images are read, sizes that are noise are not.
LARGEST = 2**30

FILES = {
    "training": ("train-images", "train-labels"),
    "test": ("t10k-images", "t10k-labels"),
}


def digits(case: Case) -> Examples:
    """Handwritten digits of 8 rows of 8 pixels, from 0 to 1; the last ones, in the file's order, are held out.

    The file appears to have one writer after the other; held out are then writers that were not trained on.
    """
    from sklearn.datasets import load_digits  # takes a second to import

    published = load_digits()
    count = limited(len(published.images), case.data.examples)
    images = (published.images[:count] / 16).astype(case.dtype)
    training, test = split(
        images, published.target[:count].astype(np.int32), None, held_out(count, case.data.test_fraction)
    )
    return Examples(training, test, CLASSES, features=images.shape[2], labels=LABELS)


def mnist(case: Case) -> Examples:
    """Handwritten digits of 28 rows of 28 pixels, from 0 to 1, from four IDX files, as they are or .gz.

    They are in `folder`, by default the cache, into which `download` fetches them. With `examples` the first of the
    training images and the first of the test images are used. Raises InputError for files that are missing, truncated,
    of another kind, or do not belong together.
    """
    data = case.data
    folder = mnist_folder(data.folder, bool(data.download))
    counts: dict[str, int | None] = {"training": None, "test": None}
    if data.examples is not None:
        counts["test"] = held_out(data.examples, data.test_fraction)
        counts["training"] = data.examples - held_out(data.examples, data.test_fraction)
    parts = {name: _mnist_part(folder, *files, counts[name], case.dtype) for name, files in FILES.items()}
    return Examples(parts["training"], parts["test"], CLASSES, features=MNIST_SIDE, labels=LABELS)


def _mnist_part(folder: Path, images_name: str, labels_name: str, examples: int | None, dtype: str) -> Part:
    images_file, labels_file = _find(folder, images_name, "idx3"), _find(folder, labels_name, "idx1")
    images, labels = read_idx(images_file, IMAGES_MAGIC), read_idx(labels_file, LABELS_MAGIC)
    if images.shape[1:] != (MNIST_SIDE, MNIST_SIDE):
        raise InputError(f"{images_file} has images of {images.shape[1]} × {images.shape[2]} pixels, expected 28 × 28")
    if len(images) != len(labels):
        raise InputError(f"{images_file} has {len(images)} images, but {labels_file} has {len(labels)} labels")
    if not len(images):
        raise InputError(f"{images_file} has no images")
    wrong = np.flatnonzero(labels >= CLASSES)
    if wrong.size:
        first = int(wrong[0])
        raise InputError(f"{labels_file}: label {first} (the first is 0) is {labels[first]}, expected 0 to 9")
    count = limited(len(images), examples)
    return Part((images[:count] / np.float64(255)).astype(dtype), labels[:count].astype(np.int32))


def _find(folder: Path, name: str, kind: str) -> Path:
    """Find an IDX file by the names under which it is handed on."""
    names = [f"{name}{separator}{kind}-ubyte{end}" for separator in "-." for end in ("", ".gz")]
    for candidate in names:
        if (folder / candidate).is_file():
            return folder / candidate
    raise InputError(f"folder {str(folder)!r} has no {names[0]} (nor {', '.join(names[1:])})")


def read_idx(file: Path, magic: int) -> np.ndarray:
    """Read unsigned bytes from an IDX file, as it is or .gz: a magic number, the sizes, then the bytes.

    Raises InputError where it is of another kind than the magic number says, or not as long as its sizes say. Source of
    the format: LeCun, Cortes and Burges, THE MNIST DATABASE.
    """
    dimensions = magic & 0xFF
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
            header = stream.read(4 * (1 + dimensions))
            number = int.from_bytes(header[:4], "big")
            if len(header) < 4 or number != magic:
                raise InputError(f"{file} is another kind of file: magic number {number}, expected {magic}")
            if len(header) < 4 * (1 + dimensions):
                raise InputError(f"{file} is truncated: its sizes are missing")
            shape = tuple(np.frombuffer(header[4:], ">u4").tolist())
            expected = math.prod(shape)
            if expected > LARGEST:
                raise InputError(f"{file} says that it holds {expected:,} bytes of data; MNIST has 47,040,000 at most")
            # One byte more than expected is asked for: a longer file is seen without being read whole.
            content = stream.read(expected + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{file} cannot be read: {error}") from None
    if len(content) < expected:
        raise InputError(
            f"{file} is truncated: {len(content)} bytes of data, {expected} expected from its sizes {shape}"
        )
    if len(content) > expected:
        raise InputError(f"{file} has more bytes than its sizes {shape} say")
    return np.frombuffer(content, np.uint8).reshape(shape)
