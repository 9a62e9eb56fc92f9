"""Exit code 1 means that something differs, and nothing else."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compare.cli.main import CLOSED_PIPE
from compare.cli.output import FAILED, INTERNAL_ERROR
from compare.storage import write_json, write_tensors


def test_an_internal_error_exits_70(command: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An error of this project's own is told in one line, with a file that has the traceback."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("compare.workers.backends.version", lambda name: {}["planted"])
    code, output, errors = command("list")
    assert (code, output) == (INTERNAL_ERROR, "")
    assert errors.startswith("rnn-parity: internal error: KeyError: 'planted'; ")
    assert errors.count("\n") == 1
    (log,) = tmp_path.glob("rnn-parity-error-*/error.log")
    assert str(log) in errors
    assert "Traceback" in log.read_text("utf-8")


def test_the_log_of_an_internal_error_is_in_the_folder_of_the_results(
    command: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the results have a folder the traceback is there."""
    monkeypatch.setattr("compare.api.read_pair", lambda file, alone: {}["planted"])
    Path("out").mkdir()
    code, _, errors = command("explain", "pair.py", "--out", "out")
    assert code == INTERNAL_ERROR
    assert "out/error.log" in errors
    assert "planted" in Path("out/error.log").read_text("utf-8")


def test_a_closed_pipe_ends_quietly(environment: dict[str, str]) -> None:
    """Where nobody reads the output any more nothing is said."""
    done = subprocess.Popen(
        [sys.executable, "-m", "compare", "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    )
    assert done.stdout is not None
    assert done.stderr is not None
    done.stdout.close()
    with done.stderr as errors:
        assert errors.read() == b""
    assert done.wait() == CLOSED_PIPE


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_full_standard_output_exits_3(environment: dict[str, str]) -> None:
    """What cannot be written to standard output is no difference."""
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "compare", "list"], stdout=full, stderr=subprocess.PIPE, env=environment, text=True
        )
    assert done.stderr == "rnn-parity: standard output cannot be written: No space left on device\n"
    assert done.returncode == FAILED


def no_space(*arguments: Any) -> None:
    """Fail as a write to a full disk does."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_exits_3_and_names_the_file(command: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run whose folder is on a full disk says which file could not be written."""
    monkeypatch.setattr("compare.storage.os.replace", no_space)
    Path("here").mkdir()
    code, _, errors = command("run", "lstm", "--backend", "torch", "--out", "here", "--quiet")
    assert "here" in errors
    assert "No space left on device" in errors
    assert code == FAILED


@pytest.mark.parametrize("write", [write_json, write_tensors], ids=["json", "tensors"])
def test_a_write_that_fails_names_its_file(write: Callable, tmp_path: Path) -> None:
    """What the system says of a file that cannot be written comes with its path, whatever wrote it."""
    with pytest.raises(OSError, match="missing") as raised:
        write(tmp_path / "missing" / "file.json", {})
    assert raised.value.filename == str(tmp_path / "missing" / "file.json")
