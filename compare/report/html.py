"""The HTML report: one file with everything in it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, select_autoescape
from markupsafe import Markup

from compare.config.case import Case
from compare.judge.verdict import Comparison, Verdict
from compare.known.differences import known_differences
from compare.report import wording
from compare.storage import write_text


def write_html(verdict: Verdict, cases: Sequence[Case], environment: Mapping[str, str], path: Path) -> None:
    """Write the report of a run as one self-contained file."""
    sections = []
    for case in cases:
        comparisons = [comparison for comparison in verdict.comparisons if comparison.case == case.name]
        sections.append(
            {
                "case": case,
                "comparisons": comparisons,
                "known": known_differences(case),
                "metrics": {side: figures for c in comparisons for side, figures in c.metrics.items()},
                "epoch_losses": {side: losses for c in comparisons for side, losses in c.epoch_losses.items()},
                "data_notes": list(dict.fromkeys(note for c in comparisons for note in c.data_notes)),
                "pictures": _pictures(comparisons),
            }
        )
    templates = Environment(loader=PackageLoader("compare", "report"), autoescape=select_autoescape(default=True))
    template = templates.get_template("report.html.j2")
    content = template.render(
        verdict=verdict, sections=sections, environment=environment, wording=wording, folds=verdict.folds
    )
    write_text(path, content)


def _pictures(comparisons: Sequence[Comparison]) -> list[dict[str, Any]]:
    from compare.report import plots  # matplotlib takes a second

    pictures: list[tuple[str, str]] = []
    if drawn := [c for c in comparisons if c.curves is not None]:
        pictures.append(("Loss of both sides", plots.draw_losses(drawn)))
        pictures.append(("Drift of the losses", plots.draw_loss_drift(drawn)))
    if predicted := [c for c in drawn if c.curves is not None and c.curves.truth.size]:
        pictures.append(("Predictions for held-out data", plots.draw_predictions(predicted)))
    if by_timestep := [c for c in comparisons if c.classes is not None and c.classes.by_timestep]:
        pictures.append(("Accuracy at each timestep of held-out data", plots.draw_accuracy_by_timestep(by_timestep)))
    for sides, counts, labels in _confusions(comparisons):
        pictures.append((f"Confusion matrix of {', '.join(sides)}", plots.draw_confusion(counts, labels)))
    return [{"title": title, "svg": Markup(svg)} for title, svg in pictures]  # noqa: S704 - drawn here


def _confusions(comparisons: Sequence[Comparison]) -> list[tuple[list[str], np.ndarray, tuple[str, ...]]]:
    """List the confusion matrices that differ from one another, each with the sides that have it."""
    matrices: list[tuple[list[str], np.ndarray, tuple[str, ...]]] = []
    for comparison in comparisons:
        if comparison.classes is None:
            continue
        for side, counts in comparison.classes.confusion.items():
            sides = next((known for known, other, _ in matrices if np.array_equal(counts, other)), None)
            if sides is None:
                matrices.append(([side], counts, comparison.classes.labels))
            elif side not in sides:
                sides.append(side)
    return matrices
