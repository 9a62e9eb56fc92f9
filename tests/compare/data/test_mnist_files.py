"""MNIST in one step: where its files go is said, and they are fetched once, from a server on this machine."""

import functools
import gzip
import hashlib
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from compare.config.case import make_case
from compare.data import mnist_files
from compare.data.datasets import load_data
from compare.data.examples import Examples
from compare.data.images import IMAGES_MAGIC, LABELS_MAGIC

# A case of MNIST, as the command line has it.
ONE_STEP = ("run", "lstm", "--set", "data.dataset=mnist", "--set", "task=classification")


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder and keeps what was asked for."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


def idx(magic: int, values: np.ndarray) -> bytes:
    """The content of an IDX file, packed."""
    sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
    return gzip.compress(magic.to_bytes(4, "big") + sizes + values.astype(np.uint8).tobytes(), mtime=0)


@pytest.fixture
def asked(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A server with four small files in place of MNIST's mirrors, and an empty cache; what the server was asked for."""
    served = tmp_path_factory.mktemp("served")
    for part, count in (("train", 12), ("t10k", 5)):
        (served / f"{part}-images-idx3-ubyte.gz").write_bytes(idx(IMAGES_MAGIC, np.full((count, 28, 28), count)))
        (served / f"{part}-labels-idx1-ubyte.gz").write_bytes(idx(LABELS_MAGIC, np.arange(count) % 10))
    hashes = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(served.iterdir())}
    assert hashes.keys() == mnist_files.HASHES.keys()
    handler = type("Counting", (Handler,), {"asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=str(served)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setattr(mnist_files, "HASHES", hashes)
    monkeypatch.setattr(mnist_files, "MIRRORS", (f"http://127.0.0.1:{server.server_port}/",))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield handler.asked
    server.shutdown()
    thread.join()
    server.server_close()


def load(**data: object) -> Examples:
    """The images of a case that has them fetched."""
    fields = {"name": "a", "task": "classification", "model": {"cell": "gru"}}
    examples = load_data(make_case({**fields, "data": {"dataset": "mnist", "download": True, **data}}, "a"))
    assert isinstance(examples, Examples)
    return examples


def test_the_files_are_fetched_once(asked: list[str]) -> None:
    """The four files are fetched when they are first needed, and read from the cache from then on."""
    assert load().training.inputs.shape == (12, 28, 28)
    assert sorted(asked) == sorted(f"/{name}" for name in mnist_files.HASHES)
    assert load().test.targets.tolist() == [0, 1, 2, 3, 4]
    assert len(asked) == 4
    assert {file.name for file in mnist_files.cache_folder().iterdir()} == set(mnist_files.HASHES)


def test_a_damaged_file_is_fetched_again(asked: list[str]) -> None:
    """A file in the cache that is not the published one is replaced, the others stay."""
    load()
    name = next(iter(mnist_files.HASHES))
    (mnist_files.cache_folder() / name).write_bytes(b"half of it")
    load()
    assert asked[4:] == [f"/{name}"]


def test_a_folder_is_filled_that_was_named(asked: list[str], tmp_path: Path) -> None:
    """With a folder of one's own the files are fetched into that, and the cache is left alone."""
    load(folder=str(tmp_path / "mine"))
    assert len(asked) == len(list((tmp_path / "mine").iterdir())) == 4
    assert not mnist_files.cache_folder().exists()


def test_the_next_mirror_is_asked(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a mirror does not have a file, or nobody answers, the next one is asked."""
    here = mnist_files.MIRRORS[0]
    monkeypatch.setattr(mnist_files, "MIRRORS", (f"{here}none/", "http://127.0.0.1:9/", here))
    assert load().training.inputs.shape == (12, 28, 28)
    assert len(asked) == 8


def test_another_content_is_refused(asked: list[str], refused: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not the published file, by its hash, is not kept."""
    monkeypatch.setattr(mnist_files, "HASHES", dict.fromkeys(mnist_files.HASHES, "0" * 64))
    message = refused(*ONE_STEP, "--set", "data.download=true")
    assert "is another file: its SHA-256 is not 000000000000…" in message
    assert not list(mnist_files.cache_folder().iterdir())
    assert asked


def test_without_a_network_it_is_said_what_to_do(
    asked: list[str], refused: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nobody answers the message names the address, the reason, and the folder that the files can be put into."""
    monkeypatch.setattr(mnist_files, "MIRRORS", ("http://127.0.0.1:9/",))
    message = refused(*ONE_STEP, "--set", "data.download=true")
    assert "data.download could not fetch " in message
    assert "http://127.0.0.1:9/" in message
    assert "refused" in message
    assert f"put the four files into {mnist_files.cache_folder()}" in message


def test_without_files_it_is_said_where_they_go(asked: list[str], refused: Callable) -> None:
    """Without a folder and without leave to fetch them, the four files, their folder and the option are named."""
    message = refused(*ONE_STEP)
    assert all(name in message for name in mnist_files.HASHES)
    assert str(mnist_files.cache_folder()) in message
    assert "data.download=true" in message
    assert asked == []


def test_files_in_the_cache_are_checked(asked: list[str], refused: Callable) -> None:
    """Files that were put there by hand are read as those of any folder: what is missing is named."""
    mnist_files.cache_folder().mkdir(parents=True)
    message = refused(*ONE_STEP)
    assert "has no train-images-idx3-ubyte" in message
    assert asked == []
