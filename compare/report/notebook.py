"""What a result shows in a notebook: its table, and pictures that need no script."""

import io
from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from rich.console import Console

from compare.judge.verdict import Comparison, Curves
from compare.report.plots import COLOURS, draw_svg
from compare.report.wording import METRICS
from compare.tune.results import Outcome

# Cases whose pictures are shown; the page has all.
SHOWN_CASES = 4

WIDTH = 120


def as_html(say: Callable[[Console], None], pictures: Sequence[tuple[str, str]]) -> str:
    """Return what is printed as HTML, with pictures below it, each with its title."""
    # Within Jupyter, Rich would show each line in the cell at once.
    console = Console(file=io.StringIO(), record=True, width=WIDTH, highlight=False, force_jupyter=False)
    say(console)
    printed = console.export_html(inline_styles=True, code_format="<pre>{code}</pre>")
    style = "display:inline-block;margin:4px 12px 4px 0;background:#fff;color:#1c1c1c"
    drawn = "".join(
        f'<figure style="{style}"><figcaption>{title}</figcaption>{svg}</figure>' for title, svg in pictures
    )
    return printed + drawn


def curve_pictures(comparisons: Sequence[Comparison]) -> list[tuple[str, str]]:
    """Draw the losses of each case, and how far they drift apart beside the tolerance; nothing where there are none."""
    by_case: dict[str, list[tuple[Comparison, Curves]]] = {}
    for comparison in comparisons:
        if comparison.curves is not None:
            by_case.setdefault(comparison.case, []).append((comparison, comparison.curves))
    pictures = []
    for case, drawn in list(by_case.items())[:SHOWN_CASES]:
        pictures += [(f"{case}: loss", _losses(drawn)), (f"{case}: drift of the loss", _drift(drawn))]
    return pictures


def score_picture(outcome: Outcome) -> list[tuple[str, str]]:
    """Draw the scores of a search's trials; nothing where none has one."""
    scored = [(trial.number, trial.score, trial.state) for trial in outcome.trials if trial.score is not None]
    if not scored:
        return []

    def draw(axes: Axes) -> None:
        for state, marker in (("complete", "o"), ("pruned", "^")):
            places = [(number, score) for number, score, of_state in scored if of_state == state]
            if places:
                axes.plot(*np.array(places, np.float64).T, marker, label=state)
        axes.set_xlabel("trial")
        axes.set_ylabel(METRICS[outcome.search.metric])

    return [("Scores of the trials", draw_svg(draw))]


def _losses(drawn: Sequence[tuple[Comparison, Curves]]) -> str:
    def draw(axes: Axes) -> None:
        reference, curves = drawn[0]
        axes.plot(curves.expected_losses, color="#999999", linewidth=3, label=reference.reference)
        for comparison, own in drawn:
            axes.plot(own.obtained_losses, linewidth=1, color=COLOURS.get(comparison.runner), label=comparison.runner)
        axes.set_xlabel("step")
        axes.set_ylabel("loss")

    return draw_svg(draw)


def _drift(drawn: Sequence[tuple[Comparison, Curves]]) -> str:
    def draw(axes: Axes) -> None:
        for comparison, own in drawn:
            shown = np.where(own.loss_drift > 0, own.loss_drift, np.nan)
            axes.plot(shown, ".", markersize=3, color=COLOURS.get(comparison.runner), label=comparison.runner)
        axes.plot(drawn[0][1].loss_tolerance, color="#c62828", label="tolerance")
        axes.set_yscale("log")
        axes.set_xlabel("step")
        axes.set_ylabel("relative drift of the loss")

    return draw_svg(draw)
