"""Explain why a user's Keras model and PyTorch module train differently."""

from collections.abc import Callable
from pathlib import Path

from compare.errors import InputError
from compare.explain.bug_report import write_bug_report
from compare.explain.explanation import explanation
from compare.explain.observing import Observation
from compare.explain.pair_file import Pair
from compare.explain.processes import SideError, Sides
from compare.judge.verdict import Comparison
from compare.workers.backends import REFERENCE_RUNNER, backend_of, keras_runner, version


def explain_pair(
    pair: Pair,
    backend: str,
    out: Path | None = None,
    timeout: float = 600,
    on_doing: Callable[[str], None] = lambda what: None,
) -> Comparison:
    """Run both sides of a pair file in processes of their own and say where they first differ, and why.

    What no cause explains is written into `out`/bug-report. A side whose process died gives a failed comparison.
    Raises InputError, with the file's own line, for a mistake in the pair file. `on_doing` hears what is being tried.
    """
    missing = missing_backend(pair, backend)
    if missing is not None:
        return missing
    with Sides(backend, timeout) as sides:
        sides.on_doing = on_doing
        return explain_with(sides, pair, out)


def missing_backend(pair: Pair, backend: str) -> Comparison | None:
    """The failed comparison of a pair file, one of whose sides has no backend here; None where both have one."""
    for runner in (REFERENCE_RUNNER, keras_runner(backend)):
        if version(backend_of(runner)) is None:
            return _failed(pair, backend, f"backend {backend_of(runner)} is not installed")
    return None


def explain_with(sides: Sides, pair: Pair, out: Path | None = None) -> Comparison:
    """As `explain_pair`, with processes that stay for the next pair file."""
    try:
        observation = Observation(sides, pair)
        if observation.result["unexplained"] is not None and out is not None:
            write_bug_report(observation, out / "bug-report")
    except SideError as error:
        return _failed(pair, sides.backend, str(error))
    return explanation(observation)


def _failed(pair: Pair, backend: str, error: str) -> Comparison:
    return Comparison(pair.name, keras_runner(backend), REFERENCE_RUNNER, "float32", "failed", error=error)


__all__ = ["InputError", "explain_pair", "explain_with", "missing_backend"]
