"""The pictures of the HTML report, as SVG text."""

import io
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from compare.judge.verdict import Comparison, Curves

mpl.use("svg")

# Fonts that a machine lacks are named in the SVG all the same, for the reader's browser to find.
logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)

# Okabe and Ito's palette, told apart by people who see colours differently.
COLOURS = {"torch": "#CC79A7", "keras-tensorflow": "#D55E00", "keras-torch": "#0072B2", "keras-jax": "#009E73"}
DASHES = {"torch": "-", "keras-tensorflow": "--", "keras-torch": "-.", "keras-jax": ":"}
SHOWN_WINDOWS = 120

# An error / tolerance is drawn no smaller than this.
SMALLEST_RATIO = 1e-3

# How many letters fit beside one another below a confusion matrix, and from how many classes on its counts are small.
CONFUSION_WIDTH = 40
COUNTED_CLASSES = 10

STYLE: Any = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "legend.frameon": False,
    "legend.fontsize": 8,
    "legend.columnspacing": 1.2,
}


def draw_losses(comparisons: Sequence[Comparison]) -> str:
    """Draw the loss of both sides at every step, overlaid."""

    def draw(axes: Axes) -> None:
        first = _curves(comparisons[0])
        axes.plot(first.expected_losses, color="#bbbbbb", linewidth=4, label=comparisons[0].reference)
        for comparison in comparisons:
            losses = _curves(comparison).obtained_losses
            axes.plot(
                losses,
                DASHES[comparison.runner],
                color=COLOURS[comparison.runner],
                linewidth=1,
                label=comparison.runner,
            )
        axes.set_yscale("log")
        axes.set_ylabel("loss")
        axes.set_xlabel("step")

    return draw_svg(draw)


def draw_tolerance_ratios(ratios: Mapping[str, Sequence[float]]) -> str:
    """Draw for each runner how many comparisons have which error / tolerance; from 1 on they differ."""

    def draw(axes: Axes) -> None:
        shown = {runner: np.maximum(np.array(values), SMALLEST_RATIO) for runner, values in ratios.items()}
        largest = max(float(values[np.isfinite(values)].max(initial=1.0)) for values in shown.values())
        bins = np.geomspace(SMALLEST_RATIO, largest * 1.05, 40).tolist()
        for runner, values in shown.items():
            axes.hist(np.minimum(values, largest), bins, histtype="step", color=COLOURS[runner], label=runner)
        axes.axvline(1.0, color="#c62828", linewidth=1)
        axes.set_xscale("log")
        axes.set_xlabel("error / tolerance")
        axes.set_ylabel("comparisons")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))

    return draw_svg(draw)


def draw_loss_drift(comparisons: Sequence[Comparison]) -> str:
    """Draw how far the losses have drifted apart at every step, with the drift of the ensemble and the tolerance."""

    def draw(axes: Axes) -> None:
        curves = _curves(comparisons[0])
        steps = np.arange(len(curves.loss_tolerance))
        bottom = curves.ensemble_loss_drift.min() / 30
        axes.fill_between(
            steps, bottom, curves.ensemble_loss_drift, color="#e9e9e9", linewidth=0, label="ensemble (rounding alone)"
        )
        axes.plot(steps, curves.loss_tolerance, color="#cc0000", linewidth=1.2, label="tolerance")
        for comparison in comparisons:
            drift = _curves(comparison).loss_drift
            # Steps at which both losses are the same to the last bit have no place on a log axis.
            shown = np.where(drift > bottom, drift, np.nan)
            axes.plot(shown, ".", color=COLOURS[comparison.runner], markersize=2.2, label=comparison.runner)
        axes.set_yscale("log")
        axes.set_ylabel("relative drift of the loss")
        axes.set_xlabel("step")

    return draw_svg(draw)


def draw_predictions(comparisons: Sequence[Comparison]) -> str:
    """Draw the last held-out values and what each side predicts for them, one step ahead."""

    def draw(axes: Axes) -> None:
        first = _curves(comparisons[0])
        axes.plot(first.truth[-SHOWN_WINDOWS:, 0], ".", color="#222222", markersize=3, label="truth")
        sides = [(comparisons[0].reference, first.expected_predictions)]
        sides += [(comparison.runner, _curves(comparison).obtained_predictions) for comparison in comparisons]
        for runner, predictions in sides:
            wide = runner == comparisons[0].reference
            axes.plot(
                predictions[-SHOWN_WINDOWS:, 0],
                "-" if wide else DASHES[runner],
                label=runner,
                color="#bbbbbb" if wide else COLOURS[runner],
                linewidth=4 if wide else 1.2,
            )
        axes.set_ylabel("target")
        axes.set_xlabel("held-out window, the last of them")

    return draw_svg(draw)


def draw_accuracy_by_timestep(comparisons: Sequence[Comparison]) -> str:
    """Draw the accuracy at each timestep, both sides overlaid."""

    def draw(axes: Axes) -> None:
        reference = comparisons[0].reference
        for comparison in comparisons:
            assert comparison.classes is not None  # the report draws only those that have classes
            accuracy = comparison.classes.by_timestep
            if comparison is comparisons[0] and reference in accuracy:
                axes.plot(accuracy[reference], color="#bbbbbb", linewidth=4, label=reference)
            if comparison.runner in accuracy:
                axes.plot(
                    accuracy[comparison.runner],
                    DASHES[comparison.runner],
                    color=COLOURS[comparison.runner],
                    linewidth=1.2,
                    label=comparison.runner,
                )
        axes.set_ylim(0, 1.02)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylabel("accuracy")
        axes.set_xlabel("timestep")

    return draw_svg(draw)


def draw_confusion(counts: np.ndarray, labels: Sequence[str]) -> str:
    """Draw how often each class (row) was taken for each (column), shaded by its part of the row."""

    def draw(axes: Axes) -> None:
        parts = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        axes.imshow(parts, cmap="Blues", vmin=0, vmax=1)
        axes.grid(visible=False)
        locations = range(len(labels))
        turned = max(map(len, labels)) * len(labels) > CONFUSION_WIDTH
        # Text of the user's data is no formula, whatever dollar signs it has.
        texts = [repr(label)[1:-1].replace("$", r"\$") for label in labels]
        axes.set_xticks(locations, texts, rotation=90 if turned else 0)
        axes.set_yticks(locations, texts)
        axes.tick_params(length=0)
        axes.set_xlabel("taken for")
        axes.set_ylabel("is")
        size = 8 if len(labels) <= COUNTED_CLASSES else 5
        for row, column in np.argwhere(counts):
            colour = "white" if parts[row, column] > 0.6 else "#333333"
            axes.text(column, row, f"{counts[row, column]}", ha="center", va="center", color=colour, fontsize=size)

    return draw_svg(draw, legend=False)


def _curves(comparison: Comparison) -> Curves:
    assert comparison.curves is not None  # the report draws only those that have curves
    return comparison.curves


def draw_svg(draw: Callable[[Axes], None], legend: bool = True, size: tuple[float, float] = (4.6, 3.3)) -> str:
    """Return what a function draws as SVG text; the size in inches."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.add_subplot()
        draw(axes)
        if legend:
            axes.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0), markerscale=2)
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    content = text.getvalue()
    # matplotlib's metadata name pages of the web, which a self-contained file has no use for.
    return re.sub("<metadata>.*?</metadata>", "", content[content.index("<svg") :], flags=re.DOTALL)
