"""The summary of a run for a pull request, and its curves for TensorBoard."""

import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.small_runs import Run
from hypothesis import given
from hypothesis import strategies as st

from compare.judge import Comparison, Difference, Verdict
from compare.judge.verdict import Cause
from compare.report.summary import write_summary
from compare.report.tensorboard import crc32c, write_tensorboard

AGREES = Comparison("lstm", "keras-jax", "torch", "float32", "agrees", steps=18, metrics={"keras-jax": {"mse": 0.5}})
FIRST = Difference("beyond-rounding", 7, "gradient", "further apart", "head/kernel", 2e-3, 1e-6)
CAUSE = Cause("two-biases", True, "both biases are trained", "x = `y` | z")
DIFFERS = Comparison("gru", "keras-torch", "torch", "float32", "differs", differences=[FIRST], causes=[CAUSE])


def summary_of(verdict: Verdict, folder: Path) -> str:
    """Write a summary and read it."""
    write_summary(verdict, {"Python": "3.11"}, folder / "summary.md")
    return (folder / "summary.md").read_bytes().decode()


def test_the_summary_has_each_comparison_and_each_cause(tmp_path: Path) -> None:
    """The conclusion is the heading, each comparison a row; what differs has its location, causes and fixes."""
    text = summary_of(Verdict([AGREES, DIFFERS]), tmp_path)
    assert text.startswith("### rnn-parity: 1 of 2 differs: gru on keras-torch.\n")
    assert "| lstm | keras-jax | ✓ agrees | 18 | – | – | 5.0e-01 |" in text
    assert "| gru | keras-torch | ✗ differs |" in text
    assert "step 7, gradient, head/kernel" in text
    assert "- two-biases (confirmed): both biases are trained" in text
    assert "```\nx = `y` | z\n```" in text
    assert "Python: 3.11" in text


@given(text=st.text(st.characters(codec="utf-8"), max_size=80))
def test_nothing_breaks_the_table(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever a framework says, rows stay rows, and no markup of its own is in the summary."""
    failed = replace(
        AGREES, case="own", status="failed", error=f"| <script> {text}", causes=[replace(CAUSE, fix=f"```{text}")]
    )
    page = summary_of(Verdict([failed]), tmp_path_factory.mktemp("summary"))
    table = [line for line in page.split("\n") if line.startswith("| ")]
    assert len(table) == 3
    assert {line.replace("\\|", "").count("|") for line in table} == {table[1].count("|")}
    assert "<script>" not in page
    assert f"````\n```{text}\n````" in page or "````" in text


def test_bad_targets_are_refused(refused: Callable) -> None:
    """A summary in a folder that is not there is refused before anything is trained."""
    assert "--summary none/summary.md cannot be written" in refused("run", "lstm", "--summary", "none/summary.md")


def test_a_folder_with_something_in_it_is_refused(refused: Callable) -> None:
    """Curves are not written beside those of another run."""
    Path("board").mkdir()
    Path("board/note.txt").touch()
    assert "--tensorboard board is not empty" in refused("run", "lstm", "--tensorboard", "board")


def test_the_checksum_is_that_of_its_standard() -> None:
    """CRC-32C has a published value for these digits (RFC 3720, and every catalogue of such sums)."""
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(b"") == 0


def test_the_curves_are_written_for_tensorboard(clean_run: Run, tmp_path: Path) -> None:
    """Each side of a comparison has a TensorBoard run; its events hold every step's loss and the metrics."""
    comparison = clean_run.comparison("lstm", "keras-torch")
    write_tensorboard(Verdict([comparison]), tmp_path)
    assert comparison.curves is not None
    (torch,), (keras,) = (list((tmp_path / "lstm" / side).iterdir()) for side in ("torch", "keras-torch"))
    assert scalars(torch)["loss"] == pytest.approx(dict(enumerate(comparison.curves.expected_losses)), rel=1e-6)
    assert scalars(keras)["loss"] == pytest.approx(dict(enumerate(comparison.curves.obtained_losses)), rel=1e-6)
    assert scalars(torch)["test/mse"] == pytest.approx({0: comparison.metrics["torch"]["mse"]}, rel=1e-6)


def scalars(file: Path) -> dict[str, dict[int, float]]:
    """Read a file of events by their bytes, as `event.proto` has them: figures by tag and step."""
    content, place = file.read_bytes(), 0
    figures: dict[str, dict[int, float]] = {}
    while place < len(content):
        length = int.from_bytes(content[place : place + 8], "little")
        event = content[place + 12 + 9 : place + 12 + length]  # without the time
        if event[0] == 2 << 3:
            step, rest = event[1], event[2:]  # steps below 128 are one byte
            assert rest[0] == 5 << 3 | 2
            name = rest[6 : 6 + rest[5]].decode()
            figures.setdefault(name, {})[step] = struct.unpack("<f", rest[-4:])[0]
        place += length + 16
    return figures
