"""One recording that the tests of golden traces read, and interpreters other than this one."""

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from compare.golden.check import check_golden
from compare.golden.store import choose_golden
from compare.judge import Verdict
from compare.workers.pool import Pool

# What this project needs beside NumPy and safetensors, and a worker in another interpreter must not: an interpreter
# without these stands for any that has a framework alone. Keras itself needs rich.
NOT_NEEDED = ("pydantic", "pandas", "sklearn", "scikit_learn", "scipy", "matplotlib", "jinja2", "tomli_w", "_pytest")
OURS = ("rnn_parity", "__editable__")


@pytest.fixture
def golden(recorded: Path, tmp_path: Path) -> Path:
    """A copy of the recording, to be damaged."""
    shutil.copytree(recorded, tmp_path / "golden")
    return tmp_path / "golden"


@pytest.fixture
def check(pool: Pool, tmp_path: Path) -> Callable[[Path], Verdict]:
    """Train the recorded cases of a folder again and judge them."""

    def check(folder: Path) -> Verdict:
        (tmp_path / "out").mkdir()
        return check_golden(choose_golden(folder), tmp_path / "out", pool)

    return check


@pytest.fixture(scope="session")
def make_interpreter(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Make an interpreter with the frameworks installed here, without some packages; code may run at its start."""

    def make(without: tuple[str, ...], code: str = "") -> Path:
        folder = tmp_path_factory.mktemp("interpreter")
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        (packages,) = folder.glob("lib/python*/site-packages")
        torch = importlib.util.find_spec("torch")
        assert torch is not None
        for path in Path(torch.origin).parents[1].iterdir():
            if path.suffix != ".pth" and not path.name.lower().startswith((*without, *OURS)):
                (packages / path.name).symlink_to(path)
        (packages / "at_start.py").write_text(code, "utf-8")
        (packages / "at_start.pth").write_text("import at_start\n", "utf-8")
        return folder / "bin" / "python"

    return make


@pytest.fixture(scope="session")
def bare_interpreter(make_interpreter: Callable[..., Path]) -> Path:
    """An interpreter in which there is NumPy, safetensors and the frameworks, and nothing else that we need here."""
    return make_interpreter(NOT_NEEDED)
