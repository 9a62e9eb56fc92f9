"""The pages build, and what they tell to type does what they say."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.pairs import CAUSES, pair_text
from helpers.paths import ROOT

from compare.cli.main import _parse
from compare.config.case import load_case

PAGES = sorted((ROOT / "docs").glob("*.md"))
README = ROOT / "README.md"
FENCE = re.compile(r"^( *)```(\w+)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
# What a command ends with where it is no agreement: the example has a mistake.
ENDS = {"explain": 1}


def fences(page: Path, language: str) -> list[str]:
    """The blocks of a page in a language."""
    found = FENCE.finditer(page.read_text("utf-8"))
    return [re.sub(rf"^{match[1]}", "", match[3], flags=re.MULTILINE) for match in found if match[2] == language]


def commands(page: Path) -> list[str]:
    """What a page tells to type at a prompt, without the installation."""
    lines = [line for block in fences(page, "console") for line in block.splitlines() if line.startswith("$ ")]
    return [line[2:] for line in lines if "pip install" not in line]


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a folder that has the examples."""
    if not (folder / "examples").exists():
        (folder / "examples").symlink_to(ROOT / "examples")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True)


COMMANDS = {f"{page.stem}-{number}": line for page in PAGES for number, line in enumerate(commands(page))}


def test_the_pages_build_without_a_warning(tmp_path: Path) -> None:
    """Every link leads somewhere, every page is in the table of contents, the table of known differences is made."""
    built = run(tmp_path, "-m", "sphinx", "-q", "-W", str(ROOT / "docs"), str(tmp_path / "html"))
    assert built.returncode == 0, built.stderr
    porting = (tmp_path / "html" / "porting.html").read_text("utf-8")
    assert "two-biases" in porting
    assert "Freeze one of them at zero" in porting


@pytest.mark.parametrize("line", COMMANDS.values(), ids=COMMANDS)
def test_every_command_is_one(line: str) -> None:
    """What the pages tell to type is accepted by the command line."""
    words = shlex.split(line)
    assert words[:3] == ["python", "-m", "compare"]
    assert callable(_parse(words[3:]).command)


def test_every_command_of_the_readme_is_one() -> None:
    """So are the commands of the README."""
    typed = [line.strip() for line in README.read_text("utf-8").splitlines() if "python -m compare" in line]
    lines = [line.partition("  #")[0] for line in typed if re.match(r"(\w+=\w+ )?python -m compare", line)]
    assert len(lines) > 5
    for line in lines:
        words = [word for word in shlex.split(line) if not word.startswith("KERAS_BACKEND=")]
        assert callable(_parse(words[3:]).command), line


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_ends_as_it_should(page: Path, tmp_path: Path) -> None:
    """What a page tells to type is run, in its order and in one folder."""
    for line in commands(page):
        words = shlex.split(line)[1:]
        done = run(tmp_path, *words)
        assert done.returncode == ENDS.get(words[2], 0), done.stderr[-2000:]
        assert done.stdout or words[2] == "record"


@pytest.mark.slow
def test_the_snippets_of_regression_tests_run(tmp_path: Path) -> None:
    """The tests for pytest run, and fail on the example's mistake alone; the program prints what it says."""
    in_pytest, program = fences(ROOT / "docs" / "regression-tests.md", "python")
    (tmp_path / "test_training.py").write_text(in_pytest, "utf-8")
    assert run(tmp_path, *shlex.split(commands(ROOT / "docs" / "regression-tests.md")[0])[1:]).returncode == 0
    tests = run(tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_training.py")
    assert "1 failed, 2 passed" in tests.stdout
    assert "axis-order" in tests.stdout
    printed = run(tmp_path, "-c", program).stdout.splitlines()
    assert printed[0].startswith("True None")
    assert printed[-1] == "False ['axis-order']"


def test_the_case_of_extending_is_a_case(tmp_path: Path) -> None:
    """The case that is shown can be read."""
    (shown,) = fences(ROOT / "docs" / "extending.md", "toml")
    (tmp_path / "prices.toml").write_text(shown, "utf-8")
    (tmp_path / "prices.csv").write_text("close\n" + "".join(f"{day % 7}.5\n" for day in range(400)), "utf-8")
    assert load_case(str(tmp_path / "prices.toml")).model.units == 64


def test_the_pair_of_explain_is_python() -> None:
    """The pair file that is shown compiles and has the names that `explain` looks for."""
    (shown,) = fences(ROOT / "docs" / "explain.md", "python")
    names: dict[str, object] = {}
    exec(compile(shown, "pair.py", "exec"), names)  # noqa: S102 - the page's own text
    assert {"data", "keras_side", "torch_side", "batch_size"} <= names.keys()


def test_the_ten_answers_are_of_the_catalogue() -> None:
    """Each section shows a pair file as it is, and confirms the causes that are in it."""
    page = (ROOT / "docs" / "answers.md").read_text("utf-8")
    sections = re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    assert len(sections) == 10
    for name, section in sections:
        text = pair_text(name)
        assert text[text.index("def torch_side") :].rstrip() in section
        assert re.findall(r"^([\w-]+) \(confirmed", section, re.MULTILINE) == CAUSES[name]
