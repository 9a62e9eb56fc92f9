"""What no cause explains is reported with its location and a script that repeats the step without this project."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.pairs import pair_text
from safetensors.numpy import load_file

from compare.explain.entry import explain_with
from compare.explain.pair_file import read_pair
from compare.explain.processes import Sides

PAIR = pair_text("correct_lstm")

HEAD = "self.fc(self.lstm(x)[0][:, -1])"
assert HEAD in PAIR

OWN_STEP = """

def torch_step(module, loss, optimizer, x, y):
    optimizer.zero_grad()
    (loss(module(x), y) + 0.1 * module.fc.weight.exp().sum()).backward()
    optimizer.step()
"""


@pytest.fixture(scope="module")
def folder(sides: Sides, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bug report of a head that is bent by a function, and of a step with a penalty, that are in no list."""
    out = tmp_path_factory.mktemp("unnamed")
    (out / "bent.py").write_text(PAIR.replace(HEAD, f"torch.sin(2 * {HEAD})") + OWN_STEP, "utf-8")
    comparison = explain_with(sides, read_pair(str(out / "bent.py")), out)
    assert comparison.status == "differs"
    assert comparison.unexplained
    assert all(not cause.confirmed for cause in comparison.causes)
    return out / "bug-report"


def test_the_script_is_short_and_stands_alone(folder: Path) -> None:
    """The script has under 40 lines and imports nothing of this project."""
    source = (folder / "reproduce.py").read_text("utf-8")
    assert len(source.splitlines()) < 40
    nodes = list(ast.walk(ast.parse(source)))
    imported = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    assert imported == {"runpy", "sys", "numpy", "torch", "safetensors.numpy"}


@pytest.mark.slow
def test_the_script_repeats_the_step(folder: Path) -> None:
    """Each side's loss comes out as it was recorded, and the two differ."""
    held = load_file(folder / "step.safetensors")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    losses = {}
    for side in ("torch", "keras"):
        done = subprocess.run(
            [sys.executable, "reproduce.py", side],
            cwd=folder, env={**environment, "KERAS_BACKEND": "torch"}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        (line,) = [line for line in done.stdout.splitlines() if line.startswith("loss")]
        losses[side] = float(line.split()[1])
        assert losses[side] == pytest.approx(float(held[f"differing/{side}"]), rel=1e-5)
    assert abs(losses["torch"] - losses["keras"]) > 1e-3
