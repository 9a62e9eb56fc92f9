"""What the process of a pair's side does: runs the user's functions of that side, and nothing of the other."""

import importlib
import sys
import traceback
import types
from pathlib import Path
from typing import Any

import numpy as np

from compare.explain.observer import Observer
from compare.workers.backends import REFERENCE_RUNNER, backend_of, keep_tensorflow_out
from compare.workers.child import ANSI_COLOUR
from compare.workers.protocol import Answer, Failed, Request

# What a pair file may define beside its three functions.
OPTIONS = ("torch_step", "scheduler", "clip_norm", "seed", "parameter_map")
# Where this project's own code stands.
PACKAGES = [Path(__file__).resolve().parents[2] / name for name in ("compare", "keras_models", "torch_models")]


class PairError(ValueError):
    """A user's mistake in a pair file; the message has the file's own line."""


# What a side can be asked for.
ACTIONS = ("open", "data", "set_data", "describe", "state", "run")

# How much of an exception's text is told.
ERROR_CHARACTERS = 600


def line_of(file: str, name: str) -> int:
    """The line in which a pair file defines a name; 1 where it does not."""
    for number, line in enumerate(Path(file).read_text("utf-8").splitlines(), 1):
        if line.replace(" ", "").startswith((f"{name}=", f"def{name}(")):
            return number
    return 1


def check_options(file: str, namespace: dict[str, Any], options: dict[str, Any]) -> None:
    """Raise PairError, with the line, for an option that is not what it has to be."""

    def refuse(name: str, wanted: str) -> None:
        raise PairError(f"{file}:{line_of(file, name)}: {name} = {namespace[name]!r}; {wanted}")

    for name in ("batch_size", "epochs"):
        value = namespace.get(name, 1)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            refuse(name, "it must be a whole number of at least 1")
    if "seed" in options and (not isinstance(options["seed"], int) or options["seed"] < 0):
        refuse("seed", "it must be a whole number of at least 0")
    clip = options.get("clip_norm")
    if clip is not None and not (isinstance(clip, int | float) and clip > 0):
        refuse("clip_norm", "it must be a number above 0")
    for name in ("torch_step", "scheduler"):
        if name in options and not callable(options[name]):
            refuse(name, "it must be a function")
    mapped = options.get("parameter_map")
    if mapped is not None and not (
        isinstance(mapped, dict)
        and all(isinstance(k, str) and (isinstance(v, str) or callable(v)) for k, v in mapped.items())
    ):  # fmt: skip
        refuse("parameter_map", "it must map PyTorch parameter names to Keras weight names or to functions of them")


class PairSide:
    """The service of one side of a pair: answers one request after the other; `open` comes first."""

    def __init__(self, runner: str) -> None:
        keep_tensorflow_out(runner)
        observer = "torch_observer" if runner == REFERENCE_RUNNER else "keras_observer"
        self.runner = runner
        self.package = importlib.import_module(f"compare.explain.{observer}.side")
        self.file = ""
        self.namespace: dict[str, Any] = {}
        self.side: Observer
        self.inputs = self.targets = np.empty(0)

    def __call__(self, request: Request, report: object = None) -> Answer | Failed:
        """Do what is asked for; a failure has the pair file's own line where one of its functions raised."""
        del report
        if request.action not in ACTIONS:
            return Failed(f"a side does not know {request.action!r}", "defect")
        try:
            facts, arrays = getattr(self, request.action)(tensors=request.tensors, **request.options)
        except PairError as error:
            return Failed(str(error), "refused")
        except (Exception, SystemExit) as error:  # the user's code may raise anything
            traceback.print_exc()
            return self._failed(error)
        return Answer(facts, dict(arrays))

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

    def open(self, file: str, **_: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Read a pair file and say which options it sets."""
        self.file = file
        module = types.ModuleType("pair_file")
        module.__file__ = file
        before = set(sys.modules)
        self.namespace = module.__dict__
        exec(compile(Path(file).read_text("utf-8"), file, "exec"), self.namespace)  # noqa: S102 - the user's own code
        other = {"keras", "tensorflow", "jax"} if self.runner == REFERENCE_RUNNER else {"torch"}
        other -= {backend_of(self.runner)}
        arrived = (set(sys.modules) - before) & other
        if arrived:
            raise PairError(
                f"{file}:1: reading it imports {', '.join(sorted(arrived))} through what it imports at its top; "
                "import that inside the side's function, since TensorFlow and PyTorch in one process can crash"
            )
        options = {name: self.namespace[name] for name in OPTIONS if self.namespace.get(name) is not None}
        self._check_options(options)
        name = "torch_side" if self.runner == REFERENCE_RUNNER else "keras_side"
        for function in ("data", name):
            if not callable(self.namespace.get(function)):
                raise PairError(f"{file}:1: {function} is no function")
        self.side = self.package.Side(self.namespace[name], options)
        texts = {k: v for k, v in (options.get("parameter_map") or {}).items() if isinstance(v, str)}
        return {
            "batch_size": self.namespace.get("batch_size", 32),
            "epochs": self.namespace.get("epochs", 1),
            "seed": self.namespace.get("seed"),
            "parameter_map": texts,
            "own_parameters": [k for k, v in (options.get("parameter_map") or {}).items() if callable(v)],
        }, {}

    def _check_options(self, options: dict[str, Any]) -> None:
        check_options(self.file, self.namespace, options)

    def _line_of(self, name: str) -> int:
        return line_of(self.file, name)

    def data(self, **_: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Call the user's function of this name and check what it returns."""
        data = self.namespace["data"]()
        location = f"{self.file}:{self._line_of('data')}: data()"
        if not isinstance(data, tuple | list) or len(data) != 2:
            raise PairError(f"{location} returned {type(data).__name__}; return inputs, targets as NumPy arrays")
        for name, array in zip(("inputs", "targets"), data, strict=True):
            if not isinstance(array, np.ndarray):
                raise PairError(f"{location} returned {name} as {type(array).__name__}; return a NumPy array")
            if array.dtype.kind not in "fiub":
                raise PairError(f"{location} returned {name} of dtype {array.dtype}; numbers are needed")
            if array.ndim < 1 or not array.size:
                raise PairError(f"{location} returned {name} of shape {array.shape}; there is nothing to train on")
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise PairError(f"{location} returned {name} with NaN or infinite values")
        inputs, targets = data
        if len(inputs) != len(targets):
            raise PairError(
                f"{location} returned {len(inputs)} inputs and {len(targets)} targets; give each input its target"
            )
        return {}, {"inputs": _plain(inputs), "targets": _plain(targets)}

    def set_data(self, tensors: dict[str, np.ndarray], **_: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Take the arrays that both sides train on."""
        self.inputs, self.targets = tensors["inputs"], tensors["targets"]
        return {}, {}

    def describe(self, batch: list[int], **_: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Say what the side is made of; one step is taken to see it."""
        return self.side.describe(self.inputs[batch], self.targets[batch])

    def state(self, tensors: dict[str, np.ndarray], **_: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return the side's own weights, under its own names."""
        return {}, self.side.state(tensors, self.inputs[:1])

    def run(
        self, tensors: dict[str, np.ndarray], batches: list[list[int]], **options: Any
    ) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Train from given weights."""
        weights = {name: value for name, value in tensors.items() if not name.startswith("mask:")}
        masks = {name.removeprefix("mask:"): value for name, value in tensors.items() if name.startswith("mask:")}
        if masks:
            options["masks"] = masks
        chosen = [(self.inputs[batch], self.targets[batch]) for batch in batches]
        return {}, self.side.run(weights, chosen, **options)


def _plain(array: np.ndarray) -> np.ndarray:
    """The array in a type that both frameworks take, float32 or int64."""
    array = np.ascontiguousarray(array)
    if array.dtype.kind == "f":
        return array.astype(np.float32)
    return array.astype(np.int64) if array.dtype.kind in "iu" else array
