"""The page of a sweep: one HTML file with everything in it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, select_autoescape
from markupsafe import Markup
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from compare.report import plots, wording
from compare.storage import write_text
from compare.sweep.grid import Sweep
from compare.sweep.ranking import SIDES, Ranked
from compare.sweep.running import Outcome

# How many comparisons a page lists; the table beside it has all of them.
LISTED = 1000

# How many settings the console lists, the best first.
RANKED = 10

STATUSES = ("agrees", "differs", "failed")


def write_sweep_page(
    sweep: Sweep,
    outcome: Outcome,
    environment: Mapping[str, str],
    table: Path,
    path: Path,
    metric: str,
    ranking: Sequence[Ranked],
) -> None:
    """Write the page: the counts, the best settings, what each value came to, the comparisons that differ first."""
    frame = pd.DataFrame(list(outcome.rows))
    frame["tolerance_ratio"] = frame[["largest_share_of_allowed", "largest_step_share"]].astype(float).max(axis=1)
    varied = [name for name, values in sweep.axes.items() if len(values) > 1]
    order = frame["status"].map({"differs": 0, "failed": 1, "undecidable": 1, "agrees": 2})
    listed = frame.assign(order=order).sort_values(["order", "tolerance_ratio"], ascending=[True, False], kind="stable")
    fixed = {**sweep.common, **{name: values[0] for name, values in sweep.axes.items() if name not in varied}}
    templates = Environment(loader=PackageLoader("compare", "report"), autoescape=select_autoescape(default=True))
    content = templates.get_template(
        "sweep.html.j2"
    ).render(
        base=sweep.base,
        outcome=outcome,
        conclusion=sweep_conclusion(outcome),
        environment=environment,
        table=table.name,
        varied=varied,
        fixed=fixed,
        by_value=[counts for name in ["runner", *varied] for counts in _counts(frame, name)],
        listed=_cells(listed.head(LISTED)),
        unlisted=max(0, len(frame) - LISTED),
        picture=Markup(plots.draw_tolerance_ratios(_ratios(frame))),  # noqa: S704 - drawn here
        metric=wording.METRICS[metric],
        ranking=ranking[:LISTED] if ranking and ranking[0].fields else [],
        wording=wording,
    )
    write_text(path, content)


def sweep_conclusion(outcome: Outcome) -> str:
    """Say in one line what came of a sweep."""
    counts = outcome.as_json()
    conclusion = f"{counts['agree']} of {counts['cases']} cases agree"
    for name, verb in {"differ": "differ", "failed": "could not be run", "skipped": "were found done"}.items():
        if counts[name]:
            conclusion += f", {counts[name]} {verb}"
    return conclusion + "."


def print_ranking(console: Console, metric: str, ranking: Sequence[Ranked]) -> None:
    """Print the best settings; nothing where all cases have the same."""
    if not ranking or not ranking[0].fields:
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in (*map(broken_name, ranking[0].fields), *(f"{wording.METRICS[metric]}\n{side}" for side in SIDES)):
        table.add_column(name, justify="right", vertical="bottom")
    table.add_column("agree", justify="right", vertical="bottom")
    for settings in ranking[:RANKED]:
        values = [escape(str(value)) for value in settings.fields.values()]
        figures = [wording.four_digits(settings.sides[side]) for side in SIDES]
        table.add_row(*values, *figures, f"{settings.agree} of {settings.comparisons}")
    console.print(table)
    if len(ranking) > RANKED:
        console.print(f"and {len(ranking) - RANKED} more in the page")


def broken_name(name: str) -> str:
    """Break a long name where it has a dot or a dash, or a table is wider than 80 columns."""
    return name.replace(".", ".\n", 1).replace("learning_rate", "learning_\nrate").replace("keras-", "keras-\n")


def _counts(frame: pd.DataFrame, name: str) -> list[dict[str, Any]]:
    """Count what each value of a column came to, with its largest error / tolerance."""
    values = frame[name].map(str)
    rows = []
    for value in dict.fromkeys(values):
        chosen = frame[values == value]
        counts = {status: int((chosen["status"] == status).sum()) for status in STATUSES}
        largest = chosen["tolerance_ratio"].max()
        ratio = None if pd.isna(largest) else float(largest)
        rows.append({"name": name, "value": value, **counts, "tolerance_ratio": ratio})
    return rows


def _ratios(frame: pd.DataFrame) -> dict[str, list[float]]:
    return {
        str(runner): chosen["tolerance_ratio"].dropna().tolist()
        for runner, chosen in frame.groupby("runner", sort=False)
    }


def _cells(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Turn rows into what a template can ask: None where there is no figure."""
    records: list[dict[str, Any]] = frame.astype(object).where(frame.notna(), None).to_dict("records")  # type: ignore[assignment]
    return records
