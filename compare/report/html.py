"""The HTML report: one file with everything in it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, select_autoescape
from markupsafe import Markup

from compare.case import Case
from compare.causes import known_differences
from compare.judge.verdict import Comparison, Verdict
from compare.report import wording


def write_html(verdict: Verdict, cases: Sequence[Case], environment: Mapping[str, str], path: Path) -> None:
    """Write the report of a run as one self-contained file."""
    from compare.report.plots import draw_loss_errors, draw_losses, draw_predictions  # matplotlib takes a second

    def pictures(comparisons: Sequence[Comparison]) -> list[dict[str, Any]]:
        drawn = [comparison for comparison in comparisons if comparison.curves is not None]
        if not drawn:
            return []
        found = [
            {"title": "Loss of both sides", "svg": Markup(draw_losses(drawn))},  # noqa: S704 - drawn here
            {"title": "How far the losses are apart", "svg": Markup(draw_loss_errors(drawn))},  # noqa: S704 - drawn here
        ]
        predicted = [comparison for comparison in drawn if comparison.curves and comparison.curves.truth.size]
        if predicted:
            found.append({"title": "Predictions for held-out data", "svg": Markup(draw_predictions(predicted))})  # noqa: S704 - drawn here
        return found

    sections = []
    for case in cases:
        comparisons = [comparison for comparison in verdict.comparisons if comparison.case == case.name]
        sections.append(
            {
                "case": case,
                "comparisons": comparisons,
                "known": known_differences(case),
                "metrics": {side: figures for c in comparisons for side, figures in c.metrics.items()},
                "pictures": pictures(comparisons),
            }
        )
    templates = Environment(loader=PackageLoader("compare", "report"), autoescape=select_autoescape(default=True))
    template = templates.get_template("report.html.j2")
    content = template.render(verdict=verdict, sections=sections, environment=environment, wording=wording)
    path.write_text(content, "utf-8")
