"""The processes that the checks of one pytest process share."""

import itertools
import os
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Self

from compare.explain.processes import Sides
from compare.workers.pool import Pool


class Workers:
    """The worker processes of one pytest process, started when first needed and kept warm until it ends."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self._numbers = itertools.count()
        self._sides: dict[str, Sides] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @cached_property
    def pool(self) -> Pool:
        """Workers that train cases; the processes of xdist share the machine's cores."""
        jobs = max(1, (os.cpu_count() or 1) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))
        return self._stack.enter_context(Pool(self._folder / "logs", jobs, threads=1))

    def sides(self, backend: str) -> Sides:
        """The two processes of model pairs on a backend."""
        if backend not in self._sides:
            self._sides[backend] = self._stack.enter_context(Sides(backend))
        return self._sides[backend]

    def new_folder(self) -> Path:
        """Make a folder for the traces of one check."""
        folder = self._folder / str(next(self._numbers))
        folder.mkdir()
        return folder
