"""The HTML report of a run: one file with everything in it, Bokeh's script too, which opens without a network."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, select_autoescape
from markupsafe import Markup

from compare.config.case import Case
from compare.judge.verdict import Comparison, Verdict
from compare.known.differences import known_differences
from compare.report import wording
from compare.storage import write_text

if TYPE_CHECKING:  # Bokeh takes a second
    from compare.report.charts import Chart

# Told apart by shape as well as by colour.
MARKS = {"agrees": "✓", "differs": "✗", "failed": "!", "undecidable": "?", "defect": "◆"}


def write_html(
    verdict: Verdict,
    cases: Sequence[Case],
    environment: Mapping[str, str],
    path: Path,
    effects: Mapping[tuple[str, str], str] | None = None,
) -> None:
    """Write the report of a run as one self-contained file; `effects` say by case and runner what matters."""
    sections = []
    for number, case in enumerate(cases):
        comparisons = [comparison for comparison in verdict.comparisons if comparison.case == case.name]
        sections.append(
            {
                "case": case,
                "comparisons": comparisons,
                "known": known_differences(case),
                "metrics": {side: figures for c in comparisons for side, figures in c.metrics.items()},
                "epoch_losses": {side: losses for c in comparisons for side, losses in c.epoch_losses.items()},
                "data_notes": list(dict.fromkeys(note for c in comparisons for note in c.data_notes)),
                "charts": draw(comparisons, f"charts{number}"),
            }
        )
    write_page(
        path,
        "report.html.j2",
        title=wording.conclusion(verdict),
        verdict=verdict,
        sections=sections,
        runners=list(dict.fromkeys(comparison.runner for comparison in verdict.comparisons)),
        folds=[(case, list(summaries)) for case, summaries in groupby(verdict.folds, key=lambda summary: summary.case)],
        environment=environment,
        anchor=anchor,
        effects=effects or {},
        marks=MARKS,
        next_step=wording.next_step(verdict),
    )


def write_page(path: Path, template: str, title: str, **values: Any) -> None:
    """Write a page by its template, with the styles and the script that all pages share.

    Bokeh's script, a megabyte, is in a page only where `charts` of a section, or its own, have something to draw.
    """
    drawn = bool(values.get("charts")) or any(section["charts"] for section in values.get("sections", ()))
    scripts: list[str] = []
    if drawn:
        from bokeh.resources import Resources  # takes a second to import

        scripts = Resources(mode="inline", components=["bokeh"]).js_raw
    templates = Environment(loader=PackageLoader("compare", "report"), autoescape=select_autoescape(default=True))
    content = templates.get_template(template).render(
        title=title,
        wording=wording,
        scripts=[Markup(script) for script in scripts],  # noqa: S704 - Bokeh's own
        **values,
    )
    write_text(path, content)


def anchor(comparison: Comparison) -> str:
    """The address of a comparison in its page."""
    return f"{comparison.case}/{comparison.runner}"


def draw(comparisons: Sequence[Comparison], name: str) -> dict[str, Any] | None:
    """Draw what there is to be drawn of a case: charts of all its comparisons, then of each by its runner.

    A chart has a title, a description, and the id of its place; `document` is what Bokeh draws there.
    """
    if not any(c.curves is not None or c.gates is not None or c.classes is not None for c in comparisons):
        return None
    from compare.report.charts import COLOURS, charts_of, ratio_chart  # Bokeh takes a second

    shared = list(charts_of(comparisons))
    own = [(c.runner, ratio_chart(c, c.ratio_map)) for c in comparisons if c.ratio_map is not None]
    if not shared and not own:
        return None
    charts = embed([*shared, *(chart for _, chart in own)], name)
    sides = dict.fromkeys(side for c in comparisons for side in (c.reference, c.runner))
    return charts | {
        "shared": charts["places"][: len(shared)],
        "own": {runner: place for (runner, _), place in zip(own, charts["places"][len(shared) :], strict=True)},
        "legend": [(side, COLOURS.get(side, COLOURS["torch"])) for side in sides],
    }


def embed(charts: "Sequence[Chart]", name: str) -> dict[str, Any]:
    """Return what a page's template needs of charts: their places, each with an id, and the document drawn there."""
    from compare.report.charts import embedded

    document, roots = embedded(charts)
    places = [
        {"id": f"{name}-{number}", "root": root, "chart": chart}
        for number, (root, chart) in enumerate(zip(roots, charts, strict=True))
    ]
    # "<" would end the element that holds it.
    escaped = Markup(document.replace("<", "\\u003c"))  # noqa: S704 - JSON, in which "<" is escaped
    return {"name": name, "document": escaped, "places": places}
