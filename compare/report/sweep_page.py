"""The page of a sweep: one HTML file with everything in it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, select_autoescape
from markupsafe import Markup

from compare.report import plots, wording
from compare.storage import write_text
from compare.sweep.grid import Sweep
from compare.sweep.running import Outcome

# How many comparisons a page lists; the table beside it has all of them.
LISTED = 1000

STATUSES = ("agrees", "differs", "failed")


def write_sweep_page(sweep: Sweep, outcome: Outcome, environment: Mapping[str, str], table: Path, path: Path) -> None:
    """Write the page: the counts, what each value of each list came to, the comparisons, those that differ first."""
    frame = pd.DataFrame(list(outcome.rows))
    frame["tolerance_ratio"] = frame[["largest_share_of_allowed", "largest_step_share"]].astype(float).max(axis=1)
    varied = [name for name, values in sweep.axes.items() if len(values) > 1]
    order = frame["status"].map({"differs": 0, "failed": 1, "undecidable": 1, "agrees": 2})
    listed = frame.assign(order=order).sort_values(["order", "tolerance_ratio"], ascending=[True, False], kind="stable")
    fixed = {**sweep.common, **{name: values[0] for name, values in sweep.axes.items() if name not in varied}}
    templates = Environment(loader=PackageLoader("compare", "report"), autoescape=select_autoescape(default=True))
    content = templates.get_template("sweep.html.j2").render(
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
