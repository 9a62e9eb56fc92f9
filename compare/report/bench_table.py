"""What a training step costs, on the console, in Markdown and as a picture."""

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from rich.console import Console
from rich.table import Table

from compare.bench.bench import Bench, Row
from compare.report.plots import COLOURS, draw_svg

HEADINGS = ("cell", "runner", "engine", "ms a step", "÷ stock", "first step", "memory", "arithmetic", "kernel")


def cells_of(row: Row) -> tuple[str, ...]:
    """Say a row's figures, in the order of the headings."""
    middle, least, most = row.ms_per_step
    return (
        row.cell if row.case == row.cell else f"{row.cell} ({row.case})",
        row.runner,
        row.engine,
        f"{middle:.2f} ({least:.2f}–{most:.2f})",
        f"{row.ratio:.2f}",
        f"{row.first_step_s:.2f} s",
        f"{row.peak_memory_mib:.0f} MiB",
        "–" if row.arithmetic is None else f"{row.arithmetic:.1%}",
        row.kernel,
    )


def print_bench(console: Console, bench: Bench) -> None:
    """Print a line for each way of training; what does not fit a narrow terminal is left to `--write`."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    shown = HEADINGS[:6] if console.width < 120 else HEADINGS
    for heading in shown:
        table.add_column(heading, overflow="fold")
    for row in bench.rows:
        table.add_row(*cells_of(row)[: len(shown)])
    console.print(table)
    for note in bench.notes:
        console.print(note, markup=False, soft_wrap=True)


def markdown(bench: Bench, environment: Mapping[str, str], picture: str) -> str:
    """Write the table with what it was measured on."""
    lines = [
        "# What a training step costs",
        "",
        "Repeat with `python -m compare bench --write FILE`; the picture is written beside the file.",
        "",
        f"- {', '.join(f'{name} {value}' for name, value in environment.items())}",
        f"- {bench.rounds} rounds of {bench.steps_in_a_round} steps each, the ways of one runner in turn; milliseconds "
        "a step are the median round (least–most), `÷ stock` is the median of the ratios round by round",
        "- `stock` is `model.fit` with nothing recorded for Keras and a loop written by hand for torch; all others "
        "record the loss and all norms of gradients and updates at every step, or the losses alone",
        "- first step: from building the model to the end of the first step, the framework being imported; memory: the "
        "largest that the process was",
        f"- arithmetic: the share of the step that its matrix products would take at the "
        f"{bench.operations_per_second / 1e9:.0f} GFLOP/s that a product of 1024 × 1024 matrices reaches here",
        *(f"- {note}" for note in bench.notes),
        *(f"- {of}: failed, not measured" for of, _ in bench.failures),
        "",
        f"![milliseconds a step, by cell and runner]({picture})",
        "",
        "| " + " | ".join(HEADINGS) + " |",
        "|---" * len(HEADINGS) + "|",
        *("| " + " | ".join(cells_of(row)) + " |" for row in bench.rows),
    ]
    return "\n".join(lines) + "\n"


def draw_bench(bench: Bench) -> str:
    """Draw a bar for each way of training, the stock loops hatched."""
    rows = bench.rows

    def draw(axes: Axes) -> None:
        for location, row in enumerate(rows):
            middle, least, most = row.ms_per_step
            style: dict[str, Any] = {"fill": False, "hatch": "////"} if row.engine == "stock" else {}
            axes.barh(location, middle, color=COLOURS[row.runner], edgecolor=COLOURS[row.runner], **style)
            axes.plot([least, most], [location, location], color="#333333", linewidth=1)
        axes.set_yticks(range(len(rows)), [f"{row.case}, {row.runner}, {row.engine}" for row in rows])
        axes.margins(y=0.01)
        axes.invert_yaxis()
        axes.set_axisbelow(True)
        axes.set_xlabel("milliseconds a step: median, least to most")

    return draw_svg(draw, legend=False, size=(8, 1 + 0.2 * len(rows)))
