"""The pictures of the HTML report, as SVG text."""

import io
from collections.abc import Callable, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from compare.judge.verdict import Comparison, Curves

mpl.use("svg")

# Okabe and Ito's palette, told apart by people who see colours differently.
COLOURS = {"torch": "#444444", "keras-tensorflow": "#D55E00", "keras-torch": "#0072B2", "keras-jax": "#009E73"}
DASHES = {"torch": "-", "keras-tensorflow": "--", "keras-torch": "-.", "keras-jax": ":"}
SHOWN_WINDOWS = 120

STYLE = {
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
}


def draw_losses(comparisons: Sequence[Comparison]) -> str:
    """Draw the loss of both sides at every step, overlaid."""

    def draw(axes: Axes) -> None:
        first = _curves(comparisons[0])
        axes.plot(first.expected_losses, color="#bbbbbb", linewidth=4, label=f"{comparisons[0].reference} (native)")
        for comparison in comparisons:
            losses = _curves(comparison).obtained_losses
            axes.plot(losses, DASHES[comparison.runner], color=COLOURS[comparison.runner], linewidth=1, label=comparison.runner)
        axes.set_yscale("log")
        axes.set_ylabel("loss (MSE, scaled)")
        axes.set_xlabel("step")
        axes.legend(ncols=2)

    return _svg(draw)


def draw_loss_errors(comparisons: Sequence[Comparison]) -> str:
    """Draw how far the losses are apart at every step, with the envelope of the twins and what is allowed."""

    def draw(axes: Axes) -> None:
        curves = _curves(comparisons[0])
        steps = np.arange(len(curves.loss_allowed))
        bottom = curves.loss_envelope.min() / 30
        axes.fill_between(steps, bottom, curves.loss_envelope, color="#e9e9e9", linewidth=0, label="twins (rounding alone)")
        axes.plot(steps, curves.loss_allowed, color="#cc0000", linewidth=1.2, label="allowed")
        for comparison in comparisons:
            shown = np.maximum(_curves(comparison).loss_errors, bottom)
            axes.plot(shown, color=COLOURS[comparison.runner], linewidth=0.7, label=comparison.runner)
        axes.set_yscale("log")
        axes.set_ylabel("difference of the losses")
        axes.set_xlabel("step")
        axes.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))

    return _svg(draw)


def draw_predictions(comparisons: Sequence[Comparison]) -> str:
    """Draw the last held-out values and what each side predicts for them, one step ahead."""

    def draw(axes: Axes) -> None:
        first = _curves(comparisons[0])
        axes.plot(first.truth[-SHOWN_WINDOWS:, 0], ".", color="#aaaaaa", markersize=4, label="truth")
        sides = [(comparisons[0].reference, first.expected_predictions)]
        sides += [(comparison.runner, _curves(comparison).obtained_predictions) for comparison in comparisons]
        for runner, predictions in sides:
            shown = predictions[-SHOWN_WINDOWS:, 0]
            axes.plot(shown, DASHES[runner], color=COLOURS[runner], linewidth=1.2, label=runner)
        axes.set_ylabel("target, in its own units")
        axes.set_xlabel("held-out window (the last of them)")
        axes.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))

    return _svg(draw)


def _curves(comparison: Comparison) -> Curves:
    assert comparison.curves is not None  # the report draws only those that have curves
    return comparison.curves


def _svg(draw: Callable[[Axes], None]) -> str:
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.4, 3.1), layout="constrained")
        draw(figure.add_subplot())
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    content = text.getvalue()
    return content[content.index("<svg") :]
