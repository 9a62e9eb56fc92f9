"""Images come row by row, and IDX files are read whole or refused."""

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from compare.config.case import Case, make_case
from compare.data.datasets import load_data
from compare.data.examples import Examples
from compare.data.images import IMAGES_MAGIC, LABELS_MAGIC
from compare.errors import InputError

Refused = Callable[..., str]

IMAGES, LABELS, TEST_IMAGES, TEST_LABELS = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def images_case(dataset: str, **data: object) -> Case:
    """A case of images."""
    fields = {"name": "a", "task": "classification", "model": {"cell": "gru"}, "data": {"dataset": dataset, **data}}
    return make_case(fields, "a")


def load(dataset: str, **data: object) -> Examples:
    """The images of a case."""
    examples = load_data(images_case(dataset, **data))
    assert isinstance(examples, Examples)
    return examples


def idx(magic: int, values: np.ndarray) -> bytes:
    """The content of an IDX file."""
    sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
    return magic.to_bytes(4, "big") + sizes + values.astype(np.uint8).tobytes()


def pixels(count: int, seed: int) -> np.ndarray:
    """Random images."""
    return np.random.default_rng(seed).integers(0, 256, (count, 28, 28), dtype=np.uint8)


def mnist_files() -> dict[str, bytes]:
    """The four files of a small MNIST: 12 images to train on, 5 to test with."""
    return {
        IMAGES: idx(IMAGES_MAGIC, pixels(12, 0)),
        LABELS: idx(LABELS_MAGIC, np.arange(12) % 10),
        TEST_IMAGES: idx(IMAGES_MAGIC, pixels(5, 1)),
        TEST_LABELS: idx(LABELS_MAGIC, np.array([9, 0, 3, 3, 1])),
    }


def write(folder: Path, files: dict[str, bytes]) -> Path:
    """Write files into a folder."""
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def test_digits_are_rows_of_pixels() -> None:
    """Each timestep is a row from the top down, from 0 to 1; the last fifth in the file's order is held out."""
    examples, original = load("digits"), load_digits()
    assert (examples.features, examples.outputs, examples.labels) == (8, 10, tuple("0123456789"))
    assert examples.training.inputs.shape == (1438, 8, 8)
    assert examples.test.inputs.shape == (359, 8, 8)
    inputs = np.concatenate([examples.training.inputs, examples.test.inputs])
    assert inputs.min() == 0
    assert inputs.max() == 1
    np.testing.assert_array_equal(inputs * 16, original.images)
    targets = np.concatenate([examples.training.targets, examples.test.targets])
    assert np.array_equal(targets, original.target)
    assert targets.dtype == np.int32


def test_fewer_digits_are_the_first() -> None:
    """With a limit the first images are used, both parts together."""
    few, all_of_them = load("digits", examples=50), load("digits")
    assert (len(few.training.inputs), len(few.test.inputs)) == (40, 10)
    assert np.array_equal(few.test.inputs, all_of_them.training.inputs[40:50])


@pytest.mark.parametrize(
    ("rename", "pack"),
    [
        pytest.param(lambda name: name, lambda content: content, id="plain"),
        pytest.param(lambda name: f"{name}.gz", gzip.compress, id="gz"),
        pytest.param(lambda name: name.replace("-idx", ".idx"), lambda content: content, id="dot"),
    ],
)
def test_mnist_is_read_from_its_files(
    tmp_path: Path, rename: Callable[[str], str], pack: Callable[[bytes], bytes]
) -> None:
    """Images and labels of both parts are read exactly, packed or not, under both names that are handed on."""
    folder = write(tmp_path, {rename(name): pack(content) for name, content in mnist_files().items()})
    examples = load("mnist", folder=str(folder))
    assert (examples.features, examples.outputs) == (28, 10)
    np.testing.assert_allclose(examples.training.inputs * 255, pixels(12, 0), atol=1e-4)
    np.testing.assert_allclose(examples.test.inputs * 255, pixels(5, 1), atol=1e-4)
    assert examples.training.inputs.dtype == np.float32
    assert examples.training.targets.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    assert examples.test.targets.tolist() == [9, 0, 3, 3, 1]


def test_fewer_mnist_images_are_the_first_of_each_part(tmp_path: Path) -> None:
    """A limit is shared out by the fraction to test with; more than a part has are refused."""
    folder = write(tmp_path, mnist_files())
    examples = load("mnist", folder=str(folder), examples=10)
    assert (len(examples.training.inputs), len(examples.test.inputs)) == (8, 2)
    assert examples.test.targets.tolist() == [9, 0]
    with pytest.raises(InputError, match="there are 12"):
        load("mnist", folder=str(folder), examples=20)


def change(name: str, content: bytes | None) -> dict[str, bytes]:
    """The files of a small MNIST with one replaced, or left out."""
    files = mnist_files()
    if content is None:
        del files[name]
    else:
        files[name] = content
    return files


@pytest.mark.parametrize(
    ("files", "phrases"),
    [
        pytest.param({}, [f"has no {IMAGES} (nor {IMAGES}.gz"], id="nothing"),
        pytest.param(change(TEST_LABELS, None), [f"has no {TEST_LABELS}"], id="no-test-labels"),
        pytest.param(change(IMAGES, mnist_files()[IMAGES][:-1]), [IMAGES, "is truncated: 9407 bytes"], id="truncated"),
        pytest.param(change(IMAGES, mnist_files()[IMAGES][:9]), [IMAGES, "is truncated"], id="header-truncated"),
        pytest.param(change(IMAGES, b""), [IMAGES, "is another kind of file"], id="empty"),
        pytest.param(change(IMAGES, b"\x89PNG\r\n\x1a\n" * 9), ["is another kind of file: magic number"], id="picture"),
        pytest.param(
            change(IMAGES, mnist_files()[LABELS]), ["magic number 2049, expected 2051"], id="labels-for-images"
        ),
        pytest.param(
            change(LABELS, mnist_files()[IMAGES]), ["magic number 2051, expected 2049"], id="images-for-labels"
        ),
        pytest.param(change(IMAGES, idx(0x0D03, pixels(12, 0))), ["magic number 3331, expected 2051"], id="floats"),
        pytest.param(change(IMAGES, mnist_files()[IMAGES] + b"\0"), ["more bytes than its sizes"], id="too-long"),
        pytest.param(change(LABELS, idx(LABELS_MAGIC, np.zeros(11))), ["12 images", "11 labels"], id="one-label-less"),
        pytest.param(
            change(IMAGES, idx(IMAGES_MAGIC, np.zeros((12, 8, 8)))), ["8 × 8 pixels, expected 28 × 28"], id="small"
        ),
        pytest.param(
            change(LABELS, idx(LABELS_MAGIC, np.full(12, 10))), ["label 0", "is 10, expected 0 to 9"], id="label-10"
        ),
        pytest.param(
            {**change(IMAGES, idx(IMAGES_MAGIC, pixels(0, 0))), LABELS: idx(LABELS_MAGIC, np.zeros(0))},
            ["has no images"],
            id="no-images",
        ),
        pytest.param(
            change(IMAGES, IMAGES_MAGIC.to_bytes(4, "big") + b"\xff" * 12),
            ["says that it holds"],
            id="sizes-beyond-memory",
        ),
        pytest.param(
            {f"{IMAGES}.gz": gzip.compress(mnist_files()[IMAGES])[:-9], **change(IMAGES, None)},
            [f"{IMAGES}.gz cannot be read"],
            id="gz-truncated",
        ),
        pytest.param(
            {f"{IMAGES}.gz": mnist_files()[IMAGES], **change(IMAGES, None)},
            [f"{IMAGES}.gz cannot be read"],
            id="gz-that-is-not",
        ),
    ],
)
def test_files_that_cannot_be_used_are_refused(
    tmp_path: Path, refused: Refused, files: dict[str, bytes], phrases: list[str]
) -> None:
    """A command with IDX files that are missing, cut or of another kind says which file and what is wrong with it."""
    case = tmp_path / "mine.toml"
    case.write_text(images_case("mnist", folder="files").to_toml())
    write(tmp_path / "files", files)
    message = refused("run", case)
    for phrase in phrases:
        assert phrase in message


def test_a_folder_that_is_none_is_refused(refused: Refused, tmp_path: Path) -> None:
    """A folder that is named must be there."""
    case = tmp_path / "mine.toml"
    case.write_text(images_case("mnist", folder="missing").to_toml())
    assert "missing' is not a folder" in refused("run", case)
