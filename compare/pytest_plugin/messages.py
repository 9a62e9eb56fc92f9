"""What a failing check says: figures, places and the command that repeats it."""

import io
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
from rich.console import Console

from compare.config.case import Case
from compare.judge import Comparison, Verdict
from compare.report.console import print_comparisons
from compare.report.explain_page import print_explanation
from compare.report.wording import conclusion


def fail(text: str) -> NoReturn:
    """Fail the test with a text alone."""
    raise pytest.fail.Exception(text, pytrace=False)


def command(*words: str) -> str:
    """Say which command repeats a check."""
    return "To repeat it: python -m compare " + shlex.join(words)


def shown(path: Path) -> str:
    """A path as it is given to a command in the folder where pytest was started."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def table(verdict: Verdict) -> str:
    """The conclusion, which stands alone in pytest's summary, then the figures and each first difference."""
    return f"{conclusion(verdict)}\n\n" + _rendered(lambda console: print_comparisons(console, verdict))


def explanation(comparison: Comparison) -> str:
    """What `explain` prints of a comparison."""
    text = _rendered(lambda console: print_explanation(console, comparison))
    return f"{comparison.case} on {comparison.runner}\n{text}"


def settings(original: Case, case: Case) -> list[str] | None:
    """What `--set` is to be given to make one case of another; None where it cannot be said so."""
    changed = {field: value for field, (_, value) in _changes(original, case).items()}
    if None in changed.values():
        return None
    plain = {field: list(value) if isinstance(value, tuple) else value for field, value in changed.items()}
    return [f"{field}={value if isinstance(value, str) else json.dumps(value)}" for field, value in plain.items()]


def changes(then: Case, now: Case) -> str:
    """Say in which fields the case of a golden trace is another than a test's."""
    return ", ".join(
        f"{field} was {before!r}, the test has {value!r}" for field, (before, value) in _changes(then, now).items()
    )


def _changes(then: Case, now: Case) -> dict[str, tuple[Any, Any]]:
    """The fields in which two cases differ, by dotted name, with both values."""
    before, after = _flat(then), _flat(now)
    return {field: (before[field], value) for field, value in after.items() if before[field] != value}


def _flat(case: Case) -> dict[str, Any]:
    """The fields of a case by their dotted names."""
    fields: dict[str, Any] = {}
    for name, value in case.model_dump().items():
        fields |= (
            {f"{name}.{field}": part for field, part in value.items()} if isinstance(value, dict) else {name: value}
        )
    return fields


def _rendered(say: Callable[[Console], None]) -> str:
    text = io.StringIO()
    say(Console(file=text, highlight=False, width=160, color_system=None))
    return text.getvalue().strip()
