"""How the cost of a verdict grows, on the console, in Markdown and as a picture."""

import io
from collections.abc import Mapping

import matplotlib as mpl
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from compare.bench.cost import ENSEMBLE, JUDGING, STOCK
from compare.bench.growth import BASE, DIMENSIONS, Growth
from compare.report.plots import COLOURS, STYLE

PART_COLOURS = {**COLOURS, STOCK: "#555555", ENSEMBLE: "#E69F00", JUDGING: "#56B4E9"}


def rows_of(growth: Growth) -> list[tuple[str, ...]]:
    """Give a row for each point, seconds by part, and one for the exponents of each dimension."""
    rows: list[tuple[str, ...]] = []
    for dimension in DIMENSIONS:
        for point in growth.of_dimension(dimension):
            judging = f"{point.seconds[JUDGING] / point.seconds[STOCK]:.1f}"
            seconds = (f"{point.seconds[part]:.3g}" for part in growth.parts)
            rows.append((dimension, str(point.value), *seconds, judging))
        if exponents := growth.exponents(dimension):
            rows.append((dimension, "exponent", *(f"{exponents[part]:.2f}" for part in growth.parts), ""))
    return rows


def headings(growth: Growth) -> tuple[str, ...]:
    """Name the columns."""
    return ("grows", "value", *growth.parts, "judging ÷ stock")


def print_growth(console: Console, growth: Growth) -> None:
    """Print seconds by part, and exponents."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings(growth):
        is_name = heading in ("grows", "value")
        table.add_column(heading, overflow="fold", no_wrap=is_name, justify="left" if is_name else "right")
    for row in rows_of(growth):
        table.add_row(*row)
    console.print(table)


def markdown(growth: Growth, environment: Mapping[str, str], picture: str) -> str:
    """Write the table with what it was measured on."""
    base = ", ".join(f"{name} {value}" for name, value in BASE.items())
    lines = [
        f"# How the cost of a verdict grows: {growth.cell}",
        "",
        "Repeat with `python -m compare bench CELL --growth --write FILE`, which writes picture and fit beside it.",
        "",
        f"- {', '.join(f'{name} {value}' for name, value in environment.items())}",
        f"- One dimension grows at a time, from {base}. Seconds of one process at a time, all imported and compiled:",
        f"  `{STOCK}` a plain PyTorch loop, a runner's name its recorded training with the single-step checks,",
        f"  `{ENSEMBLE}` four members and the repetition, `{JUDGING}` one comparison judged.",
        "- `exponent`: b of seconds ∝ value^b over the upper half of the values. A dimension ends with the first value",
        "  that takes longer than the budget.",
        "",
        f"![seconds by part]({picture})",
        "",
        "| " + " | ".join(headings(growth)) + " |",
        "|---" * len(headings(growth)) + "|",
        *("| " + " | ".join(row) + " |" for row in rows_of(growth)),
    ]
    return "\n".join(lines) + "\n"


def draw_growth(growth: Growth) -> str:
    """Draw for each dimension the seconds of each part, both axes logarithmic, as SVG text."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 6.4), layout="constrained")
        for axes, dimension in zip(figure.subplots(2, 2).flat, DIMENSIONS, strict=True):
            points = growth.of_dimension(dimension)
            axes.set_visible(bool(points))
            if not points:
                continue
            for part in growth.parts:
                seconds = [point.seconds[part] for point in points]
                axes.plot([p.value for p in points], seconds, marker="o", color=PART_COLOURS[part], label=part)
            drawn = axes
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.set_xlabel(dimension)
            axes.set_ylabel("seconds")
        figure.legend(*drawn.get_legend_handles_labels(), loc="outside lower center", ncols=len(growth.parts))
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()
