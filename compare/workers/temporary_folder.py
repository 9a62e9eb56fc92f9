"""Folders for temporary files that go with the process that made them, however it ended."""

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

# How they are named, by which a child process knows that its folder is its own; then the number of the process.
FOLDER_PREFIX = "rnn-parity-"
_NAME = re.compile(rf"{FOLDER_PREFIX}(\d+)-\w+")


class TemporaryFolder:
    """A new folder for temporary files; those of processes that were killed are removed before the first is made."""

    def __init__(self) -> None:
        remove_left_folders(tempfile.gettempdir())
        self.path = Path(tempfile.mkdtemp(prefix=f"{FOLDER_PREFIX}{os.getpid()}-"))
        # The system lets go of it where this process dies: it tells that nobody needs the folder any more.
        self._held = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        with contextlib.suppress(OSError):
            fcntl.flock(self._held, fcntl.LOCK_SH | fcntl.LOCK_NB)

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *_: object) -> None:
        self.remove()

    def remove(self) -> None:
        """Remove the folder with all that is in it, as far as that can be done."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._held >= 0:
            os.close(self._held)
            self._held = -1


@cache
def remove_left_folders(parent: str) -> None:
    """Remove the folders of processes that have ended without doing so; once in a process."""
    for folder in _folders_of_the_dead(Path(parent)):
        shutil.rmtree(folder, ignore_errors=True)


def _folders_of_the_dead(parent: Path) -> Iterator[Path]:
    for folder in parent.glob(f"{FOLDER_PREFIX}*"):
        match = _NAME.fullmatch(folder.name)
        # A process of that number may be of another container that shares the folder: the lock tells.
        if match and not folder.is_symlink() and not _lives(int(match[1])) and not _is_held(folder):
            yield folder


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # it is another user's, or no number of a process
        return True
    return True


def _is_held(folder: Path) -> bool:
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False
