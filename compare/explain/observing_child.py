"""The process of one side that is observed: runs the user's functions of that side, and nothing of the other.

Messages are pickled, each behind its length, on standard input and on what was standard output.
"""

import os
import pickle
import re
import struct
import sys
import traceback
import types
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from compare.errors import InputError
from compare.explain.batches import each, schedule
from compare.explain.pair_side import OPTIONS, check_options, line_of
from compare.workers.backends import REFERENCE_RUNNER, keep_tensorflow_out

ANSI_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
PROJECT = Path(__file__).resolve().parents[2]


class Channel:
    """Sends and receives messages over two files."""

    def __init__(self, incoming: BinaryIO, outgoing: BinaryIO) -> None:
        self.incoming, self.outgoing = incoming, outgoing

    def send(self, message: Any) -> None:
        """Send one message."""
        content = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
        self.outgoing.write(struct.pack("<Q", len(content)) + content)
        self.outgoing.flush()

    def receive(self) -> Any:
        """Wait for one message; raises EOFError at the end."""
        head = self.incoming.read(8)
        if len(head) < 8:
            raise EOFError
        return pickle.loads(self.incoming.read(struct.unpack("<Q", head)[0]))  # noqa: S301 - from this project's own process


def execute(file: str, code: Any) -> dict[str, Any]:
    """Run a pair file anew: its own globals begin as they are written."""
    module = types.ModuleType("pair_file")
    module.__file__ = file
    exec(code, module.__dict__)  # noqa: S102 - the user's own code
    return module.__dict__


class KerasSide:
    """Answers for the Keras side."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.code = compile(Path(file).read_text("utf-8"), file, "exec")
        self.namespace = execute(file, self.code)
        check_options(
            file, self.namespace, {n: self.namespace[n] for n in OPTIONS if self.namespace.get(n) is not None}
        )
        self.data: Any = None

    def read(self) -> dict[str, Any]:
        """Call data() and say what the file sets."""
        made = self.namespace["data"]()
        self.data = checked_data(self, made)
        return {"data": self.data}

    def trace(self, zeroed: Any = (), choices: Any = None) -> dict[str, Any]:
        """Train the model and say what every step made."""
        from compare.explain.keras_observer.trace import trace

        inputs, targets, weights = self.data
        count = len(_first(inputs))
        self.batches = schedule(
            count,
            int(self.namespace.get("batch_size", 32)),
            int(self.namespace.get("epochs", 1)),
            self.namespace.get("seed"),
        )
        make = execute(self.file, self.code)["keras_side"]
        self.traced = trace(
            make,
            int(self.namespace.get("seed") or 0),
            inputs,
            targets,
            weights,
            self.namespace.get("class_weight"),
            self.batches,
            zeroed,
            choices,
        )
        return self.traced

    def operations(self, step: int, steps: Any = None) -> dict[str, Any]:
        """Every operation of a step, on PyTorch."""
        from compare.explain.keras_observer.operations import operations

        inputs, targets, weights = self.data
        make = execute(self.file, self.code)["keras_side"]
        taken = self.traced["steps"] if steps is None else steps
        return operations(
            make,
            int(self.namespace.get("seed") or 0),
            inputs,
            targets,
            weights,
            self.namespace.get("class_weight"),
            taken,
            step,
        )


class TorchSide:
    """Answers for the PyTorch side."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.text = Path(file).read_text("utf-8")
        self.code = compile(self.text, file, "exec")

    def investigate(self, data: Any, trace: Any, journal: str, excluded: Any, channel: Channel) -> dict[str, Any]:
        """Compare the side with Keras's trace."""
        from compare.explain.torch_observer.checked_steps import Work
        from compare.explain.torch_observer.investigation import Investigation
        from compare.explain.torch_observer.walk import Journal

        inputs, targets, weights = data

        def ask(what: str, **options: Any) -> Any:
            channel.send({"need": what, "options": options})
            return channel.receive()

        work = Work(lambda: execute(self.file, self.code), inputs, targets, weights, trace)
        work.source = self.text
        own = execute(self.file, self.code).get("parameter_map") or {}
        return Investigation(work, own, ask, Journal(Path(journal), excluded)).run()


def _first(tree: Any) -> np.ndarray:
    found: list[np.ndarray] = []
    each(found.append, tree)
    return found[0]


def checked_data(side: Any, made: Any) -> Any:
    """What data() returned as (inputs, targets, sample weights or None); raises InputError."""
    line = line_of(side.file, "data")
    location = f"{side.file}:{line}: data()"
    if not isinstance(made, tuple | list) or len(made) not in (2, 3):
        raise InputError(f"{location} returned {type(made).__name__}; return inputs, targets as NumPy arrays")
    counts = set()
    for name, tree in zip(("inputs", "targets", "sample weights"), made, strict=False):

        def check(array: Any, name: str = name) -> None:
            if not isinstance(array, np.ndarray):
                raise InputError(f"{location} returned {name} as {type(array).__name__}; return a NumPy array")
            if array.dtype.kind not in "fiub":
                raise InputError(f"{location} returned {name} of dtype {array.dtype}; numbers are needed")
            if array.ndim < 1 or not array.size:
                raise InputError(f"{location} returned {name} of shape {array.shape}; there is nothing to train on")
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise InputError(f"{location} returned {name} with NaN or infinite values")
            counts.add(len(array))

        each(check, tree)
    if len(counts) > 1:
        raise InputError(f"{location} returned arrays of {sorted(counts)} rows; give each input its target")
    return (*[each(_plain, tree) for tree in made], None)[:3]


def _plain(array: np.ndarray) -> np.ndarray:
    """The array in a type that both frameworks take, float32 or int64."""
    array = np.ascontiguousarray(array)
    if array.dtype.kind == "f":
        return array.astype(np.float32)
    return array.astype(np.int64) if array.dtype.kind in "iu" else array


def answer(side: Any, request: dict[str, Any], channel: Channel) -> dict[str, Any]:
    """Do what is asked for; errors are messages, with the pair file's own line where one of its functions raised."""
    options = dict(request["options"])
    if request["do"] == "investigate":
        options["channel"] = channel
    try:
        return {"done": getattr(side, request["do"])(**options)}
    except InputError as error:
        text = str(error)
        return {"error": text if text.startswith(side.file) else f"{side.file}:1: {text}", "kind": "input"}
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        traceback.print_exc()
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == side.file]
        message = f"{type(error).__name__}: {' '.join(ANSI_COLOUR.sub('', str(error)).split())[:600]}"
        raised_in = Path(frames[-1].filename).resolve()
        defect = not lines and PROJECT in raised_in.parents and not isinstance(error, TypeError)
        return {"error": message, "kind": "defect" if defect else "raised", "line": lines[-1] if lines else None}


def main(runner: str, file: str) -> None:
    """Serve requests until standard input ends."""
    channel = Channel(sys.stdin.buffer, os.fdopen(os.dup(1), "wb"))
    os.dup2(2, 1)
    keep_tensorflow_out(runner)
    try:
        side = (TorchSide if runner == REFERENCE_RUNNER else KerasSide)(file)
    except BaseException as error:
        traceback.print_exc()
        channel.send({"error": f"{file}:1: {type(error).__name__}: {error}", "kind": "input"})
        return
    channel.send({"done": "ready"})
    while True:
        try:
            request = channel.receive()
        except EOFError:
            return
        channel.send(answer(side, request, channel))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
