"""Processes that hold one framework each; the test process itself holds none."""

import importlib
import os
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, parent_process
from typing import Any, Self

from compare.workers.backends import worker_environment

SIDES = ("torch", "keras-tensorflow", "keras-torch", "keras-jax")
KERAS_SIDES = SIDES[1:]

# Nothing here takes a minute; a process that hangs must not hold up the tests for longer.
SECONDS = 300


class FrameworkProcesses:
    """One process for each side, started when first asked for and kept for the next call."""

    def __init__(self) -> None:
        self._executors: dict[str, ProcessPoolExecutor] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for executor in self._executors.values():
            executor.shutdown()

    def call(self, side: str, function: str, *arguments: Any, **keywords: Any) -> Any:
        """Call "module.function" of these helpers with the side and more in its process; its exceptions arrive here."""
        if side not in self._executors:
            environment = worker_environment(side, threads=1)
            self._executors[side] = ProcessPoolExecutor(1, get_context("spawn"), _prepare, (environment,))
        return self._executors[side].submit(_call, side, function, arguments, keywords).result(SECONDS)


def _prepare(environment: dict[str, str]) -> None:
    os.environ.update(environment)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End where the tests were killed, and nobody is left to ask for anything."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(0)


def _call(side: str, function: str, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    module, _, name = function.partition(".")
    return getattr(importlib.import_module(f"helpers.{module}"), name)(side, *arguments, **keywords)
