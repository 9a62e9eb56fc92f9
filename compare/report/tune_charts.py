"""The charts of a search: the scores over the trials, which field matters, and the scores by each field."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from bokeh.models import ColumnDataSource, FactorRange
from bokeh.plotting import figure

from compare.report.charts import TEXT_COLOUR, Chart, empty_plot, hover
from compare.report.wording import METRICS
from compare.tune.results import Outcome, Tried
from compare.tune.search import Range

COMPLETE_COLOUR, PRUNED_COLOUR = "#0072B2", "#E69F00"


def tune_charts(outcome: Outcome) -> Iterator[Chart]:
    """Draw a search; nothing where no trial has a score."""
    scored = sorted((tried for tried in outcome.trials if tried.score is not None), key=lambda tried: tried.number)
    if not scored:
        return
    yield _history(outcome, scored)
    if outcome.importances:
        yield _importances(outcome.importances)
    for name, dimension in outcome.search.space.items():
        yield _by_field(outcome, name, isinstance(dimension, Range) and dimension.log, scored)


def _history(outcome: Outcome, scored: Sequence[Tried]) -> Chart:
    metric, better = METRICS[outcome.search.metric], np.maximum if outcome.search.maximised else np.minimum
    plot = empty_plot("trial", metric, y_axis_type=_axis(scored))
    _marks(plot, scored, [tried.number for tried in scored])
    complete = [tried for tried in scored if tried.state == "complete"]
    if complete:
        best = better.accumulate(np.array([tried.score for tried in complete], np.float64))
        numbers = [tried.number for tried in complete]
        plot.step(numbers, best, mode="after", color=TEXT_COLOUR, line_width=1.5)
    told = f"{len(complete)} whole trials (dots) and {len(scored) - len(complete)} that were pruned (triangles)"
    return Chart("Score of each trial, and the best so far", f"The {metric} of {told}.", plot)


def _importances(importances: Mapping[str, float]) -> Chart:
    names = list(importances)[::-1]
    parts = [importances[name] for name in names]
    plot = empty_plot("part of the score's variance", y_range=FactorRange(*names), height=110 + 34 * len(names))
    source = ColumnDataSource({"field": names, "part": parts})
    plot.hbar("field", right="part", height=0.6, source=source, color=COMPLETE_COLOUR)
    plot.x_range.start = 0
    plot.add_tools(hover({"field": "@field", "part": "@part{%.3f}"}))
    told = ", ".join(f"{name} {part:.0%}" for name, part in importances.items())
    return Chart("Which field matters (fANOVA)", f"Estimated parts of the score's variance: {told}.", plot)


def _by_field(outcome: Outcome, name: str, log: bool, scored: Sequence[Tried]) -> Chart:
    values = [tried.fields[name] for tried in scored]
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    metric = METRICS[outcome.search.metric]
    if numbers:
        plot = empty_plot(name, metric, x_axis_type="log" if log else "linear", y_axis_type=_axis(scored))
        _marks(plot, scored, values)
    else:
        texts = [str(value) for value in values]
        plot = empty_plot(name, metric, x_range=FactorRange(*dict.fromkeys(texts)), y_axis_type=_axis(scored))
        _marks(plot, scored, texts)
    return Chart(f"Score by {name}", f"The {metric} of {len(scored)} trials by their {name}.", plot)


def _marks(plot: figure, scored: Sequence[Tried], places: Sequence[object]) -> None:
    """Mark each trial at its place, those that were pruned by another shape."""
    for state, marker, colour in (("complete", "circle", COMPLETE_COLOUR), ("pruned", "triangle", PRUNED_COLOUR)):
        chosen = [(tried, place) for tried, place in zip(scored, places, strict=True) if tried.state == state]
        source = ColumnDataSource(
            {
                "x": [place for _, place in chosen],
                "score": [tried.score for tried, _ in chosen],
                "trial": [tried.number for tried, _ in chosen],
                "fields": [", ".join(f"{n} = {v}" for n, v in tried.values.items()) for tried, _ in chosen],
            }
        )
        plot.scatter("x", "score", source=source, marker=marker, size=8, color=colour, alpha=0.8, name=state)
    plot.add_tools(hover({"trial": "@trial", "score": "@score{%.6g}", "": "@fields"}))


def _axis(scored: Sequence[Tried]) -> str:
    """Scores of several orders of magnitude need a logarithmic axis."""
    scores = [tried.score for tried in scored if tried.score is not None]
    return "log" if min(scores) > 0 and max(scores) > 20 * min(scores) else "linear"
