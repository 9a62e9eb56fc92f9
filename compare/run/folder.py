"""The folder of a run: what it holds, and that one process at a time writes into it."""

import contextlib
import errno
import fcntl
import json
import os
import socket
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from compare.errors import InputError
from compare.experiment.experiment import Experiment, experiment_hashes
from compare.storage import is_sealed, not_writable, read_json, sealed, write_json
from compare.workers.backends import versions_of

# What a run compares, by which it is known again.
RUN_FILE = "run.json"

# Who writes into a folder, as long as it does.
LOCK_FILE = ".lock"

# What a file system says that knows no locks; there nothing can be held.
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF)


def folder_of_now() -> Path:
    """Name the folder of a run after the time."""
    return Path("runs") / datetime.now().astimezone().strftime("%Y-%m-%d-%H%M%S-%f")


@contextlib.contextmanager
def run_folder(
    out: Path, experiments: Sequence[Experiment], backends: Sequence[str], device: str = "cpu"
) -> Iterator[None]:
    """Hold the folder of a run, new or of the same run, whose finished trainings need not be repeated.

    Raises InputError where it cannot be written, is held by another process, or holds something else: another run, or
    one whose data were others.
    """
    run = {
        "cases": [json.loads(experiment.case.to_json()) for experiment in experiments],
        "versions": versions_of(backends),
        "device": device,
        "data": {experiment.case.name: _hashes(experiment) for experiment in experiments},
    }
    with results_folder(out, RUN_FILE):
        if (out / RUN_FILE).exists():
            _refuse_another(out, read_json(out / RUN_FILE), run)
        try:
            write_json(out / RUN_FILE, sealed(run))
        except OSError as error:
            raise not_writable("--out", out, error) from None
        yield


def _refuse_another(out: Path, before: Any, run: dict[str, Any]) -> None:
    """Raise InputError where a folder holds another run."""
    instead = "give a new folder"
    if not is_sealed(before):
        raise InputError(f"--out {out}: {RUN_FILE} is damaged, or of an earlier version: {instead}")
    if any(before.get(key) != run[key] for key in ("cases", "versions", "device")):
        raise InputError(f"--out {out} is not empty; it may hold another run: {instead}")
    for name, hashes in run["data"].items():
        changed = [part for part, value in hashes.items() if before["data"][name][part] != value]
        if changed:
            raise InputError(f"--out {out} holds a run of case {name} with other {' and '.join(changed)}: {instead}")


def _hashes(experiment: Experiment) -> dict[str, str]:
    """Hash what the trainings start from; a series as it is, not as the windows cut from it."""
    return experiment_hashes(experiment.windows.arrays(), experiment.schedule, experiment.weights)


@contextlib.contextmanager
def results_folder(out: Path, marker: str = "") -> Iterator[None]:
    """Hold a folder for results, that is new, empty or has the file `marker`.

    Raises InputError where it cannot be created, is held by another process or holds anything else.
    """
    # Before, so that a folder of something else is not touched, and again when nobody else writes into it.
    _check_folder(out, marker)
    with locked(out):
        _check_folder(out, marker)
        yield


def _check_folder(out: Path, marker: str) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        # What a process leaves that was killed before it had written its first file.
        ours = {LOCK_FILE, Path(marker).with_suffix(".partial").name if marker else LOCK_FILE}
        others = any(path.name not in ours for path in out.iterdir())
        if others and not (marker and (out / marker).exists()):
            raise InputError(f"--out {out} is not empty; it may hold another run: give a new folder")
    except OSError as error:
        raise not_writable("--out", out, error) from None


@contextlib.contextmanager
def locked(folder: Path, option: str = "--out", *, shared: bool = False) -> Iterator[None]:
    """Hold a folder, that exists, for this process alone, or `shared` with others that only read it.

    The system lets go of it where the process dies. Raises InputError where another process holds it, naming one that
    holds it alone; what is only read stays as it is, without a name in it.
    """
    path = folder / LOCK_FILE
    with contextlib.ExitStack() as held:
        try:
            descriptor = os.open(folder, os.O_RDONLY)
            held.callback(os.close, descriptor)
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            if not shared:
                _say_who_holds(path)
                held.callback(path.unlink, missing_ok=True)
        except BlockingIOError:
            raise InputError(f"{option} {folder} is in use by {_holder(path)}: wait for it or end it") from None
        except OSError as error:
            # What is only read may stand where nothing can be written.
            if error.errno not in NO_LOCKS and not shared:
                raise not_writable(option, folder, error) from None
        yield


def _say_who_holds(path: Path) -> None:
    since = datetime.now().astimezone().isoformat(" ", "seconds")
    path.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": since}), "utf-8")


def _holder(path: Path) -> str:
    """Say who holds a lock."""
    try:
        holder = json.loads(path.read_text("utf-8"))
        return f"process {holder['pid']} on {holder['host']} since {holder['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
