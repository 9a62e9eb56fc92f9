"""The pictures of a sweep's page and of a bench's table, as SVG text."""

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

mpl.use("svg")

# Fonts that a machine lacks are named in the SVG all the same, for the reader's browser to find.
logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)

# Okabe and Ito's palette, told apart by people who see colours differently.
COLOURS = {"torch": "#CC79A7", "keras-tensorflow": "#D55E00", "keras-torch": "#0072B2", "keras-jax": "#009E73"}

# An error / tolerance is drawn no smaller than this.
SMALLEST_RATIO = 1e-3

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
