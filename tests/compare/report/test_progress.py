"""Progress: a table that has both losses where a terminal shows it, plain lines elsewhere."""

import io
from pathlib import Path

import pytest
from helpers.small_runs import tiny_case
from rich.console import Console

from compare.api import show_progress
from compare.report.progress import LiveTable, ProgressLines, shows_live
from compare.workers.tasks import Event, Member, Task


def task(runner: str, name: str = "", case: str = "lstm", member: Member | None = None) -> Task:
    """A training of a case."""
    folder = Path("out") / case
    return Task(runner, case, folder / "experiment", folder / (name or runner), member=member)


TORCH, KERAS = task("torch"), task("keras-torch")
MEMBER = task("torch", "member-float32-1", member=Member("float32", 1))


def shown(table: LiveTable) -> list[list[str]]:
    """The lines of the table as it is now, as words, without its heading."""
    table.console.print(table.table())
    text = table.console.file.getvalue()  # type: ignore[attr-defined]
    table.console.file.seek(0)
    table.console.file.truncate()
    assert max(map(len, text.splitlines())) <= 80
    return [line.split() for line in text.splitlines()[2:]]


@pytest.fixture
def table() -> LiveTable:
    """A table of three trainings of 20 epochs on a terminal of 80 columns and 10 lines."""
    return LiveTable(3, {"lstm": 20}, Console(file=io.StringIO(), width=80, height=10, highlight=False))


def test_both_losses_stand_side_by_side(table: LiveTable) -> None:
    """A Keras runner's line has its loss, that of the PyTorch side at the same epoch, and how far they are apart."""
    table(Event("started", TORCH))
    table(Event("progress", TORCH, epoch=4, loss=0.5))
    table(Event("progress", TORCH, epoch=9, loss=0.4))
    table(Event("started", KERAS))
    assert ["lstm", "keras-torch", "starting", "–", "–", "–"] in shown(table)
    table(Event("progress", KERAS, epoch=4, loss=0.55))
    (line,) = [line for line in shown(table) if line[1] == "keras-torch"]
    assert line[:6] == ["lstm", "keras-torch", "4/20", "0.5", "0.55", "1.0e-01"]
    assert line[-1] == "s", "an epoch has passed: the time that is left can be told"


def test_what_has_ended_is_counted(table: LiveTable) -> None:
    """A runner that has ended stays, a member of the ensemble does not; both are counted."""
    for event in (Event("started", MEMBER), Event("done", MEMBER), Event("started", KERAS), Event("done", KERAS)):
        table(event)
    lines = shown(table)
    assert [line[1] for line in lines[:-1]] == ["keras-torch"]
    assert lines[0][-1] == "done"
    assert lines[-1][:4] == ["2", "of", "3", "done"]
    table(Event("done", TORCH))
    assert shown(table)[-1][-1] == "judging"


def test_an_error_is_said_and_a_second_try_starts_anew(table: LiveTable) -> None:
    """What fails or is tried again is told with its error, above the table; the losses before are forgotten."""
    table(Event("progress", KERAS, epoch=3, loss=1.0))
    table(Event("retried", KERAS, error="it died"))
    assert "lstm keras-torch: it died" in table.console.file.getvalue()  # type: ignore[attr-defined]
    table(Event("started", KERAS))
    assert ["lstm", "keras-torch", "starting", "–", "–", "–"] in shown(table)
    table(Event("failed", KERAS, error="[bold]it broke"))
    assert "lstm keras-torch: [bold]it broke" in table.console.file.getvalue()  # type: ignore[attr-defined]


def test_the_table_fits_its_terminal() -> None:
    """Of more trainings than there are lines the first are shown, and names that are too long are cut."""
    name = "a_case_with_a_name_that_is_longer_than_any_terminal_is_wide_or_nearly_so_at_least"
    table = LiveTable(50, {name: 2}, Console(file=io.StringIO(), width=80, height=12, highlight=False))
    for number in range(40):
        table(Event("started", task("keras-tensorflow", f"keras-tensorflow-sample-{number}", name)))
    assert len(shown(table)) <= 12 - 4


@pytest.fixture
def terminals() -> dict[str, Console]:
    """Terminals of several kinds, and a file."""
    kinds = {"xterm": {"TERM": "xterm"}, "dumb": {"TERM": "dumb"}, "no-colour": {"TERM": "xterm", "NO_COLOR": "1"}}
    consoles = {n: Console(file=io.StringIO(), force_terminal=True, _environ=e) for n, e in kinds.items()}
    return consoles | {"file": Console(file=io.StringIO(), _environ={"TERM": "xterm"})}


def test_a_table_is_shown_where_it_can_change(terminals: dict[str, Console]) -> None:
    """A terminal that can move its cursor shows a table; one that cannot, and a file, get lines."""
    assert {name: shows_live(console) for name, console in terminals.items()} == {
        "xterm": True, "dumb": False, "no-colour": True, "file": False,
    }  # fmt: skip


def test_no_color_is_honoured(terminals: dict[str, Console]) -> None:
    """With NO_COLOR nothing is coloured; without it a verdict is."""
    for name, coloured in (("xterm", True), ("no-colour", False)):
        terminals[name].print("[red]differs[/]")
        assert ("31m" in terminals[name].file.getvalue()) is coloured  # type: ignore[attr-defined]


def test_lines_are_said_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Standard error of a test is no terminal: what ends is said in a line, and no control code is."""
    with show_progress(2, [tiny_case()]) as on_event:
        assert isinstance(on_event, ProgressLines)
        on_event(Event("done", TORCH))
        on_event(Event("failed", KERAS, error="it broke"))
    assert capsys.readouterr().err == "[1/2] lstm torch: done\n[2/2] lstm keras-torch: it broke\n"
