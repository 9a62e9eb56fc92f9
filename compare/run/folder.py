"""The folder of a run."""

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from compare.config.case import Case
from compare.errors import InputError
from compare.storage import FULL, read_json, write_json
from compare.workers.backends import versions_of

# What a run compares, by which it is known again.
RUN_FILE = "run.json"


def folder_of_now() -> Path:
    """Name the folder of a run after the time."""
    return Path("runs") / datetime.now().astimezone().strftime("%Y-%m-%d-%H%M%S-%f")


def create_out(out: Path, cases: Sequence[Case], backends: Sequence[str]) -> None:
    """Create the folder of a run, or find the same run in it, whose finished trainings need not be repeated.

    Raises InputError where it cannot be written or holds something else.
    """
    create_folder(out, RUN_FILE)
    run = {"cases": [json.loads(case.to_json()) for case in cases], "versions": versions_of(backends)}
    if (out / RUN_FILE).exists() and read_json(out / RUN_FILE) != run:
        raise InputError(f"--out {out} is not empty; it may hold another run: give a new folder")
    try:
        write_json(out / RUN_FILE, run)
    except OSError as error:
        raise _refusal(out, error) from None


def create_folder(out: Path, marker: str = "") -> None:
    """Create a folder for results, or find one that is empty or holds the file `marker`.

    Raises InputError where it cannot be created or holds anything else.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()) and not (marker and (out / marker).exists()):
            raise InputError(f"--out {out} is not empty; it may hold another run: give a new folder")
    except OSError as error:
        raise _refusal(out, error) from None


def _refusal(out: Path, error: OSError) -> Exception:
    """What is raised for a folder that cannot be written; that a disk is full is no mistake of the user's."""
    return error if error.errno in FULL else InputError(f"--out {out} cannot be written: {error.strerror}")
