"""The shell completes commands, cases and backends, where argcomplete is installed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.paths import ROOT


@pytest.mark.parametrize(
    ("line", "expected", "absent"),
    [
        pytest.param("rnn-parity tu", {"tune "}, "sweep ", id="command"),
        pytest.param("rnn-parity run bidirectional_m", {"bidirectional_mul "}, "lstm", id="case"),
        pytest.param("rnn-parity run --backend t", {"tensorflow", "torch"}, "jax", id="backend"),
        pytest.param("rnn-parity sweep --on r", {"ray "}, "local", id="place"),
    ],
)
def test_a_word_is_completed(line: str, expected: set[str], absent: str, tmp_path: Path) -> None:
    """What argcomplete answers has the words that the command line takes there, and no others."""
    answer = tmp_path / "answer"
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(answer),
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
    }
    subprocess.run([sys.executable, "-m", "compare"], env=environment, cwd=tmp_path, check=True)
    words = set(answer.read_text().split("\n"))
    assert expected <= words
    assert absent not in {word.strip() for word in words}
