"""The console: a table and a conclusion on standard output."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from compare.config.case import Case
from compare.judge.verdict import Comparison, FoldSummary, Verdict
from compare.known.differences import known_differences
from compare.report.wording import (
    METRICS,
    conclusion,
    explain,
    explain_cause,
    figure,
    mean_and_spread,
    status,
    tolerance_ratio,
)

# Wider than any table: what it would take if it had the room.
WIDEST = 1000

# What is shown of each fold's metrics on a console's width; the HTML report has all of them.
METRICS_OF_FOLDS = ("mse", "r2", "accuracy", "perplexity")

# The metrics of a comparison, as far as there is room; the HTML report has all of them.
SHOWN_METRICS = ("mse", "mae", "r2", "accuracy")
FIRST_METRICS = ("mse", "accuracy")

COLOURS = {"agrees": "green", "differs": "red", "failed": "yellow", "undecidable": "magenta", "defect": "blue"}


def print_known_differences(console: Console, cases: Sequence[Case]) -> None:
    """Say which known differences were matched, one line each."""
    lines = {line: None for case in cases for line in known_differences(case)}
    for name, message, matched in lines:
        state = "[green]matched[/]" if matched else "[yellow]as it is[/]"
        console.print(f"{state}  [bold]{name}[/]  {escape(message)}", soft_wrap=True)


Sentences = Mapping[tuple[str, str], str]


def print_verdict(console: Console, verdict: Verdict, effects: Sentences | None = None) -> None:
    """Print the table of comparisons, what is to be said of each, also whether it matters, and the conclusion."""
    print_comparisons(console, verdict, effects)
    console.print(f"\n[bold]{escape(conclusion(verdict))}[/]", soft_wrap=True)


def print_comparisons(console: Console, verdict: Verdict, effects: Sentences | None = None) -> None:
    """Print the table of comparisons and what is to be said of each, by case and runner whether it matters too."""
    console.print(_fitting_table(console, verdict))
    for comparison in verdict.comparisons:
        lines = list(comparison.notes)
        if comparison.status != "agrees":
            lines.insert(0, explain(comparison))
        lines += map(explain_cause, comparison.causes)
        lines += [text for place, text in (effects or {}).items() if place == (comparison.case, comparison.runner)]
        if comparison.log and not comparison.causes:
            lines.append(f"last lines of its log:\n{comparison.log}")
        for line in lines:
            console.print(f"{comparison.case} on {comparison.runner}: {line}", markup=False, soft_wrap=True)
    for note in dict.fromkeys(note for comparison in verdict.comparisons for note in comparison.data_notes):
        names = dict.fromkeys(c.case for c in verdict.comparisons if note in c.data_notes)
        console.print(f"{', '.join(names)}: {note}", markup=False, soft_wrap=True)
    if verdict.folds:
        console.print()
        _print_folds(console, verdict.folds)


def _fitting_table(console: Console, verdict: Verdict) -> Table:
    """Make the widest table that there is room for: where it is narrow, runners below their case, or fewer metrics."""
    present = [name for name in SHOWN_METRICS if any(name in _metrics(c) for c in verdict.comparisons)] or ["mse"]
    first = [name for name in present if name in FIRST_METRICS] or present[:1]
    for grouped, metrics in ((False, present), (True, present), (False, first), (True, first)):
        table = _table(verdict, grouped, metrics)
        if Measurement.get(console, console.options.update(max_width=WIDEST), table).maximum <= console.width:
            break
    return table


def _table(verdict: Verdict, grouped: bool, metrics: Sequence[str]) -> Table:
    """Make the table of comparisons; grouped, each case has a line of its own and its runners stand below it."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("case", "verdict") if grouped else ("case", "runner", "verdict"):
        table.add_column(name, no_wrap=True, vertical="bottom")
    # A heading of two lines, or the table of a whole suite is wider than 80 columns.
    for name in ("steps", "loss", "error /\ntolerance", *(METRICS[metric] for metric in metrics)):
        table.add_column(name, justify="right", no_wrap=True, vertical="bottom")
    named = None
    for comparison in verdict.comparisons:
        name = comparison.case if comparison.dtype == "float32" else f"{comparison.case} {comparison.dtype}"
        if grouped and name != named:
            table.add_row(name)
            named = name
        table.add_row(
            *([f"  {comparison.runner}"] if grouped else [name, comparison.runner]),
            f"[{COLOURS[status(comparison)]}]{status(comparison)}[/]",
            str(comparison.steps),
            figure(comparison.max_relative_loss_difference),
            tolerance_ratio(comparison),
            *(metric(comparison, name) for name in metrics),
        )
    return table


def _metrics(comparison: Comparison) -> Mapping[str, float | None]:
    return comparison.metrics.get(comparison.runner, {})


def metric(comparison: Comparison, name: str) -> str:
    """Write a metric of a comparison's runner."""
    value = _metrics(comparison).get(name)
    if value is None:
        return "–"
    return {"accuracy": f"{value:.1%}", "r2": f"{value:.3f}"}.get(name, figure(value))


def _print_folds(console: Console, folds: Sequence[FoldSummary]) -> None:
    """Print each side's metrics over the folds, mean and standard deviation."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("cross-validation", "folds", "side"):
        table.add_column(name, no_wrap=True)
    metrics = [name for name in METRICS_OF_FOLDS if any(name in summary.metrics for summary in folds)]
    for metric in metrics:
        table.add_column(METRICS[metric], justify="right", no_wrap=True)
    for summary in folds:
        figures = [mean_and_spread(summary.metrics.get(metric)) for metric in metrics]
        table.add_row(summary.case, str(summary.folds), summary.side, *figures)
    console.print(table)
