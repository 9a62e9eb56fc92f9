"""Two sides of one framework: a Keras model on two backends or loaded again, two PyTorch sides, two revisions."""

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zipfile import ZipFile

from compare.errors import InputError
from compare.explain.explanation import explanation
from compare.explain.observing import Observation
from compare.explain.pair_file import OTHER, Pair, read_pair
from compare.explain.pair_side import PairSide
from compare.explain.processes import SERVICE, SideError, SideProcess, Sides
from compare.judge.verdict import Comparison
from compare.workers.backends import REFERENCE_RUNNER, keras_runner

REFERENCE_SERVICE = "compare.explain.two_alike:ReferenceSide"
RELOADED_SERVICE = "compare.explain.two_alike:ReloadedSide"
# In the folder to which a revision is unpacked: a file with the path of the repository it is of.
MARK = ".revision-of"


class ReferenceSide(PairSide):
    """The service of the PyTorch side that another is compared with."""

    def __init__(self, runner: str) -> None:
        super().__init__(runner)
        from compare.explain.torch_observer import reference

        self.package = reference

    def open(self, file: str) -> Any:
        """Read a pair file, with local modules of its own revision where it is of another."""
        tree = next((folder for folder in Path(file).parents if (folder / MARK).is_file()), None)
        if tree is not None:
            repository = Path((tree / MARK).read_text("utf-8"))
            sys.path[:] = [_moved(entry, repository, tree) for entry in sys.path]
        return super().open(file)


def _moved(entry: str, repository: Path, tree: Path) -> str:
    """A folder of the import path in another revision of its repository; this project's own stays."""
    folder = Path(entry or ".").resolve()
    if folder != repository and repository not in folder.parents:
        return entry
    own = Path(__file__).resolve().parents[2]
    return entry if folder == own else str(tree / folder.relative_to(repository))


class ReloadedSide(PairSide):
    """The service of a Keras side that is saved and loaded."""

    def __init__(self, runner: str) -> None:
        super().__init__(runner)
        from compare.explain.keras_observer import reloaded

        self.package = reloaded


class AlikeSides(Sides):
    """Two processes by name: `first` is the reference, in the place of Keras; each with a runner and a service."""

    def __init__(self, first: tuple[str, str, str], second: tuple[str, str, str], timeout: float) -> None:
        super().__init__(first[0], timeout)
        self.first, self.second = first, second

    def _start(self, runner: str) -> SideProcess:
        _, framework, service = self.first if runner == self.first[0] else self.second
        side = SideProcess(framework, self.timeout, lambda what: self.on_doing(what), service)
        self._processes[runner] = side
        return side

    @property
    def keras_runner(self) -> str:
        """The name of the reference."""
        return self.first[0]

    @property
    def torch(self) -> SideProcess:
        """The process that is compared with the reference."""
        return self._living(self.second[0])

    @property
    def keras_on_torch(self) -> SideProcess:
        """The reference's own process, in which its operations are observed."""
        return self.keras

    def __enter__(self) -> "AlikeSides":
        for name in (self.first[0], self.second[0]):
            self._start(name)
        return self


def explain_backends(
    pair: Pair, backends: list[str], timeout: float = 600, on_doing: Callable[[str], None] = lambda what: None
) -> Comparison:
    """Compare a Keras model on two backends; given one backend, the model with itself saved and loaded."""
    first, second = keras_runner(backends[0]), keras_runner(backends[-1])
    service = SERVICE
    if first == second:
        second, service = f"{first}, saved and loaded", RELOADED_SERVICE
    sides = AlikeSides((first, first, SERVICE), (second, keras_runner(backends[-1]), service), timeout)
    return _explained(sides, pair, pair, on_doing)


def explain_modules(
    pair: Pair, timeout: float = 600, on_doing: Callable[[str], None] = lambda what: None
) -> Comparison:
    """Compare `torch_side` with `other_torch_side`."""
    sides = AlikeSides((OTHER, REFERENCE_RUNNER, REFERENCE_SERVICE), ("torch_side", REFERENCE_RUNNER, SERVICE), timeout)
    return _explained(sides, pair, pair, on_doing)


def explain_against(
    pair: Pair, revision: str, timeout: float = 600, on_doing: Callable[[str], None] = lambda what: None
) -> Comparison:
    """Compare a pair file's `torch_side` with that of a revision of its git repository, local modules and all.

    Raises InputError where there is no repository, no such revision, or no such file in it.
    """
    if revision.startswith("-"):
        raise InputError(f"--against {revision} is no revision; give a commit, a branch or a tag")
    repository = Path(_git(pair.file.parent, "rev-parse", "--show-toplevel").decode().strip()).resolve()
    with TemporaryDirectory() as folder:
        tree = Path(folder).resolve()
        with ZipFile(BytesIO(_git(repository, "archive", "--format=zip", revision))) as archive:
            archive.extractall(tree)  # links of the revision become plain files: nothing leaves the folder
        other = tree / pair.file.relative_to(repository)
        if not other.is_file():
            raise InputError(f"--against {revision}: {pair.file.relative_to(repository)} is not in that revision")
        name = f"torch_side at {revision}"
        first, second = (name, REFERENCE_RUNNER, REFERENCE_SERVICE), ("torch_side", REFERENCE_RUNNER, SERVICE)
        (tree / MARK).write_text(str(repository), "utf-8")
        return _explained(AlikeSides(first, second, timeout), pair, read_pair(str(other), alone=True), on_doing)


def _git(folder: Path, *arguments: str) -> bytes:
    done = subprocess.run(  # noqa: S603 - arguments that are checked, no shell
        ["git", "-C", str(folder), *arguments],  # noqa: S607 - the user's own git
        capture_output=True,
        check=False,
    )
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["git failed"]
        raise InputError(f"--against: {lines[0]}")
    return done.stdout


def _explained(sides: AlikeSides, pair: Pair, other: Pair, on_doing: Callable[[str], None]) -> Comparison:
    sides.on_doing = on_doing
    first, second = sides.first[0], sides.second[0]

    def told(text: str) -> str:
        """A text that speaks of Keras and PyTorch, of these two sides."""
        return re.sub(r"\bPyTorch\b", second, re.sub(r"\bKeras\b", first, text))

    try:
        with sides:
            comparison = explanation(Observation(sides, pair, other))
    except SideError as error:
        return Comparison(pair.name, first, second, "float32", "failed", error=told(str(error)))
    except InputError as error:
        raise InputError(told(str(error))) from None
    causes = [
        replace(cause, message="", fix=told(cause.fix), observation=told(cause.observation), proof="")
        for cause in comparison.causes
    ]
    differences = [replace(difference, message=told(difference.message)) for difference in comparison.differences]
    notes = [told(note) for note in comparison.notes if "was never" not in note]
    return replace(comparison, reference=second, causes=causes, differences=differences, notes=notes)
