"""What a search came to, on the console and as one HTML page."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from compare.report import wording
from compare.report.console import print_comparisons
from compare.report.html import embed, write_page
from compare.report.sweep_page import broken_name
from compare.report.wording import METRICS, four_digits
from compare.tune.results import Outcome, Tried

# How many trials the console lists; the page has all.
LISTED = 10


def tune_conclusion(outcome: Outcome) -> str:
    """Say in one line what came of a search."""
    best, total = outcome.best, len(outcome.trials)
    if best is None:
        failed = next((trial.error for trial in outcome.trials if trial.error), "none was begun")
        return f"None of {total} trials came to its end: {failed}"
    name = METRICS[outcome.search.metric]
    return f"Trial {best.number} of {total} is the best: {name} {score(best)}. {confirmation(outcome)}"


def confirmation(outcome: Outcome) -> str:
    """Say whether both sides train the best case alike, and to what score on the held-out data."""
    verdict, metric = outcome.verdict, outcome.search.metric
    if verdict is None:
        return "It was not confirmed."
    figures = {side: values.get(metric) for c in verdict.comparisons for side, values in c.metrics.items()}
    told = ", ".join(f"{side} {'–' if value is None else f'{value:.6g}'}" for side, value in figures.items())
    reached = f"; {METRICS[metric]} on held-out data: {told}" if told else ""
    conclusion = wording.conclusion(verdict).rstrip(".")
    return f"On both sides, trained whole: {conclusion[0].lower()}{conclusion[1:]}{reached}."


def score(tried: Tried) -> str:
    """Write a score with its standard deviation over the folds."""
    if tried.score is None:
        return "–"
    return f"{tried.score:.4g}" + ("" if tried.spread is None else f" ± {tried.spread:.2g}")


def sides(outcome: Outcome) -> Sequence[str]:
    """The sides whose scores are told apart: none where one alone was trained."""
    return outcome.search.runners if len(outcome.search.runners) > 1 else ()


def print_tuning(console: Console, outcome: Outcome) -> None:
    """Print the best trials, which field matters, and the verdict on the best case."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("trial", *(broken_name(name) for name in outcome.search.space)):
        table.add_column(name, justify="right", vertical="bottom")
    for name in (METRICS[outcome.search.metric], *map(broken_name, sides(outcome))):
        table.add_column(name, justify="right", no_wrap=True, vertical="bottom")
    table.add_column("", vertical="bottom")
    for tried in outcome.trials[:LISTED]:
        by_side = [four_digits(tried.side(side)) for side in sides(outcome)]
        state = "" if tried.state == "complete" else tried.state
        table.add_row(str(tried.number), *map(escape, tried.values.values()), score(tried), *by_side, state)
    console.print(table)
    if len(outcome.trials) > LISTED:
        console.print(f"and {len(outcome.trials) - LISTED} more in the page")
    errors = dict.fromkeys(trial.error for trial in outcome.trials if trial.error)
    for error in list(errors)[:3]:
        console.print(f"failed: {error}", markup=False, soft_wrap=True)
    if outcome.importances:
        parts = ", ".join(f"{name} {part:.0%}" for name, part in outcome.importances.items())
        console.print(f"\nWhat the score depends on: {parts}", markup=False, soft_wrap=True)
    if outcome.verdict is not None:
        console.print("\nThe best case, trained whole on both sides:")
        print_comparisons(console, outcome.verdict)
    console.print(f"\n[bold]{escape(tune_conclusion(outcome))}[/]", soft_wrap=True)


def write_tune_page(outcome: Outcome, environment: Mapping[str, str], path: Path) -> None:
    """Write the page of a search as one self-contained file."""
    from compare.report.tune_charts import tune_charts  # Bokeh takes a second

    charts = list(tune_charts(outcome))
    write_page(
        path,
        "tune.html.j2",
        title=tune_conclusion(outcome),
        outcome=outcome,
        metric=METRICS[outcome.search.metric],
        sides=sides(outcome),
        score=score,
        status=_status(outcome),
        charts=embed(charts, "charts") if charts else None,
        environment=environment,
    )


def _status(outcome: Outcome) -> str:
    return {0: "agrees", 1: "differs"}.get(outcome.exit_code, "failed")
