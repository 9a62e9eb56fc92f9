"""What `explain` found, on the console and as one HTML file."""

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from compare.judge.verdict import Cause, Comparison
from compare.report.html import write_page
from compare.report.wording import figure, figures, location

# How often it is said what the sides are at, where standard error is no terminal.
SECONDS_BETWEEN_LINES = 5.0

# How many lines stand before and after the line of a difference.
LINES_AROUND = 3


def conclusion(comparison: Comparison) -> str:
    """Say in one line what came of it."""
    if comparison.status == "failed":
        return f"Could not be compared: {comparison.error}"
    if comparison.status == "agrees":
        return (
            f"The two sides agree: {comparison.steps} steps, {comparison.checks} checks, losses within "
            f"{figure(comparison.max_relative_loss_difference)} relative."
        )
    names = ", ".join(dict.fromkeys(cause.name for cause in comparison.causes if cause.confirmed))
    return f"The two sides differ: {names}." if names else "The two sides differ, and no known cause explains it."


def error(value: float | None) -> str:
    """Write an error; where there is no number the two sides could not be compared there."""
    return "not comparable" if value is None or not math.isfinite(value) else figure(value)


def proof(cause: Cause) -> str:
    """Say how a cause was confirmed, or that it was not."""
    if not cause.confirmed:
        return f"not confirmed: {error(cause.error_before)} → {error(cause.error_after)} at {cause.tensor}"
    return f"confirmed: {error(cause.error_before)} → {error(cause.error_after)} at {cause.tensor}"


class DoingLine:
    """Says on standard error what the sides are at: in a line that changes, or now and then where it is no terminal."""

    def __init__(self, shown: bool) -> None:
        self._shown, self._console = shown, Console(stderr=True, highlight=False)
        self._status = self._console.status("the sides start")
        self._said = time.monotonic()

    def __enter__(self) -> Callable[[str], None]:
        if self._shown and self._console.is_terminal:
            self._status.start()
        return self._say if self._shown else lambda what: None

    def __exit__(self, *_: object) -> None:
        self._status.stop()

    def _say(self, what: str) -> None:
        if self._console.is_terminal:
            self._status.update(escape(what))
        elif time.monotonic() - self._said > SECONDS_BETWEEN_LINES:
            self._said = time.monotonic()
            self._console.print(what, markup=False, soft_wrap=True)


def source_line(source: Mapping[str, Any]) -> str:
    """The user's line: file:line, and its text."""
    return f"{Path(source['file']).name}:{source['line']}: {source['text']}"


def print_explanation(console: Console, comparison: Comparison) -> None:
    """Print a page that a person can act on."""

    def say(text: str) -> None:
        console.print(text, soft_wrap=True)

    first = comparison.first_difference
    if first is not None:
        numbers = figures(first, " Relative error")
        stop = "." if numbers else ""
        say(f"[bold]First difference:[/] {escape(location(first))}. {escape(first.message)}{numbers}{stop}")
        if first.source is not None:
            say(f"  {escape(source_line(first.source))}")
    for cause in comparison.causes:
        say(f"\n[bold red]{cause.name}[/] ({escape(proof(cause))})")
        if cause.source is not None:
            say(f"  {escape(source_line(cause.source))}")
        if cause.observation:
            say(f"  {escape(cause.observation)}")
        say(f"  {escape(cause.message)}")
        say(f"  [bold]Fix:[/] {escape(cause.fix)}")
    if comparison.causes or first is not None:
        say("")
    for note in comparison.notes:
        say(f"[dim]{escape(note)}[/]")
    say(f"[bold]{escape(conclusion(comparison))}[/]")


def excerpt(source: Mapping[str, Any]) -> list[tuple[int, str]]:
    """The user's line with those around it, numbered; the line alone where its file can no longer be read."""
    try:
        lines = Path(source["file"]).read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        lines = []
    line = int(source["line"])
    if not 1 <= line <= len(lines) or lines[line - 1].strip() != str(source["text"]).strip():
        return [(line, str(source["text"]))]
    first = max(1, line - LINES_AROUND)
    return list(enumerate(lines[first - 1 : line + LINES_AROUND], first))


def write_explanation(comparison: Comparison, environment: Mapping[str, str], path: Path) -> None:
    """Write what was found as one self-contained file."""
    write_page(
        path,
        "explain.html.j2",
        title=f"{comparison.case}: {conclusion(comparison)}",
        c=comparison,
        conclusion=conclusion(comparison),
        location=location,
        figures=figures,
        proof=proof,
        excerpt=excerpt,
        environment=environment,
    )
