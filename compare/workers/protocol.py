"""What a parent and its child processes say to each other: a JSON line for each message, arrays in safetensors files.

A child says `Ready` once; each `Request` is then answered by any number of `Progress` and `Doing`, and one `Answer` or
`Failed`.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, Protocol, get_args, get_origin, get_type_hints

import numpy as np

from compare.storage import read_tensors, write_tensors

# How much is shown of a line that is no message.
SHOWN_CHARACTERS = 80


@dataclass(frozen=True)
class Request:
    """What a child is asked to do; the options are JSON values."""

    action: str
    options: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Ready:
    """The child has imported what it works with."""


@dataclass(frozen=True)
class Progress:
    """How far a training is."""

    epoch: int
    loss: float


@dataclass(frozen=True)
class Doing:
    """What a child is at, which its parent knows should the child die in it, and how many seconds that may take."""

    what: str
    seconds: float | None = None


@dataclass(frozen=True)
class Answer:
    """What came of a request; the facts are JSON values."""

    facts: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Failed:
    """Why a request was not done, and where in the user's file, if known.

    What it was asked to do `raised`, its input was `refused`, or the fault is a `defect` of this project.
    """

    error: str
    kind: Literal["raised", "refused", "defect"] = "raised"
    line: int | None = None


Reply = Ready | Progress | Doing | Answer | Failed
REPLIES = (Ready, Progress, Doing, Answer, Failed)


class Service(Protocol):
    """What a child process does, one request after the other, in the same state; its exceptions are failures."""

    def __call__(self, request: Request, report: Callable[[Progress | Doing], None]) -> Answer | Failed: ...


class ProtocolError(ValueError):
    """A line that is no message."""


def encode(message: Request | Reply, file: Path) -> bytes:
    """Write a message as a line; its arrays, if any, go into a file."""
    content = {"message": type(message).__name__, **vars(message)}
    if "tensors" in content:
        if content["tensors"]:
            write_tensors(file, content["tensors"])
        content["tensors"] = str(file) if content["tensors"] else None
    return json.dumps(content).encode() + b"\n"


def decode(line: bytes, types: tuple[type[Any], ...]) -> Any:
    """Read a message of one of some types; raises ProtocolError for anything else."""

    def refuse(reason: str) -> ProtocolError:
        shown = line[:SHOWN_CHARACTERS].decode("utf-8", errors="replace").rstrip()
        return ProtocolError(f"{reason}: {shown!r}")

    try:
        content = json.loads(line)
    except ValueError:
        raise refuse("no JSON") from None
    name = content.pop("message", None) if isinstance(content, dict) else None
    message_type = next((candidate for candidate in types if candidate.__name__ == name), None)
    if message_type is None:
        raise refuse(f"not one of {', '.join(candidate.__name__ for candidate in types)}")
    if content.keys() != {entry.name for entry in fields(message_type)}:
        raise refuse(f"other fields than {name} has")
    if "tensors" in content:
        path = content["tensors"]
        content["tensors"] = {} if path is None else read_tensors(Path(path)) if isinstance(path, str) else None
        if content["tensors"] is None:
            raise refuse("its arrays cannot be read")
    for key, hint in get_type_hints(message_type).items():
        if not _is_of(content[key], hint):
            raise refuse(f"{key} is of another type than {name} has")
    return message_type(**content)


def _is_of(value: Any, hint: Any) -> bool:
    origin = get_origin(hint)
    if origin is Literal:
        return value in get_args(hint)
    return isinstance(value, dict if origin is dict else hint)
