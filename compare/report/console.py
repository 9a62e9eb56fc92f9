"""The console: a table and a conclusion on standard output, progress on standard error."""

import sys
import time
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table

from compare.config.case import Case
from compare.judge.verdict import Comparison, FoldSummary, Verdict
from compare.known.differences import known_differences
from compare.report.wording import (
    METRICS,
    conclusion,
    explain,
    explain_cause,
    figure,
    mean_and_spread,
    status,
    tolerance_ratio,
)
from compare.workers.tasks import Event, Task

LINE_SECONDS = 5.0

# Wider than any table: what it would take if it had the room.
WIDEST = 1000

# What is shown of each fold's metrics on a console's width; the HTML report has all of them.
METRICS_OF_FOLDS = ("mse", "r2", "accuracy", "perplexity")

COLOURS = {"agrees": "green", "differs": "red", "failed": "yellow", "undecidable": "magenta", "defect": "blue"}


def print_known_differences(console: Console, cases: Sequence[Case]) -> None:
    """Say which known differences were matched, one line each."""
    lines = {line: None for case in cases for line in known_differences(case)}
    for name, message, matched in lines:
        state = "[green]matched[/]" if matched else "[yellow]as it is[/]"
        console.print(f"{state}  [bold]{name}[/]  {escape(message)}", soft_wrap=True)


def print_verdict(console: Console, verdict: Verdict) -> None:
    """Print the table of comparisons, what is to be said of each, and the conclusion."""
    print_comparisons(console, verdict)
    console.print(f"\n[bold]{escape(conclusion(verdict))}[/]", soft_wrap=True)


def print_comparisons(console: Console, verdict: Verdict) -> None:
    """Print the table of comparisons and what is to be said of each."""
    table = _table(verdict, grouped=False)
    if Measurement.get(console, console.options.update(max_width=WIDEST), table).maximum > console.width:
        table = _table(verdict, grouped=True)
    console.print(table)
    for comparison in verdict.comparisons:
        lines = list(comparison.notes)
        if comparison.status != "agrees":
            lines.insert(0, explain(comparison))
        lines += map(explain_cause, comparison.causes)
        if comparison.log and not comparison.causes:
            lines.append(f"last lines of its log:\n{comparison.log}")
        for line in lines:
            console.print(f"{comparison.case} on {comparison.runner}: {line}", markup=False, soft_wrap=True)
    for note in dict.fromkeys(note for comparison in verdict.comparisons for note in comparison.data_notes):
        names = dict.fromkeys(c.case for c in verdict.comparisons if note in c.data_notes)
        console.print(f"{', '.join(names)}: {note}", markup=False, soft_wrap=True)
    if verdict.folds:
        console.print()
        _print_folds(console, verdict.folds)


def _table(verdict: Verdict, grouped: bool) -> Table:
    """Make the table of comparisons; grouped, each case has a line of its own and its runners stand below it."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("case", "verdict") if grouped else ("case", "runner", "verdict"):
        table.add_column(name, no_wrap=True, vertical="bottom")
    # Which metric stands for a comparison, where some have one and some the other.
    shown = [name for name in ("mse", "accuracy") if any(name in _metrics(c) for c in verdict.comparisons)] or ["mse"]
    # A heading of two lines, or the table of a whole suite is wider than 80 columns.
    for name in ("steps", "loss", "error /\ntolerance", *shown):
        table.add_column(name, justify="right", no_wrap=True, vertical="bottom")
    named = None
    for comparison in verdict.comparisons:
        name = comparison.case if comparison.dtype == "float32" else f"{comparison.case} {comparison.dtype}"
        if grouped and name != named:
            table.add_row(name)
            named = name
        table.add_row(
            *([f"  {comparison.runner}"] if grouped else [name, comparison.runner]),
            f"[{COLOURS[status(comparison)]}]{status(comparison)}[/]",
            str(comparison.steps),
            figure(comparison.max_relative_loss_difference),
            tolerance_ratio(comparison),
            *(_metric(comparison, name) for name in shown),
        )
    return table


def _metrics(comparison: Comparison) -> Mapping[str, float | None]:
    return comparison.metrics.get(comparison.runner, {})


def _metric(comparison: Comparison, name: str) -> str:
    value = _metrics(comparison).get(name)
    return f"{value:.1%}" if name == "accuracy" and value is not None else figure(value)


def _print_folds(console: Console, folds: Sequence[FoldSummary]) -> None:
    """Print each side's metrics over the folds, mean and standard deviation."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("cross-validation", "folds", "side"):
        table.add_column(name, no_wrap=True)
    metrics = [name for name in METRICS_OF_FOLDS if any(name in summary.metrics for summary in folds)]
    for metric in metrics:
        table.add_column(METRICS[metric], justify="right", no_wrap=True)
    for summary in folds:
        figures = [mean_and_spread(summary.metrics.get(metric)) for metric in metrics]
        table.add_row(summary.case, str(summary.folds), summary.side, *figures)
    console.print(table)


class ProgressLines:
    """Progress as plain lines, where standard error is no terminal."""

    def __init__(self, tasks: int) -> None:
        self.tasks = tasks
        self.ended = 0
        self.last = time.monotonic()

    def __enter__(self) -> "ProgressLines":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __call__(self, event: Event) -> None:
        """Say what ended, and now and then how far a training is."""
        if event.kind in ("done", "failed"):
            self.ended += 1
            self._say(f"[{self.ended}/{self.tasks}] {_label(event.task)}: {event.error or 'done'}")
        elif event.kind == "retried":
            self._say(f"{_label(event.task)}: {event.error}")
        elif event.kind == "progress" and time.monotonic() - self.last > LINE_SECONDS:
            self._say(f"{_label(event.task)}: epoch {event.epoch}, loss {event.loss:.4g}")

    def _say(self, line: str) -> None:
        self.last = time.monotonic()
        print(line, file=sys.stderr, flush=True)


class ProgressBars:
    """Progress as bars: one for the whole run and one for each training under way."""

    def __init__(self, tasks: int, epochs: dict[str, int]) -> None:
        self.epochs = epochs
        self.bars: dict[Task, TaskID] = {}
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TextColumn("{task.fields[loss]}"),
            console=Console(stderr=True),
            transient=True,
        )
        self.whole = self.progress.add_task("[bold]trainings[/]", total=tasks, loss="")

    def __enter__(self) -> "ProgressBars":
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def __call__(self, event: Event) -> None:
        """Move the bar of the training that the event is about."""
        if event.kind == "started":
            total = self.epochs[event.task.case]
            self.bars[event.task] = self.progress.add_task(_label(event.task), total=total, loss="starting")
        elif event.kind == "progress":
            self.progress.update(self.bars[event.task], completed=event.epoch, loss=f"loss {event.loss:.4g}")
        elif event.kind == "retried":
            self.progress.console.print(f"{_label(event.task)}: {event.error}", markup=False)
        else:
            self.progress.advance(self.whole)
            if event.task in self.bars:
                self.progress.remove_task(self.bars.pop(event.task))


def _label(task: Task) -> str:
    return f"{task.case} {task.out.name}"
