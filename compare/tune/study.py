"""The study of a search on disk: Optuna's, shared by all processes that are given its folder, and outliving them."""

import contextlib
import fcntl
import importlib.util
import json
import os
import uuid
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from compare.errors import InputError
from compare.run.folder import LOCK_FILE, NO_LOCKS
from compare.storage import is_sealed, not_writable, read_json, sealed, write_json
from compare.tune.search import Dimension, Range, Search
from compare.workers.backends import versions_of

if TYPE_CHECKING:  # `--help` is quick, and a machine without Optuna is told how to install it
    from optuna import Study, Trial
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

TUNE_FILE, STUDY_FILE = "tune.json", "study.log"

# Each process that takes trials holds a file here as long as it lives.
WORKERS = "workers"

# The attribute of a trial that names the process at work on it.
WORKER = "worker"


def check_optuna() -> None:
    """Raise InputError where Optuna is missing."""
    if importlib.util.find_spec("optuna") is None:
        raise InputError("tune needs Optuna, which is not installed; python -m pip install 'rnn-parity[tune]'")


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a file or folder that exists, waiting for those who hold it; the system lets go of it with the process."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
        yield
    finally:
        os.close(descriptor)


class JournalLock:
    """Optuna's lock of its journal: one that a killed process lets go of."""

    def __init__(self, path: Path) -> None:
        self._path, self._held = path, contextlib.ExitStack()

    def acquire(self) -> bool:
        """Wait for the lock."""
        self._held.enter_context(held(self._path))
        return True

    def release(self) -> None:
        """Let go of it."""
        self._held.close()


class SharedStudy:
    """Trials of a search, of which each process takes the next; those of a process that died are taken over.

    Raises InputError where the folder holds something else or another search.
    """

    def __init__(self, out: Path, search: Search) -> None:
        self.out, self.search = out, search
        self.name = uuid.uuid4().hex
        with _folder(out):
            _write_search(out, search)
            (out / WORKERS).mkdir(exist_ok=True)
            alone = not any(map(_is_held, (out / WORKERS).iterdir()))
            self._file = (out / WORKERS / self.name).open("x")
            fcntl.flock(self._file, fcntl.LOCK_EX)
            if alone:
                _drop_half_line(out / STUDY_FILE)
            self.study = _load_study(out, search)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        (self.out / WORKERS / self.name).unlink(missing_ok=True)
        self._file.close()

    def next_trial(self) -> "Trial | None":
        """Take a trial over from a process that died, or begin a new one; None where there are as many as asked for."""
        from optuna import Trial

        with held(self.out):
            trials = self.study.get_trials(deepcopy=False)
            left = next((trial for trial in trials if self._is_left(trial)), None)
            if left is None and len(trials) >= self.search.trials:
                return None
            trial = self.study.ask() if left is None else Trial(self.study, left._trial_id)
            trial.set_user_attr(WORKER, self.name)
        return trial

    def others(self) -> int:
        """How many trials other processes are at work on, or have left."""
        return sum(self._is_running(trial) for trial in self.study.get_trials(deepcopy=False))

    def fields(self, trial: "Trial") -> dict[str, Any]:
        """Return the values that a trial has of every dimension, drawing those that it has not."""
        return {name: _drawn(trial, name, dimension) for name, dimension in self.search.space.items()}

    def _is_running(self, trial: "FrozenTrial") -> bool:
        return not trial.state.is_finished()

    def _is_left(self, trial: "FrozenTrial") -> bool:
        worker = trial.user_attrs.get(WORKER)
        if not self._is_running(trial) or worker == self.name:
            return False
        return worker is None or not _is_held(self.out / WORKERS / worker)


def _drawn(trial: "Trial", name: str, dimension: Dimension) -> Any:
    """The value that a trial has of a dimension; those of a list are known by their JSON."""
    if not isinstance(dimension, Range):
        return json.loads(trial.suggest_categorical(name, [json.dumps(value) for value in dimension]))
    # Optuna wants a range that its steps fill.
    high = dimension.high if dimension.step is None else dimension.values()[-1]
    if dimension.whole:
        return trial.suggest_int(name, int(dimension.low), int(high), step=int(dimension.step or 1), log=dimension.log)
    return trial.suggest_float(name, dimension.low, high, step=dimension.step, log=dimension.log)


def _load_study(out: Path, search: Search) -> "Study":
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    (out / STUDY_FILE).touch()
    journal = JournalFileBackend(str(out / STUDY_FILE), JournalLock(out / STUDY_FILE))  # type: ignore[arg-type]
    pruner = optuna.pruners.MedianPruner() if search.table.pruner == "median" else optuna.pruners.NopPruner()
    return optuna.create_study(
        storage=JournalStorage(journal),
        study_name="tune",
        sampler=_numbered_sampler(search),
        pruner=pruner,
        direction="maximize" if search.maximised else "minimize",
        load_if_exists=True,
    )


def _numbered_sampler(search: Search) -> "BaseSampler":
    """Make a sampler whose draws are known by the trial's number, the field and the trials before it.

    So that a search goes on as if it had not been interrupted, and processes that share it draw different values.
    """
    from optuna.samplers import BaseSampler, RandomSampler, TPESampler

    class Numbered(BaseSampler):  # type: ignore[misc, unused-ignore]
        def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, Any]:
            return {}

        def sample_relative(self, study: Any, trial: Any, search_space: Any) -> dict[str, Any]:
            return {}

        def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
            if search.table.sampler == "grid":
                value = search.point(trial.number)[param_name]
                return value if isinstance(search.space[param_name], Range) else json.dumps(value)
            seed = zlib.crc32(f"{search.table.seed} {trial.number} {param_name}".encode())
            sampler = RandomSampler(seed) if search.table.sampler == "random" else TPESampler(seed=seed)
            return sampler.sample_independent(study, trial, param_name, param_distribution)

    return Numbered()


@contextlib.contextmanager
def _folder(out: Path) -> Iterator[None]:
    """Hold the folder, which is new, empty or of a search; raises InputError where it is not."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with held(out):
            ours = {LOCK_FILE, Path(TUNE_FILE).with_suffix(".partial").name}
            if not (out / TUNE_FILE).exists() and any(path.name not in ours for path in out.iterdir()):
                raise InputError(f"--out {out} is not empty; it may hold another run: give a new folder")
            yield
    except OSError as error:
        raise not_writable("--out", out, error) from None


def _write_search(out: Path, search: Search) -> None:
    written = sealed(_comparable({"search": search.as_json(), "versions": versions_of(search.backends)}))
    before = read_json(out / TUNE_FILE)
    if (out / TUNE_FILE).exists() and not is_sealed(before):
        raise InputError(f"--out {out}: {TUNE_FILE} is damaged, or of an earlier version: give a new folder")
    if before is not None and before != written:
        what = "other versions" if before["search"] == written["search"] else _changed(before, written)
        raise InputError(f"--out {out} holds a study of another search ({what}): give a new folder")
    if before is None:
        write_json(out / TUNE_FILE, written)


def _changed(before: Mapping[str, Any], written: Mapping[str, Any]) -> str:
    names = [name for name, value in written["search"].items() if before["search"].get(name) != value]
    return f"another {', '.join(names)}"


def _comparable(content: Any) -> Any:
    return json.loads(json.dumps(content))


def _is_held(path: Path) -> bool:
    """Whether a process holds a file; one that is gone, nobody does."""
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _drop_half_line(journal: Path) -> None:
    """Drop what a process that was killed has written of its last line; no other may be at work."""
    if not journal.exists():
        return
    with journal.open("r+b") as file:
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)
