"""Counterfactuals tried one by one, each with a budget of time and memory; what a process died in is left out."""

import contextlib
import resource
import signal
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, TypeVar

from compare.workers.protocol import Doing

SECONDS = 20.0
# A small pair's step takes some megabytes; what takes so much more is no program that a user meant.
MOST_BYTES = 2 * 2**30
PAGE = resource.getpagesize()

Result = TypeVar("Result")


class Trials:
    """Tries counterfactuals; `report` tells the parent which, `excluded` are those that an earlier process died in."""

    def __init__(self, report: Callable[[Doing], None], excluded: Collection[str]) -> None:
        self.report, self.excluded = report, excluded
        self.not_tried: dict[str, str] = {}

    def attempt(self, label: str, run: Callable[[], Result], seconds: float = SECONDS) -> Result | None:
        """What a counterfactual gives; None where it raises, takes too long or too much memory, or is excluded."""
        if label in self.excluded:
            self.not_tried[label] = "the process died in it"
            return None
        self.report(Doing(label, seconds))
        try:
            with _time_limit(seconds), _memory_limit():
                return run()
        except TimeoutError:
            self.not_tried[label] = f"it took more than {seconds:g} s"
        except Exception as error:  # whatever a program raises that does not fit where it is put
            if isinstance(error, MemoryError) or "allocate memory" in str(error):
                self.not_tried[label] = f"it took more than {MOST_BYTES / 2**30:g} GiB"
        finally:
            self.report(Doing(""))
        return None


def _too_long(*_: Any) -> None:
    raise TimeoutError("it took too long")


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    before = signal.signal(signal.SIGALRM, _too_long)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def _memory_limit() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    with contextlib.suppress(OSError):  # no /proc: a system that limits no address space either
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * PAGE + MOST_BYTES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
