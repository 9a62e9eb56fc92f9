"""A side in another interpreter, where only NumPy, safetensors and the framework are needed."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.small_runs import TINY

from compare.storage import read_json

SETTINGS = [part for field, value in TINY.items() for part in ("--set", f"{field}={value}")]

# As another version of Keras might: its loss is a little larger.
CHANGED = """
import os
if "KERAS_BACKEND" in os.environ:
    import keras
    unchanged = keras.losses.MeanSquaredError.call
    keras.losses.MeanSquaredError.call = lambda self, *arguments: 1.001 * unchanged(self, *arguments)
    keras.__version__ = "9.9.9"
"""


def test_a_bare_interpreter_is_bare(bare_interpreter: Path) -> None:
    """The interpreter of these tests lacks what it is meant to lack."""
    for package in ("pydantic", "pandas", "sklearn", "scipy", "matplotlib", "jinja2"):
        done = subprocess.run([bare_interpreter, "-c", f"import {package}"], capture_output=True, text=True)
        assert f"No module named '{package}'" in done.stderr


@pytest.mark.slow
def test_both_sides_work_in_a_bare_interpreter(command: Callable, bare_interpreter: Path) -> None:
    """A case is trained on both sides and recorded by an interpreter with the frameworks alone."""
    sides = ("--python", f"torch={bare_interpreter}", "--python", f"keras-torch={bare_interpreter}")
    code, output, errors = command("record", "lstm", "--golden", "golden", "--backend", "torch", *SETTINGS, *sides)
    assert code == 0, errors
    assert "The comparison agrees" in output


@pytest.mark.slow
def test_an_upgrade_that_changes_training_is_found(
    command: Callable, recorded: Path, make_interpreter: Callable
) -> None:
    """Keras in another interpreter computes a loss otherwise: that side differs, at its first loss."""
    changed = make_interpreter((), CHANGED)
    code, output, _ = command("check", "--golden", recorded, "--out", "out", "--python", f"keras-torch={changed}")
    assert code == 1
    torch, keras = read_json(Path("out/verdict.json"))["comparisons"]
    assert torch["agree"]
    assert keras["status"] == "differs"
    first = keras["first_difference"]
    assert (first["step"], first["phase"], first["off_side"]) == (0, "loss", "keras-torch")
    assert any("now it is keras 9.9.9" in note for note in keras["notes"])
    assert "lstm on keras-torch: first at step 0, loss" in output
