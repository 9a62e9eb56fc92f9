"""What `explain` found, on the console and as one HTML file."""

import math
from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, PackageLoader, select_autoescape
from rich.console import Console
from rich.markup import escape

from compare.judge.verdict import Cause, Comparison
from compare.report.wording import figure, figures, location
from compare.storage import write_text


def conclusion(comparison: Comparison) -> str:
    """Say in one line what came of it."""
    if comparison.status == "failed":
        return f"Could not be compared: {comparison.error}"
    if comparison.status == "agrees":
        return (
            f"The two sides agree: {comparison.steps} steps, {comparison.checks} checks, losses within "
            f"{figure(comparison.max_relative_loss_difference)} relative."
        )
    names = ", ".join(cause.name for cause in comparison.causes)
    return f"The two sides differ: {names}." if names else "The two sides differ, and no known cause explains it."


def error(value: float | None) -> str:
    """Write an error; where there is no number the two sides could not be compared there."""
    return "not comparable" if value is None or not math.isfinite(value) else figure(value)


def proof(cause: Cause) -> str:
    """Say how a cause was confirmed."""
    return f"confirmed: {error(cause.error_before)} → {error(cause.error_after)} at {cause.tensor}"


def print_explanation(console: Console, comparison: Comparison) -> None:
    """Print a page that a person can act on."""

    def say(text: str) -> None:
        console.print(text, soft_wrap=True)

    first = comparison.first_difference
    if first is not None:
        numbers = figures(first, " Relative error")
        stop = "." if numbers else ""
        say(f"[bold]First difference:[/] {escape(location(first))}. {escape(first.message)}{numbers}{stop}")
    for cause in comparison.causes:
        say(f"\n[bold red]{cause.name}[/] ({escape(proof(cause))})")
        if cause.observation:
            say(f"  {escape(cause.observation)}")
        say(f"  {escape(cause.message)}")
        say(f"  [bold]Fix:[/] {escape(cause.fix)}")
    if comparison.causes or first is not None:
        say("")
    for note in comparison.notes:
        say(f"[dim]{escape(note)}[/]")
    say(f"[bold]{escape(conclusion(comparison))}[/]")


def write_explanation(comparison: Comparison, environment: Mapping[str, str], path: Path) -> None:
    """Write what was found as one self-contained file."""
    templates = Environment(loader=PackageLoader("compare", "report"), autoescape=select_autoescape(default=True))
    template = templates.get_template("explain.html.j2")
    content = template.render(
        c=comparison,
        conclusion=conclusion(comparison),
        location=location,
        figures=figures,
        proof=proof,
        environment=environment,
    )
    write_text(path, content)
