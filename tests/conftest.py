"""What the tests share: processes that hold a framework each, and one clean run whose traces many tests read."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from helpers.framework_processes import FrameworkProcesses
from helpers.small_runs import BACKENDS, CELLS, Run, run_cases_in, tiny_case
from hypothesis import settings

from compare.cli.main import main
from compare.golden.record import record_golden
from compare.run.plan import prepare
from compare.workers.pool import Pool

ROOT = Path(__file__).parent.parent
FRAMEWORKS = {"tensorflow", "torch", "keras", "jax"}

# The same examples on every day and machine, and no complaint where a machine is slow.
settings.register_profile("rnn-parity", deadline=None, derandomize=True)
settings.load_profile("rnn-parity")


# What holds processes for a whole session: under pytest-xdist each is held by one process of the tests alone.
SHARED = ("frameworks", "pool", "sides", "finished_sweep")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep together, with `--dist loadgroup`, the modules that share processes, and the tests of every other module."""
    used: dict[Path, set[str]] = {}
    for item in items:
        used.setdefault(item.path, set()).update(getattr(item, "fixturenames", ()))
    for item in items:
        group = next((name for name in SHARED if name in used[item.path]), str(item.path))
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(scope="session", autouse=True)
def environment() -> Iterator[dict[str, str]]:
    """Let child processes find the packages wherever they start, and keep frameworks out of this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
        patch.delenv("KERAS_BACKEND", raising=False)
        yield dict(os.environ)
    imported = FRAMEWORKS & sys.modules.keys()
    assert not imported, f"the test process has imported {imported}; run what needs them in a process of its own"


@pytest.fixture(scope="session")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    """Warm worker processes of the harness, for the whole session."""
    with Pool(tmp_path_factory.mktemp("pool") / "logs", jobs=2) as workers:
        yield workers


@pytest.fixture(scope="session")
def frameworks() -> Iterator[FrameworkProcesses]:
    """One process for each side, in which functions of the helpers run."""
    with FrameworkProcesses() as processes:
        yield processes


@pytest.fixture(scope="session")
def clean_run(pool: Pool, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A tiny training of every cell on every backend, with nothing planted; not to be written to."""
    folder = tmp_path_factory.mktemp("clean") / "out"
    return run_cases_in(folder, pool, [tiny_case(cell) for cell in CELLS], BACKENDS)


@pytest.fixture(scope="session")
def recorded(pool: Pool, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Golden traces of a tiny LSTM in native PyTorch and Keras on torch; not to be written to."""
    folder = tmp_path_factory.mktemp("recorded") / "golden"
    verdict, recorded = record_golden(prepare([tiny_case("lstm")]), ["torch"], folder, pool)
    assert verdict.agree
    assert recorded == ["lstm"]
    return folder


class Outcome(NamedTuple):
    """What a command came to: its exit code and what it printed."""

    code: int
    output: str
    errors: str


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable:
    """Run a command in an empty folder, in this process; for what ends before a framework is needed."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def run(*arguments: object) -> Outcome:
        code = main([str(argument) for argument in arguments])
        return Outcome(code, *capsys.readouterr())

    return run


@pytest.fixture
def refused(command: Callable) -> Callable:
    """Run a command that must be refused: exit code 2, one line on standard error, and nothing written."""

    def run(*arguments: object) -> str:
        files = {file: file.stat().st_mtime_ns for file in Path.cwd().parent.rglob("*")}
        code, output, errors = command(*arguments)
        assert code == 2
        assert output == ""
        assert errors.startswith("rnn-parity: ")
        assert errors.count("\n") == 1, "a message of one line, and no traceback"
        assert {file: file.stat().st_mtime_ns for file in Path.cwd().parent.rglob("*")} == files
        return errors.removeprefix("rnn-parity: ").rstrip()

    return run
