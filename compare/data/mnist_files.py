"""The four files of MNIST: where they are kept, and how they are fetched once, each known by its hash."""

import http.client
import os
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

from compare.errors import InputError
from compare.storage import file_digest, not_writable

# Where copies of the original files are, the first that answers is used; each must start with http:// or https://.
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)

# The SHA-256 of each file, as both mirrors have it.
HASHES = {
    "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}

TIMEOUT_SECONDS = 30.0

# More bytes than the largest file has are not read.
LARGEST, BLOCK = 2**24, 2**16


def cache_folder() -> Path:
    """Where files are kept that were fetched: below XDG_CACHE_HOME, by default ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rnn-parity" / "mnist"


def mnist_folder(folder: str | None, download: bool) -> Path:
    """Return the folder that has the files, by default the cache, fetching what is missing or damaged if asked to.

    Raises InputError where there is no such folder, saying where the files go, and where they cannot be fetched.
    """
    place = Path(folder) if folder is not None else cache_folder()
    if download:
        for name, expected in HASHES.items():
            if not (place / name).is_file() or file_digest(place / name) != expected:
                _fetch(name, expected, place)
    elif folder is not None and not place.is_dir():
        raise InputError(f"data.folder {folder!r} is not a folder; give the folder of MNIST's four IDX files")
    elif folder is None and not place.is_dir():
        raise InputError(
            f'dataset "mnist" looks for {", ".join(HASHES)} in {place}: put them there, say where they are with '
            "data.folder, or fetch them once with data.download=true"
        )
    return place


def _fetch(name: str, expected: str, place: Path) -> None:
    """Fetch a file from the first mirror that has it as it should be."""
    errors = []
    try:
        place.mkdir(parents=True, exist_ok=True)
        for mirror in MIRRORS:
            with tempfile.NamedTemporaryFile(dir=place, prefix=f".{name}-", delete=False) as partial:
                try:
                    _copy(mirror + name, partial.name)
                    if file_digest(Path(partial.name)) == expected:
                        os.replace(partial.name, place / name)
                        return
                    errors.append(f"{mirror}{name} is another file: its SHA-256 is not {expected[:12]}…")
                except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
                    errors.append(f"{mirror}{name}: {getattr(error, 'reason', error)}")
                finally:
                    Path(partial.name).unlink(missing_ok=True)
    except OSError as error:
        raise not_writable("the folder of MNIST", place, error) from None
    by_hand = f"without a network put the four files into {place}, or give data.folder"
    raise InputError(f"data.download could not fetch {name}: {'; '.join(errors)}; {by_hand}")


def _copy(address: str, file: str) -> None:
    with urllib.request.urlopen(address, timeout=TIMEOUT_SECONDS) as answer, open(file, "wb") as target:  # noqa: S310
        read = 0
        while (block := answer.read(BLOCK)) and read <= LARGEST:
            target.write(block)
            read += len(block)
