"""What a failing check says: figures, places and the command that repeats it."""

import io
import json
import shlex
import textwrap
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import pytest
from rich.console import Console

from compare.config.case import Case
from compare.judge import Comparison, Verdict
from compare.judge.verdict import Cause
from compare.report.console import print_comparisons
from compare.report.explain_page import source_line
from compare.report.wording import conclusion, location

# Of a terminal.
WIDTH = 80


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


def pair_failure(comparisons: Sequence[Comparison], total: int, repeats: Sequence[str]) -> str:
    """Say why the models of a pair file differ, each cause once for all backends; the last line names the causes.

    `comparisons` are those of `total` that do not agree, `repeats` the commands that repeat them.
    """
    case, runners = comparisons[0].case, [comparison.runner for comparison in comparisons]
    parts = [_wrapped(f"{case} does not agree on {', '.join(runners)}, {len(runners)} of {total} compared.")]
    firsts = _runners_by_text((_first(comparison), comparison.runner) for comparison in comparisons)
    parts += [_wrapped(f"{', '.join(where)}: {text}") for text, where in firsts.items()]
    causes = _runners_by_text((_cause(cause), c.runner) for c in comparisons for cause in c.causes)
    for text, where in causes.items():
        name, _, rest = text.partition("\n")
        parts.append(
            "\n".join([f"{name} on {', '.join(where)}", *(_wrapped(f"  {line}") for line in rest.splitlines())])
        )
    parts.append("\n".join(repeats))
    names = dict.fromkeys(cause.name for comparison in comparisons for cause in comparison.causes if cause.confirmed)
    parts.append(_wrapped(f"Cause: {', '.join(names)}" if names else "Cause: none that is known explains it"))
    return "\n\n".join(parts)


def _runners_by_text(told: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """The runners of which the same is to be said, by the text."""
    runners: dict[str, list[str]] = {}
    for text, runner in told:
        runners.setdefault(text, []).append(runner)
    return runners


def _first(comparison: Comparison) -> str:
    first = comparison.first_difference
    if first is None:
        return comparison.error or conclusion(Verdict([comparison]))
    line = "" if first.source is None else f" ({source_line(first.source)})"
    return f"first at {location(first)}. {first.message}{line}"


def _cause(cause: Cause) -> str:
    """A cause on several lines, without the errors of its proof, which differ from backend to backend."""
    source = [] if cause.source is None else [source_line(cause.source)]
    name = cause.name if cause.confirmed else f"{cause.name} (not confirmed)"
    return "\n".join([name, *source, f"{cause.message}.", f"Fix: {cause.fix}"])


def _wrapped(text: str) -> str:
    """Break a text at 80 columns; what has no blank is not broken, since it may be a path."""
    indent = " " * (len(text) - len(text.lstrip()))
    lines = [
        textwrap.fill(line, WIDTH, subsequent_indent=f"{indent}  ", break_long_words=False, break_on_hyphens=False)
        for line in text.splitlines()
    ]
    return "\n".join(lines)


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
