"""What the process of a pair's side does: runs the user's functions of that side, and nothing of the other."""

import importlib
import linecache
import sys
import traceback
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from compare.errors import InputError
from compare.explain.nested import packed, unpacked
from compare.explain.source import source_of
from compare.workers.backends import REFERENCE_RUNNER, backend_of, keep_tensorflow_out
from compare.workers.child import ANSI_COLOUR
from compare.workers.protocol import Answer, Doing, Failed, Request

# Where this project's own code stands.
PACKAGES = [Path(__file__).resolve().parents[2] / name for name in ("compare", "keras_models", "torch_models")]

# How much of an exception's text is told.
ERROR_CHARACTERS = 600

Report = Callable[[Doing], None]


class UserFile:
    """A pair file in one side's process; executed anew for every training, so that its globals begin as written."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.text = Path(file).read_text("utf-8")
        self.code = compile(self.text, file, "exec")
        self.namespace = self.execute()
        self._check()

    def execute(self) -> dict[str, Any]:
        """Run the file and return its globals."""
        module = types.ModuleType("pair_file")
        module.__file__ = self.file
        exec(self.code, module.__dict__)  # noqa: S102 - the user's own code
        return module.__dict__

    def location(self, name: str) -> str:
        """The file and the line in which it defines a name; line 1 where it does not."""
        return f"{self.file}:{line_of(self.text, name)}"

    @property
    def seed(self) -> int:
        """The seed of the initial weights."""
        return int(self.namespace.get("seed") or 0)

    def _check(self) -> None:
        """Raise InputError, with the line, for an option that is not what it has to be."""
        options = self.namespace
        for name in ("batch_size", "epochs"):
            value = options.get(name, 1)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                self._refuse(name, "it must be a whole number of at least 1")
        seed, clip, mapped = (options.get(name) for name in ("seed", "clip_norm", "parameter_map"))
        if seed is not None and (not isinstance(seed, int) or seed < 0):
            self._refuse("seed", "it must be a whole number of at least 0")
        if clip is not None and not (isinstance(clip, int | float) and clip > 0):
            self._refuse("clip_norm", "it must be a number above 0")
        for name in ("torch_step", "torch_predict", "scheduler"):
            if options.get(name) is not None and not callable(options[name]):
                self._refuse(name, "it must be a function")
        if mapped is not None and not (isinstance(mapped, Mapping) and all(map(_is_map, mapped.items()))):
            self._refuse(
                "parameter_map", "it must map PyTorch parameter names to Keras weight names or to functions of them"
            )

    def _refuse(self, name: str, wanted: str) -> None:
        raise InputError(f"{self.location(name)}: {name} = {self.namespace[name]!r}; {wanted}")


def _is_map(entry: tuple[Any, Any]) -> bool:
    name, source = entry
    return isinstance(name, str) and (isinstance(source, str) or callable(source))


def line_of(text: str, name: str) -> int:
    """The line in which a pair file defines a name; 1 where it does not."""
    for number, line in enumerate(text.splitlines(), 1):
        if line.replace(" ", "").startswith((f"{name}=", f"def{name}(")):
            return number
    return 1


class PairSide:
    """The service of one side of a pair: answers one request after the other; `open` comes first.

    Options and answers are trees, packed. Its framework's observer has a class `Side` with a method for each action.
    """

    def __init__(self, runner: str) -> None:
        keep_tensorflow_out(runner)
        observer = "torch_observer" if runner == REFERENCE_RUNNER else "keras_observer"
        self.runner = runner
        self.package = importlib.import_module(f"compare.explain.{observer}.side")
        self.file = ""
        self.side: Any = None

    def __call__(self, request: Request, report: Report) -> Answer | Failed:
        """Do what is asked for; a failure has the pair file's own line where one of its functions raised."""
        options = unpacked(request.options, request.tensors)
        try:
            if request.action == "open":
                facts, tensors = packed(self.open(**options))
            elif request.action in self.package.ACTIONS:
                facts, tensors = packed(getattr(self.side, request.action)(report, **options))
            else:
                return Failed(f"a side does not know {request.action!r}", "defect")
        except InputError as error:
            text = str(error)
            return Failed(text if text.startswith(self.file) else f"{self.file}:1: {text}", "refused")
        except (Exception, SystemExit) as error:  # the user's code may raise anything
            traceback.print_exc()
            return self._failed(error)
        return Answer({"tree": facts}, tensors)

    def _failed(self, error: BaseException) -> Failed:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == self.file]
        text = " ".join(ANSI_COLOUR.sub("", str(error)).split())[:ERROR_CHARACTERS]
        raised_in = Path(frames[-1].filename).resolve()
        # The sides raise TypeError where what they are given is of the wrong kind; anything else there is a defect.
        defect = (
            not lines and any(package in raised_in.parents for package in PACKAGES) and not isinstance(error, TypeError)
        )
        return Failed(f"{type(error).__name__}: {text}", "defect" if defect else "raised", lines[-1] if lines else None)

    def open(self, file: str) -> Any:
        """Read a pair file; the Keras side returns its data."""
        self.file = file
        # Another pair's code may be the same at the same lines, and a file may have been written anew.
        source_of.cache_clear()
        linecache.clearcache()
        before = set(sys.modules)
        user_file = UserFile(file)
        other = {"keras", "tensorflow", "jax"} if self.runner == REFERENCE_RUNNER else {"torch"}
        arrived = (set(sys.modules) - before) & (other - {backend_of(self.runner)})
        if arrived:
            raise InputError(
                f"{file}:1: reading it imports {', '.join(sorted(arrived))} through what it imports at its top; "
                "import that inside the side's function, since TensorFlow and PyTorch in one process can crash"
            )
        for function in ("data", "torch_side" if self.runner == REFERENCE_RUNNER else "keras_side"):
            if not callable(user_file.namespace.get(function)):
                raise InputError(f"{file}:1: {function} is no function")
        self.side = self.package.Side(user_file)
        return self.side.opened()
