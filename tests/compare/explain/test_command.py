"""The command: a page, JSON alone on standard output, a report on disk, and exit codes."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.pairs import pair_text, write_pair
from helpers.paths import ROOT


@pytest.fixture(scope="module")
def explained(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    """The command run as a user runs it, on a pair with one mistake."""
    folder = tmp_path_factory.mktemp("explained")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "KERAS_BACKEND": "torch"}
    done = subprocess.run(
        [sys.executable, "-m", "compare", "explain", str(write_pair("two_biases", folder)), "--json", "--out", "out"],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done, folder / "out"


def test_json_is_one_comparison(explained: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    """Standard output is one comparison, with the cause, its proof and its fix; the exit code is 1."""
    done, _ = explained
    assert done.returncode == 1, done.stderr
    entry = json.loads(done.stdout)
    assert (entry["case"], entry["runner"], entry["status"], entry["agree"]) == (
        "two_biases",
        "keras-torch",
        "differs",
        False,
    )
    first = entry["first_difference"]
    assert (first["step"], first["phase"], first["layer"]) == (0, "update", "lstm")
    assert "The gradients agree" in first["message"]
    assert "2.00 times as far" in first["message"]
    (cause,) = entry["causes"]
    assert (cause["name"], cause["confirmed"]) == ("two-biases", True)
    assert cause["fix"] == "module.lstm.bias_hh_l0.requires_grad_(False)"
    assert cause["error_before"] > 0.9
    assert cause["error_after"] < 1e-5


def test_report_is_written(explained: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    """The verdict and the page are on disk, the page with the place, the cause and its fix."""
    done, out = explained
    assert json.loads((out / "verdict.json").read_text("utf-8"))["comparisons"] == [json.loads(done.stdout)]
    page = (out / "report.html").read_text("utf-8")
    for text in ("two-biases", "module.lstm.bias_hh_l0.requires_grad_(False)", "2.00 times as far"):
        assert text in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.py"], "nowhere.py cannot be read"),
        (["{pair}", "--backend", "theano"], "backend 'theano' is unknown"),
        (["{pair}", "--out", "/dev/null/out"], "cannot be written"),
        (["{pair}", "--timeout", "0"], "--timeout 0 must be more than 0"),
        ([], "the following arguments are required: PAIR.py"),
    ],
    ids=["missing-file", "backend", "out", "timeout", "nothing"],
)
def test_bad_usage_is_refused(refused: Callable[..., str], tmp_path: Path, arguments: list[str], message: str) -> None:
    """Bad usage ends with exit code 2, one line, and nothing written."""
    pair = str(write_pair("two_biases", tmp_path))
    assert message in refused("explain", *(argument.replace("{pair}", pair) for argument in arguments))


def test_a_bad_pair_leaves_nothing_behind(command: Callable[..., Any], tmp_path: Path) -> None:
    """A mistake that shows only when the file runs ends with its line, exit code 2 and no folder."""
    text = pair_text("two_biases").replace("batch_size = 16", "batch_size = -16")
    (tmp_path / "bad.py").write_text(text, "utf-8")
    code, output, errors = command("explain", tmp_path / "bad.py", "--backend", "torch")
    assert (code, output) == (2, "")
    assert "bad.py:5: batch_size = -16; it must be a whole number of at least 1" in errors
    assert errors.count("\n") == 1
    assert list(Path.cwd().iterdir()) == []
