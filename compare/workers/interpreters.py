"""Other Python interpreters in which a runner can be put to work: another version of Keras, torch, or a backend."""

import importlib.util
import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from compare.errors import InputError, nearest
from compare.workers.backends import BACKENDS, REFERENCE_RUNNER, backend_of, keras_runner, worker_environment

# What a runner's process is made of; it is given these packages alone, not those installed beside them.
PACKAGES = ("compare", "keras_models", "torch_models")

OLDEST_PYTHON = (3, 11)

PROBE_SECONDS = 60

PROBE = """
import importlib.util, json, sys
found = {name: importlib.util.find_spec(name) is not None for name in sys.argv[1:]}
print(json.dumps({"python": sys.version_info[:2], "found": found}))
"""


def read_interpreters(options: Sequence[str]) -> dict[str, str]:
    """Read `--python NAME=PATH` and return the interpreter of each runner named; a backend's name is its Keras runner.

    Raises InputError for a name that is no runner or comes twice, and an interpreter that does not start, is too old
    or lacks NumPy, safetensors or the framework.
    """
    interpreters: dict[str, str] = {}
    runners = [REFERENCE_RUNNER, *map(keras_runner, BACKENDS)]
    for text in options:
        name, _, path = text.partition("=")
        runner = keras_runner(name) if name in BACKENDS and name != REFERENCE_RUNNER else name
        if not path:
            raise InputError(f"--python {text!r} is not NAME=PATH, for example torch=/opt/torch-2.14/bin/python")
        if runner not in runners:
            raise InputError(f"--python {text!r}: side {name!r} is unknown; {nearest(name, runners)}")
        if runner in interpreters:
            raise InputError(f"--python gives {runner} two interpreters; give one")
        interpreters[runner] = _checked(text, runner, path)
    return interpreters


def _checked(text: str, runner: str, path: str) -> str:
    needed = ["numpy", "safetensors", BACKENDS[backend_of(runner)].module]
    needed += [] if runner == REFERENCE_RUNNER else ["keras"]
    executable = shutil.which(os.path.expanduser(path))
    answer = None if executable is None else _probe(executable, needed)
    if executable is None or answer is None:
        raise InputError(f"--python {text!r}: {path} is not a Python interpreter that can be started")
    if tuple(answer["python"]) < OLDEST_PYTHON:
        raise InputError(
            f"--python {text!r}: {path} is Python {'.'.join(map(str, answer['python']))}; "
            f"{'.'.join(map(str, OLDEST_PYTHON))} or newer is needed"
        )
    missing = [name for name, there in answer["found"].items() if not there]
    if missing:
        raise InputError(
            f"--python {text!r}: {path} has no {', '.join(missing)}; {path} -m pip install {' '.join(missing)}"
        )
    return os.path.abspath(executable)


def _probe(path: str, needed: Sequence[str]) -> Any:
    try:
        done = subprocess.run(
            [path, "-c", PROBE, *needed],
            capture_output=True,
            text=True,
            timeout=PROBE_SECONDS,
            env=_without_ours(dict(os.environ)),
        )
        answer = json.loads(done.stdout.splitlines()[-1])
        return answer if answer["found"].keys() == set(needed) else None
    except (OSError, subprocess.TimeoutExpired, ValueError, IndexError, KeyError, TypeError, AttributeError):
        return None


def interpreter_environment(runner: str, threads: int, packages: Path, device: str | None = None) -> dict[str, str]:
    """Return the environment of a runner's process in another interpreter, which finds our packages in a folder."""
    return _without_ours(worker_environment(runner, threads, device=device)) | {"PYTHONPATH": str(packages)}


def link_packages(folder: Path) -> Path:
    """Make a folder that holds our packages alone, as links, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        assert spec is not None  # this is one of them, and they are installed together
        assert spec.origin is not None
        link = folder / name
        if not link.is_symlink():
            link.symlink_to(Path(spec.origin).parent.absolute())
    return folder


def _without_ours(environment: Mapping[str, str]) -> dict[str, str]:
    """Leave out what names this interpreter's own modules."""
    return {name: value for name, value in environment.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
