"""Folders for temporary files go with the process that made them, however it ended."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from compare.workers import temporary_folder
from compare.workers.temporary_folder import TemporaryFolder

HOLDER = (
    "import time; from compare.workers.temporary_folder import TemporaryFolder\n"
    "with TemporaryFolder() as folder: print(folder, flush=True); time.sleep(600)"
)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for temporary files in which nothing was looked for yet."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    temporary_folder.remove_left_folders.cache_clear()
    return tmp_path


def test_what_a_killed_process_leaves_is_removed(temporary: Path, environment: dict[str, str]) -> None:
    """The folder of a process stays as long as it lives, and goes when the next is made after its death."""
    command = [sys.executable, "-c", HOLDER]
    variables = {**environment, "TMPDIR": str(temporary)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=variables, text=True) as process:
        assert process.stdout is not None
        left = Path(process.stdout.readline().rstrip())
        assert str(process.pid) in left.name
        with TemporaryFolder() as mine:
            assert left.is_dir()
        assert not mine.exists()
        process.send_signal(signal.SIGKILL)
    assert left.is_dir(), "a killed process leaves its folder"
    temporary_folder.remove_left_folders.cache_clear()
    with TemporaryFolder():
        assert not left.exists()
    assert list(temporary.iterdir()) == []


def test_what_is_not_ours_stays(temporary: Path) -> None:
    """Folders of other names, the logs of errors among them, and links are not removed."""
    for name in ("rnn-parity-error-ab12", "rnn-parity-", "other-999999999-ab"):
        (temporary / name).mkdir()
    (temporary / "rnn-parity-999999998-ab").symlink_to(temporary / "rnn-parity-")
    with TemporaryFolder():
        pass
    assert len(list(temporary.iterdir())) == 4
