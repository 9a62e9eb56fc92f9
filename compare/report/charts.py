"""The charts of the HTML report, by Bokeh: zoomed together, asked for exact figures, drawn when they come into view."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from bokeh.core.json_encoder import serialize_json
from bokeh.embed.util import OutputDocumentFor
from bokeh.models import ColumnDataSource, CustomJSHover, FactorRange, HoverTool, LogColorMapper, Range1d, Span
from bokeh.palettes import Viridis256
from bokeh.plotting import figure

from compare.judge.ratios import tolerance_ratios
from compare.judge.verdict import Comparison, Curves, RatioMap

# Okabe and Ito's palette, told apart by people who see colours differently, on white and on black.
COLOURS = {"torch": "#999999", "keras-tensorflow": "#D55E00", "keras-torch": "#0072B2", "keras-jax": "#009E73"}
DASHES = {"torch": "solid", "keras-tensorflow": "dashed", "keras-torch": "dotdash", "keras-jax": "dotted"}
OTHER_COLOUR = "#CC79A7"
BEYOND_COLOUR = "#d62728"

# Read on white and on black alike (contrast 4.5 and 4.6).
TEXT_COLOUR = "#767676"

SHOWN_WINDOWS = 120

# Error / tolerance below this is not told apart: it is rounding with room to spare.
SMALLEST_RATIO = 1e-3

# The first step of the column under the pointer.
FIRST_STEP = "return steps.filter((step) => step <= special_vars.x).at(-1) ?? 0"


@dataclass(frozen=True)
class Chart:
    """A figure with its title, and what one who cannot see it is told."""

    title: str
    description: str
    figure: figure
    wide: bool = False


def embedded(charts: Sequence[Chart]) -> tuple[str, list[str]]:
    """Return the document that Bokeh's script draws, as JSON, and the root of each chart in it."""
    figures = [chart.figure for chart in charts]
    with OutputDocumentFor(figures) as document:
        return serialize_json(document.to_json(deferred=False)), [figure.id for figure in figures]


def charts_of(comparisons: Sequence[Comparison]) -> Iterator[Chart]:
    """Draw what the comparisons of one case have in common."""
    if drawn := [comparison for comparison in comparisons if comparison.curves is not None]:
        yield from _losses(drawn)
        if _curves(drawn[0]).truth.size:
            yield from _predictions(drawn)
    if drawn := [comparison for comparison in comparisons if comparison.gates is not None]:
        yield from _gates(drawn)
    if drawn := [c for c in comparisons if c.classes is not None and c.classes.by_timestep]:
        yield _accuracy_by_timestep(drawn)
    for sides, counts, labels in _confusions(comparisons):
        yield _confusion(sides, counts, labels)


def ratio_chart(comparison: Comparison, ratios: RatioMap) -> Chart:
    """Draw error / tolerance of every tensor over the steps, red where it is above 1."""
    rows, steps = len(ratios.tensors), comparison.steps
    # The first tensor stands at the top.
    values = np.minimum(ratios.ratios[::-1], np.finfo(np.float32).max).astype(np.float32)
    plot = empty_plot("step", y_range=Range1d(0, rows), x_range=Range1d(0, steps, bounds="auto"), height=90 + 15 * rows)
    colours = LogColorMapper(Viridis256, low=SMALLEST_RATIO, high=1.0, high_color=BEYOND_COLOUR)
    plot.image(image=[values], x=0, y=0, dw=steps, dh=rows, color_mapper=colours)
    names = ratios.tensors[::-1]
    plot.yaxis.ticker = [row + 0.5 for row in range(rows)]
    plot.yaxis.major_label_overrides = {row + 0.5: name for row, name in enumerate(names)}
    plot.yaxis.major_label_text_font_size = "10px"
    plot.grid.visible = False
    tensor = CustomJSHover(args={"names": names}, code="return names[Math.floor(special_vars.y)]")
    step = CustomJSHover(args={"steps": ratios.steps.tolist()}, code=FIRST_STEP)
    plot.add_tools(
        HoverTool(
            tooltips=[("tensor", "$y{custom}"), ("from step", "$x{custom}"), ("error / tolerance", "@image{%.3g}")],
            formatters={"$y": tensor, "$x": step, "@image": "printf"},
        )
    )
    told = f"{rows} recorded figures over {steps} steps; at most {float(ratios.ratios.max()):.2g}."
    title = f"Error / tolerance, {comparison.runner}: yellow is near 1, red beyond it"
    return Chart(title, f"Error divided by tolerance of {told}", plot, wide=True)


def _losses(comparisons: Sequence[Comparison]) -> Iterator[Chart]:
    """Draw both losses, and how far they have drifted apart beside the tolerance; both are zoomed together."""
    reference, first = comparisons[0].reference, _curves(comparisons[0])
    columns = {
        "step": np.arange(len(first.expected_losses), dtype=np.int32),
        reference: _single(first.expected_losses),
        "tolerance": _single(first.loss_tolerance),
        "ensemble": _single(first.ensemble_loss_drift),
    }
    runners = [comparison.runner for comparison in comparisons]
    for comparison in comparisons:
        for name, values in (("loss", _curves(comparison).obtained_losses), ("drift", _curves(comparison).loss_drift)):
            padded = np.full(len(columns["step"]), np.nan, np.float32)
            padded[: len(values)] = _single(values)[: len(padded)]
            columns[f"{comparison.runner} {name}"] = padded
    source = ColumnDataSource(columns)

    positive = all(np.nanmin(columns[name], initial=1) > 0 for name in [reference, *(f"{r} loss" for r in runners)])
    losses = empty_plot("step", "loss", y_axis_type="log" if positive else "linear")
    losses.line("step", reference, source=source, name=reference, **_style(reference, behind=True))
    for runner in runners:
        losses.line("step", f"{runner} loss", source=source, name=runner, **_style(runner))
    figures = {"step": "@step", reference: f"@{{{reference}}}{{%.8g}}"}
    losses.add_tools(hover(figures | {r: f"@{{{r} loss}}{{%.8g}}" for r in runners}, reference, losses))
    yield Chart(
        "Loss of both sides", f"The training loss of {reference} and of {', '.join(runners)} at every step.", losses
    )

    drift = empty_plot("step", "relative drift of the loss", y_axis_type="log", x_range=losses.x_range)
    bottom = (
        float(np.nanmin(np.where(first.ensemble_loss_drift > 0, first.ensemble_loss_drift, np.inf), initial=1)) / 30
    )
    drift.varea("step", bottom, "ensemble", source=source, color=TEXT_COLOUR, alpha=0.25, name="ensemble")
    drift.line("step", "tolerance", source=source, color=BEYOND_COLOUR, width=1.5, name="tolerance")
    crossed = []
    for comparison in comparisons:
        runner = comparison.runner
        drift.scatter(
            "step", f"{runner} drift", source=source, size=3, name=runner, color=COLOURS[runner], line_color=None
        )
        ratios = tolerance_ratios(columns[f"{runner} drift"], columns["tolerance"])
        beyond = np.flatnonzero((ratios > 1) & ~np.isnan(columns[f"{runner} drift"]))
        if beyond.size:
            crossed.append(f"{runner} crosses the tolerance at step {beyond[0]}")
            drift.add_layout(
                Span(location=int(beyond[0]), dimension="height", line_color=COLOURS[runner], line_dash="4 3")
            )
    figures = {"step": "@step", "tolerance": "@tolerance{%.3g}", "ensemble": "@ensemble{%.3g}"}
    drift.add_tools(hover(figures | {r: f"@{{{r} drift}}{{%.3g}}" for r in runners}, "tolerance", drift))
    told = "; ".join(crossed) or "none crosses the tolerance"
    title = "Drift of the losses: tolerance in red, the ensemble's own drift in grey"
    yield Chart(title, f"How far the losses are apart at every step, beside the tolerance: {told}.", drift)


def _predictions(comparisons: Sequence[Comparison]) -> Iterator[Chart]:
    """Draw the last held-out values with each side's predictions one step ahead, and how far these miss."""
    reference, first = comparisons[0].reference, _curves(comparisons[0])
    truth = first.truth[-SHOWN_WINDOWS:, 0]
    columns: dict[str, np.ndarray] = {"window": np.arange(len(first.truth))[-SHOWN_WINDOWS:], "truth": truth}
    columns[reference] = first.expected_predictions[-SHOWN_WINDOWS:, 0]
    for comparison in comparisons:
        values = _curves(comparison).obtained_predictions[-SHOWN_WINDOWS:, 0]
        if len(values) == len(truth):
            columns[comparison.runner] = values
    sides = [side for side in columns if side not in ("window", "truth")]
    columns |= {f"{side} residual": columns[side] - truth for side in sides}
    source = ColumnDataSource(columns)
    predictions, residuals = (
        empty_plot("held-out window", "target"),
        empty_plot("held-out window", "prediction − truth"),
    )
    residuals.x_range = predictions.x_range
    predictions.scatter("window", "truth", source=source, size=4, color=TEXT_COLOUR, name="truth")
    for side in sides:
        for plot, column in ((predictions, side), (residuals, f"{side} residual")):
            plot.line("window", column, source=source, name=side, **_style(side, behind=side == reference))
    residuals.add_layout(Span(location=0, dimension="width", line_color=TEXT_COLOUR))
    figures = {"window": "@window", "truth": "@truth{%.8g}"}
    predictions.add_tools(hover(figures | {side: f"@{{{side}}}{{%.8g}}" for side in sides}, reference, predictions))
    residuals.add_tools(
        hover(figures | {side: f"@{{{side} residual}}{{%.8g}}" for side in sides}, reference, residuals)
    )
    told = f"of the last {len(truth)} held-out windows by {', '.join(sides)}"
    yield Chart("Predictions for held-out data", f"Truth (dots) and predictions {told}.", predictions)
    yield Chart("Residuals of the predictions", f"Prediction minus truth {told}.", residuals)


def _gates(comparisons: Sequence[Comparison]) -> Iterator[Chart]:
    """Draw each gate over the timesteps of a window, on both sides."""
    reference = comparisons[0].reference
    gates = [comparison.gates.activations for comparison in comparisons if comparison.gates is not None]
    x_range = None
    for gate, first in gates[0].items():
        sides = {reference: first[reference]}
        sides |= {c.runner: of_comparison[gate][c.runner] for c, of_comparison in zip(comparisons, gates, strict=True)}
        source = ColumnDataSource({"timestep": np.arange(len(first[reference])), **sides})
        plot = empty_plot("timestep, in the order of computation", "mean over the units", height=200)
        x_range = plot.x_range = x_range or plot.x_range
        for side in sides:
            plot.line("timestep", side, source=source, name=side, **_style(side, behind=side == reference))
        figures = {"timestep": "@timestep"} | {side: f"@{{{side}}}{{%.8g}}" for side in sides}
        plot.add_tools(hover(figures, reference, plot))
        apart = max(float(np.abs(values - sides[reference]).max()) for values in sides.values())
        name = "State" if gate == "state" else f"{gate.capitalize()} {'' if gate == 'candidate' else 'gate '}".strip()
        title = f"{name} of the first layer, over the first held-out window"
        told = f"by the last weights of {', '.join(sides)}; at most {apart:.1g} apart."
        yield Chart(title, f"Its mean over the units at each timestep, {told}", plot)


def _accuracy_by_timestep(comparisons: Sequence[Comparison]) -> Chart:
    plot, reference = empty_plot("timestep", "accuracy", y_range=Range1d(0, 1.02)), comparisons[0].reference
    sides: dict[str, np.ndarray] = {}
    for comparison in comparisons:
        assert comparison.classes is not None  # only those with classes are drawn
        sides |= comparison.classes.by_timestep
    source = ColumnDataSource({"timestep": np.arange(max(map(len, sides.values()))), **sides})
    for side in sides:
        plot.line("timestep", side, source=source, name=side, **_style(side, behind=side == reference))
    figures = {"timestep": "@timestep"} | {side: f"@{{{side}}}{{%.4f}}" for side in sides}
    plot.add_tools(hover(figures, next(iter(sides)), plot))
    return Chart("Accuracy at each timestep of held-out data", f"By {', '.join(sides)}.", plot)


def _confusion(sides: Sequence[str], counts: np.ndarray, labels: Sequence[str]) -> Chart:
    """Draw how often each class (row) was taken for each (column), shaded by its part of the row."""
    # Labels may be alike to the eye, or empty: each has its number.
    names = [f"{number}: {label}" if label != str(number) else label for number, label in enumerate(labels)]
    rows, columns = (axis.ravel() for axis in np.indices(counts.shape))
    parts = (counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)).ravel()
    source = ColumnDataSource(
        {
            "truth": [names[row] for row in rows],
            "predicted": [names[column] for column in columns],
            "count": counts.ravel(),
            "text": [str(count) if count else "" for count in counts.ravel()],
            "part": parts,
            "ink": ["#ffffff" if part > 0.5 else TEXT_COLOUR for part in parts],
        }
    )
    plot = empty_plot("taken for", "is", x_range=FactorRange(*names), y_range=FactorRange(*reversed(names)), height=340)
    plot.rect("predicted", "truth", 1, 1, source=source, line_color=None, fill_color="#0072B2", fill_alpha="part")
    centred = {"text_align": "center", "text_baseline": "middle", "text_font_size": "11px"}
    plot.text("predicted", "truth", "text", source=source, text_color="ink", **centred)
    plot.xaxis.major_label_orientation = 0.9 if sum(map(len, names)) > 40 else 0
    plot.grid.visible = False
    plot.add_tools(hover({"is": "@truth", "taken for": "@predicted", "times": "@count"}))
    right = int(np.trace(counts))
    return Chart(f"Confusion matrix of {', '.join(sides)}", f"{right} of {int(counts.sum())} are right.", plot)


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


def empty_plot(x_label: str, y_label: str = "", **options: Any) -> figure:
    """Make an empty figure as wide as its place, which shows on white and on black."""
    see_through = {"background_fill_alpha": 0, "border_fill_alpha": 0, "outline_line_color": None}
    plot = figure(
        **{"height": 280, **see_through, **options},
        sizing_mode="stretch_width",
        min_width=200,
        tools="pan,box_zoom,wheel_zoom,reset,save",
        active_scroll=None,
        x_axis_label=x_label,
        y_axis_label=y_label or None,
    )
    plot.toolbar.logo = None
    plot.toolbar.autohide = True
    for axis in plot.axis:
        axis.axis_label_text_color = axis.major_label_text_color = TEXT_COLOUR
        axis.axis_line_color = axis.major_tick_line_color = TEXT_COLOUR
        axis.minor_tick_line_color = None
        axis.axis_label_text_font_style = "normal"
    plot.grid.grid_line_color, plot.grid.grid_line_alpha = TEXT_COLOUR, 0.2
    return plot


def hover(figures: Mapping[str, str], line: str | None = None, plot: figure | None = None) -> HoverTool:
    """Tell the figures at the step under the pointer, or without a line at the mark under it."""
    formats = {column[: column.index("{%")]: "printf" for column in figures.values() if "{%" in column}
    if plot is None:
        return HoverTool(tooltips=list(figures.items()), formatters=formats)
    return HoverTool(tooltips=list(figures.items()), formatters=formats, mode="vline", renderers=plot.select(name=line))


def _style(side: str, behind: bool = False) -> dict[str, Any]:
    """How a side's line looks; that `behind` is wide and pale, for the others to be seen on it."""
    if behind:
        return {"color": COLOURS.get(side, OTHER_COLOUR), "width": 4, "alpha": 0.55}
    return {"color": COLOURS[side], "line_dash": DASHES[side], "width": 1.6}


def _curves(comparison: Comparison) -> Curves:
    assert comparison.curves is not None  # only those with curves are drawn
    return comparison.curves


def _single(values: np.ndarray) -> np.ndarray:
    """Half the bytes: no digit of a float32 training is lost."""
    limit = np.finfo(np.float32).max
    return np.clip(values, -limit, limit).astype(np.float32)
