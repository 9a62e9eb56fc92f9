"""Progress on standard error: a table that changes where that is a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from compare.report.wording import figure, four_digits
from compare.workers.backends import REFERENCE_RUNNER
from compare.workers.tasks import Event, Task

LINE_SECONDS = 5.0

# Lines of a terminal that the table leaves to its heading, its last line and the prompt.
LEFT_LINES = 5


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


@dataclass
class Training:
    """One training as it goes: its epoch, its losses by epoch, when it began, and how it ended."""

    task: Task
    began: float
    epoch: int = 0
    losses: dict[int, float] = field(default_factory=dict)
    end: Literal["", "done", "failed"] = ""

    @property
    def seconds_per_epoch(self) -> float:
        """How long an epoch took, on average."""
        return (time.monotonic() - self.began) / self.epoch


class LiveTable:
    """Progress as a table: a line for each training, a Keras runner's loss beside the PyTorch side's.

    Lines of what is under way come first; of what has ended, those of the runners alone are shown, the last ones first.
    """

    def __init__(self, tasks: int, epochs: Mapping[str, int], console: Console | None = None) -> None:
        self.tasks, self.epochs = tasks, epochs
        self.trainings: dict[Path, Training] = {}
        self.began = time.monotonic()
        self.console = console or Console(stderr=True, highlight=False)
        self.live = Live(console=self.console, get_renderable=self.table, transient=True, refresh_per_second=4)

    def __enter__(self) -> "LiveTable":
        self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.live.stop()

    def __call__(self, event: Event) -> None:
        """Take in what happened to a training."""
        if event.kind in ("retried", "failed"):
            self.console.print(f"{_label(event.task)}: {event.error}", markup=False, soft_wrap=True)
        if event.kind == "retried":
            self.trainings.pop(event.task.out, None)
            return
        training = self.trainings.setdefault(event.task.out, Training(event.task, time.monotonic()))
        if event.kind == "progress":
            training.epoch = event.epoch
            if event.loss is not None:
                training.losses[event.epoch] = event.loss
        elif event.kind != "started":
            training.end = event.kind

    def table(self) -> Table:
        """The table as it is now: as many trainings as there is room for, and a last line for them all."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in ("case", "runner"):
            table.add_column(name, no_wrap=True, overflow="ellipsis")
        for name in ("epoch", "torch\nloss", "own\nloss", "difference", "left"):
            table.add_column(name, justify="right", no_wrap=True, vertical="bottom")
        ended = [training for training in self.trainings.values() if training.end]
        under_way = [training for training in self.trainings.values() if not training.end]
        runners = [training for training in reversed(ended) if training.task.member is None]
        for training in [*under_way, *runners][: max(1, self.console.height - LEFT_LINES)]:
            table.add_row(Text(training.task.case), Text(training.task.out.name), *self._figures(training))
        table.add_row(f"[bold]{len(ended)} of {self.tasks} done[/]", *[""] * 5, self._time_left(len(ended)))
        return table

    def _figures(self, training: Training) -> Sequence[str]:
        total = self.epochs[training.task.case]
        epoch, own, expected, difference = training.epoch, training.losses.get(training.epoch), None, None
        beside = self._reference(training.task)
        both = training.losses.keys() & (beside.losses.keys() if beside is not None else set())
        if beside is not None and both:
            epoch = max(both)
            own, expected = training.losses[epoch], beside.losses[epoch]
            difference = abs(own - expected) / max(abs(expected), sys.float_info.min)
        left = training.end or (
            _seconds(training.seconds_per_epoch * (total - training.epoch)) if training.epoch else ""
        )
        trained = f"{epoch}/{total}" if epoch else "starting"
        return trained, four_digits(expected), four_digits(own), figure(difference), left

    def _reference(self, task: Task) -> Training | None:
        """The PyTorch side's training of the same case, in the same folder; None beside its own and the ensemble's."""
        if task.runner == REFERENCE_RUNNER:
            return None
        return self.trainings.get(task.out.with_name(task.out.name.replace(task.runner, REFERENCE_RUNNER, 1)))

    def _time_left(self, ended: int) -> str:
        if ended == self.tasks:
            return "judging"
        if not ended:
            return ""
        return _seconds((time.monotonic() - self.began) / ended * (self.tasks - ended))


def shows_live(console: Console) -> bool:
    """Whether a table can change in place there."""
    return console.is_terminal and not console.is_dumb_terminal


def _seconds(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def _label(task: Task) -> str:
    return f"{task.case} {task.out.name}"
