"""Golden traces on disk: what each runner did with a case, kept to compare later trainings with."""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field, ValidationError

from compare.config.case import Dtype, case_from_json
from compare.errors import InputError
from compare.experiment.experiment import Experiment, read_experiment
from compare.run.folder import locked
from compare.storage import file_digest, is_sealed, read_json
from compare.trace.trace import TraceError, read_trace
from compare.workers.backends import REFERENCE_RUNNER, keras_runner

SCHEMA = 2

# Earlier schemas, which had no checksums.
UNSEALED = (1,)

# Written last into a case's folder: which traces it holds, by runner, and their files.
INDEX = "golden.json"

# The files that are read as parts of a recording, wherever they lie in it.
READ = (".json", ".bin", ".npy", ".safetensors")

Runner = Literal["torch", "keras-tensorflow", "keras-torch", "keras-jax"]
Names = Annotated[list[str], Field(min_length=1)]


class _Index(BaseModel):
    """What `golden.json` has: the folders of each runner's traces, and all files with their checksums."""

    traces: dict[Runner, Names]
    files: Annotated[dict[str, str], Field(min_length=1)]


class _Execution(BaseModel):
    kernel: str
    device: str


class _Manifest(BaseModel):
    """What the judge reads of a trace's manifest."""

    runner: Runner
    dtype: Dtype
    precision: Dtype
    steps: int = Field(ge=1)
    epochs: int = Field(ge=1)
    hashes: dict[str, str]
    versions: dict[str, str]
    execution: _Execution


# What is recorded in an example, where no case was named.
EXAMPLE = "lstm"


@dataclass(frozen=True, eq=False)
class Golden:
    """The golden traces of one case: its folder, its experiment, the folders of each runner, several if sampled."""

    folder: Path
    experiment: Experiment
    traces: Mapping[str, Sequence[Path]]

    @property
    def backends(self) -> list[str]:
        """The backends whose Keras runner has a golden trace."""
        return [name.removeprefix("keras-") for name in self.traces if name != REFERENCE_RUNNER]


def kept_steps(experiment: Experiment) -> list[int]:
    """Which of the checked steps a golden trace keeps."""
    return sorted({0, experiment.steps_per_epoch - 1, experiment.recorded_steps[-1]})


def golden_cases(golden: Path, wanted: Sequence[str] = ()) -> list[str]:
    """Name the cases that have golden traces in a folder; raises InputError where there is none."""
    how = _how_to_record(golden, " ".join(wanted) or EXAMPLE)
    try:
        folders = [folder for folder in golden.iterdir() if not folder.name.startswith(".")]  # of a recording under way
        names = sorted(folder.name for folder in folders if (folder / INDEX).is_file())
    except OSError as error:
        raise InputError(f"--golden {golden} cannot be read: {error.strerror}; {how}") from None
    if not names:
        raise InputError(f"--golden {golden} holds no golden traces; {how}")
    return names


def read_golden(folder: Path) -> Golden:
    """Read the golden traces of one case, and see that all that was recorded is there and whole.

    Raises InputError for what is missing, damaged or of another schema.
    """
    try:
        index = _read_index(folder)
        traces = {str(runner): [folder / name for name in names] for runner, names in index.traces.items()}
        _check_files(folder, index.files)
        for runner, paths in traces.items():
            for path in paths:
                _check_trace(path, runner)
        return Golden(folder, _read_experiment(folder), traces)
    except _DamagedError as error:
        restore = f"restore it, or record it again: python -m compare record {folder.name} --golden {folder.parent}"
        raise InputError(f"golden trace {folder} {error}; {restore}") from None


class _DamagedError(Exception):
    """What is wrong with a golden trace, as the end of a sentence about it."""


def _read_index(folder: Path) -> _Index:
    content = read_json(folder / INDEX)
    if not isinstance(content, dict):
        raise _DamagedError(f"has no {INDEX}" if not (folder / INDEX).exists() else f"has a damaged {INDEX}")
    schema, whole = content.get("schema"), is_sealed(content)
    if schema != SCHEMA and (whole or schema in UNSEALED):
        raise _DamagedError(f"is of schema {schema!r}, this version reads {SCHEMA}")
    if not whole:
        raise _DamagedError(f"has a damaged {INDEX}")
    try:
        index = _Index.model_validate(content)
    except ValidationError as error:
        raise _DamagedError(f"has a damaged {INDEX}: {_first(error)}") from None
    if REFERENCE_RUNNER not in index.traces:
        raise _DamagedError(f"has a damaged {INDEX}: no trace of {REFERENCE_RUNNER}")
    for name in (*index.files, *(name for names in index.traces.values() for name in names)):
        if not (folder / name).resolve().is_relative_to(folder.resolve()):
            raise _DamagedError(f"has a damaged {INDEX}: {name} is outside of the folder")
    return index


def _check_files(folder: Path, digests: Mapping[str, str]) -> None:
    for name, digest in digests.items():
        if not (folder / name).is_file():
            raise _DamagedError(f"lacks {name}")
        if file_digest(folder / name) != digest:
            raise _DamagedError(f"has a damaged {name}")
    for file in sorted(folder.glob("*/**/*")):
        name = str(file.relative_to(folder))
        if file.suffix in READ and name not in digests:
            raise _DamagedError(f"has {name}, which was not recorded")


def _check_trace(path: Path, runner: str) -> None:
    try:
        trace = read_trace(path)
        manifest = _Manifest.model_validate(trace.manifest)
    except ValidationError as error:
        raise _DamagedError(f"has a damaged {path.name}/manifest.json: {_first(error)}") from None
    except TraceError as error:
        raise _DamagedError(f"cannot be read: {error}") from None
    if manifest.runner != runner:
        raise _DamagedError(f"has a trace of {manifest.runner} in {path.name}, which is to be of {runner}")
    if not trace.complete:
        raise _DamagedError(f"has no whole steps in {path.name}")


def _read_experiment(folder: Path) -> Experiment:
    try:
        experiment = read_experiment(
            folder / "experiment", lambda fields: case_from_json(json.dumps(fields), str(folder))
        )
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _DamagedError(f"has a damaged experiment: {type(error).__name__}: {error}") from None
    if experiment.case.name != folder.name:
        raise _DamagedError(f"is of case {experiment.case.name!r}; a recording cannot be renamed")
    return experiment


def _first(error: ValidationError) -> str:
    problem = error.errors()[0]
    return f"{'.'.join(map(str, problem['loc']))}: {problem['msg'][0].lower()}{problem['msg'][1:]}"


@contextlib.contextmanager
def held_golden(
    golden: Path, cases: Sequence[str] = (), backends: Sequence[str] | None = None
) -> Iterator[list[Golden]]:
    """Read golden traces as `choose_golden` does; nothing is recorded in their folder as long as they are used.

    Raises InputError also where something is being recorded.
    """
    with locked(golden, "--golden", shared=True) if golden.is_dir() else contextlib.nullcontext():
        yield choose_golden(golden, cases, backends)


def choose_golden(golden: Path, cases: Sequence[str] = (), backends: Sequence[str] | None = None) -> list[Golden]:
    """Read the golden traces of the cases named, of all if none is, and of some backends, or of all recorded.

    Raises InputError for a case or a backend of which none was recorded.
    """
    known = golden_cases(golden, cases)
    for name in cases:
        if name not in known:
            raise InputError(
                f"--golden {golden} holds no trace of case {name!r}, only of {', '.join(known)}; "
                f"{_how_to_record(golden, name)}"
            )
    return [_of_backends(read_golden(golden / name), backends) for name in cases or known]


def _of_backends(golden: Golden, backends: Sequence[str] | None) -> Golden:
    if backends is None:
        return golden
    if missing := [backend for backend in backends if backend not in golden.backends]:
        raise InputError(
            f"golden trace {golden.folder} holds none of keras-{missing[0]}, only of {', '.join(golden.traces)}; "
            f"{_how_to_record(golden.folder.parent, golden.folder.name)} "
            f"--backend {' '.join(sorted({*golden.backends, *missing}))}"
        )
    runners = (REFERENCE_RUNNER, *map(keras_runner, backends))
    return replace(golden, traces={runner: paths for runner, paths in golden.traces.items() if runner in runners})


def _how_to_record(golden: Path, case: str) -> str:
    return f"python -m compare record {case} --golden {golden}"
