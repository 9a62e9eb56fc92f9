"""What a parent and a child say to each other arrives as it was sent; what is no message is refused."""

import json
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from compare.workers.protocol import (
    REPLIES,
    Answer,
    Doing,
    Failed,
    Progress,
    ProtocolError,
    Ready,
    Request,
    decode,
    encode,
)
from compare.workers.tasks import Member, Task, task_of

MESSAGES = [
    Request("train", {"epochs": 3, "folder": None}),
    Ready(),
    Progress(2, 0.25),
    Doing("a step", 20.0),
    Doing("another"),
    Answer({"seconds": 1.5}),
    Failed("it cannot be done"),
    Failed("line 3 is wrong", "refused", 3),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_arrives_as_it_was_sent(message: object, tmp_path: Path) -> None:
    """Every type of message is the same after it was written and read, and takes one line."""
    line = encode(message, tmp_path / "arrays")
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert decode(line, (Request, *REPLIES)) == message
    assert not list(tmp_path.iterdir()), "without arrays there is no file"


@pytest.mark.parametrize("kind", [Request, Answer], ids=["request", "answer"])
def test_arrays_arrive_bit_for_bit(kind: type, tmp_path: Path) -> None:
    """Arrays of any dtype and shape keep their bits, NaN and a transposed order too."""
    tensors = {
        "a": np.array([[0.1, np.nan, -0.0]], "float32").T,
        "b": np.float64(1 / 3) * np.ones(()),
        "c": np.zeros((0, 2), "int64"),
    }
    read = decode(encode(kind("x" if kind is Request else {}, tensors=tensors), tmp_path / "arrays"), (kind,))
    assert read.tensors.keys() == tensors.keys()
    for name, array in tensors.items():
        assert (read.tensors[name].dtype, read.tensors[name].shape) == (array.dtype, array.shape)
        assert read.tensors[name].tobytes() == array.tobytes()


@pytest.mark.parametrize(
    "changes",
    [
        {"message": "Answered"},
        {"message": None},
        {"message": "Request"},
        {"epoch": "two"},
        {"epoch": None},
        {"extra": 1},
        {"loss": ...},
        {"message": "Answer"},
    ],
    ids=["unknown", "none", "not from a child", "type", "null", "extra", "missing", "other fields"],
)
def test_what_is_no_message_is_refused(changes: dict, tmp_path: Path) -> None:
    """A line with another name, field or type than a message has is refused, and shown."""
    content = json.loads(encode(Progress(2, 0.25), tmp_path / "arrays")) | changes
    line = json.dumps({name: value for name, value in content.items() if value is not ...}).encode()
    with pytest.raises(ProtocolError, match=r'"message"|"epoch"'):
        decode(line, REPLIES)


@pytest.mark.parametrize("line", [b"", b"Segmentation fault", b"[1]", b"3", b"\xff\xfe", b'{"message": "Ready"'])
def test_what_is_no_json_object_is_refused(line: bytes) -> None:
    """Anything but an object in JSON is refused."""
    with pytest.raises(ProtocolError):
        decode(line, REPLIES)


@pytest.mark.parametrize("damage", ["missing", "cut", "number"])
def test_damaged_arrays_are_refused(damage: str, tmp_path: Path) -> None:
    """A message whose arrays cannot be read is not believed to have none."""
    file = tmp_path / "arrays"
    line = encode(Answer({}, {"a": np.ones(3)}), file)
    if damage == "missing":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(file.read_bytes()[:-1])
    else:
        line = line.replace(json.dumps(str(file)).encode(), b"3")
    with pytest.raises(ProtocolError, match="its arrays cannot be read"):
        decode(line, REPLIES)


def test_a_task_arrives_as_it_was_sent(tmp_path: Path) -> None:
    """Every field of a task that a worker needs is the same after it was asked for, its paths being absolute."""
    sent = Task(
        "torch", "lstm", Path("a"), Path("b"), Path("c"), Member("float32", 3), "f.py:g", sample=2, backends=("jax",)
    )
    defaults = {field.name for field in fields(Task) if getattr(sent, field.name) == field.default}
    assert defaults == {"after"}, "what a task waits for is the pool's business"
    arrived = task_of(decode(encode(sent.request(), tmp_path / "arrays"), (Request,)))
    paths = {name: Path(name).absolute() for name in ("a", "b", "c")}
    assert arrived == replace(sent, experiment=paths["a"], out=paths["b"], reference=paths["c"])
