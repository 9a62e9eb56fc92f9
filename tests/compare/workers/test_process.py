"""A child process does what its service does; however it ends, that is said and nothing is left behind."""

import ast
import importlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.paths import ROOT

from compare.bench.bench import Child
from compare.explain.processes import Sides
from compare.sweep.judging import SERVICES
from compare.workers import process as process_module
from compare.workers.pool import Pool
from compare.workers.process import ChildProcess, ProcessError
from compare.workers.protocol import Answer, Failed, Progress, Ready, Request

PROBE = "tests.helpers.child_services:Probe"

# Nothing that a probe does takes long; on a busy machine Python itself may.
PATIENCE_SECONDS = 60


@pytest.fixture
def child() -> Iterator[ChildProcess]:
    """A child that is ready."""
    process = ChildProcess(PROBE, "torch", 1)
    assert process.receive(PATIENCE_SECONDS) == Ready()
    yield process
    process.end()
    assert not process.folder.exists()


def ask(child: ChildProcess, action: str, **options: object) -> object:
    """The reply to a request."""
    child.send(Request(action, options))
    return child.receive(PATIENCE_SECONDS)


def test_requests_are_answered_in_turn(child: ChildProcess) -> None:
    """Each request gets its progress and its answer, with arrays, by the same process."""
    for number in (1, 2):
        child.send(Request("double", {"number": number}, {"a": np.full(3, number, "float32")}))
        assert child.receive(PATIENCE_SECONDS) == Progress(1, 0.5)
        answer = child.receive(PATIENCE_SECONDS)
        assert answer.facts == {"number": number, "runner": "torch"}
        assert answer.tensors["a"].tolist() == [2 * number] * 3


def test_failures_are_told_and_the_child_goes_on(child: ChildProcess) -> None:
    """What a service raises arrives in its own words without colours; what it returns arrives as it is."""
    assert ask(child, "raises") == Failed("RuntimeError: planted: it cannot be done")
    assert ask(child, "refuses") == Failed("planted: line 3 is wrong", "refused", 3)
    assert ask(child, "prints") == Answer()


def test_what_is_printed_goes_to_the_log(child: ChildProcess) -> None:
    """Whatever writes to standard output or error, nothing of it is among the messages, all of it in the log."""
    assert ask(child, "prints") == Answer()
    assert sorted(child.log.read_text().splitlines()) == ["an error", "printed by C", "printed by Python"]


@pytest.mark.parametrize(
    ("signal", "how"),
    [
        (None, "exited with code 7"),
        ("SIGKILL", "killed by SIGKILL"),
        ("SIGSEGV", "killed by SIGSEGV"),
        ("SIGABRT", "killed by SIGABRT"),
    ],
    ids=["exit", "killed", "segmentation-fault", "heap-corruption"],
)
def test_how_a_child_ended_is_said(child: ChildProcess, signal: str | None, how: str) -> None:
    """A child that ends by itself is told from one that was ended: its exit code, or its signal by name."""
    with pytest.raises(ProcessError, match=how) as ended:
        ask(child, "dies", signal=signal)
    assert ended.value.died
    assert not child.alive


def test_a_silent_child_is_ended(child: ChildProcess) -> None:
    """A child that says nothing for longer than the timeout is ended, and that is not called its own death."""
    child.send(Request("hangs"))
    with pytest.raises(ProcessError, match=r"said nothing for 0\.2 s and was ended") as ended:
        child.receive(0.2)
    assert not ended.value.died
    assert not child.alive


@pytest.mark.parametrize(
    "line", ["malloc(): corrupted", '{"message": "Answer"}', '{"message": "Request"}'], ids=["text", "fields", "type"]
)
def test_a_malformed_message_is_reported_and_not_believed(child: ChildProcess, line: str) -> None:
    """A reply that is no message ends the child, with the line shown."""
    with pytest.raises(ProcessError, match="sent what is no message") as ended:
        ask(child, "babbles", line=line)
    assert line in str(ended.value)
    assert not child.alive


def test_a_malformed_request_is_reported(child: ChildProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that is sent what is no request says so, and serves the next one."""
    with monkeypatch.context() as patch:
        patch.setattr(process_module, "encode", lambda *_: b"nonsense\n")
        reply = ask(child, "prints")
    assert reply == Failed("ProtocolError: no JSON: 'nonsense'", "defect")
    assert ask(child, "prints") == Answer()


def test_a_child_that_cannot_start_says_why() -> None:
    """Where what a service works with cannot be imported the last words of the process are kept."""
    child = ChildProcess(PROBE, "broken", 1)
    with pytest.raises(ProcessError, match="exited with code 1") as ended:
        child.receive(PATIENCE_SECONDS)
    assert ended.value.log.endswith("ImportError: planted: no such library")
    assert not child.folder.exists()


def test_nothing_is_left_behind(child: ChildProcess) -> None:
    """What a child has not removed goes with it, and so does its process, also while it works."""
    facts = ask(child, "leaves_a_file").facts
    assert Path(facts["file"]).parent == child.folder
    child.send(Request("hangs"))
    child.end()
    assert not child.folder.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(facts["process"], 0)


def test_a_child_ends_with_its_pipe(child: ChildProcess) -> None:
    """A child whose parent is gone ends by itself, in the midst of its work."""
    process = ask(child, "leaves_a_file").facts["process"]
    child.send(Request("hangs"))
    child._stdin.close()
    end = time.monotonic() + PATIENCE_SECONDS
    while child.alive:
        assert time.monotonic() < end, f"process {process} still runs"
        time.sleep(0.05)
    assert not child.folder.exists(), "nobody else is left to remove it"


class Started(Exception):
    """Raised in place of a process's start."""


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands of processes that are not started."""
    seen: list[list[str]] = []

    def refuse(command: list[str], **_: object) -> None:
        seen.append(command)
        raise Started

    monkeypatch.setattr(process_module, "subprocess", SimpleNamespace(Popen=refuse, PIPE=None))
    return seen


START = {
    "training": lambda folder: Pool(folder, 1).open("torch"),
    "judge": lambda folder: Pool(folder, 1, services=SERVICES).open("judge"),
    "explain": lambda folder: Sides("torch").__enter__(),
    "bench": lambda folder: Child("torch", "stock", folder),
}


@pytest.mark.parametrize("kind", START)
def test_every_child_is_the_one_child_module(kind: str, commands: list[list[str]], tmp_path: Path) -> None:
    """Trainings, judges, the sides of a pair and timed rounds are services of one module, each of which exists."""
    with pytest.raises(Started):
        START[kind](tmp_path)
    (command,) = commands
    assert command[1:3] == ["-m", "compare.workers.child"]
    module, _, factory = command[3].partition(":")
    assert module.startswith("compare.")
    if kind == "judge":  # the others bring a framework with them
        assert callable(getattr(importlib.import_module(module), factory)("judge"))
    else:
        source = ast.parse((ROOT / module.replace(".", "/")).with_suffix(".py").read_text("utf-8"))
        assert factory in {node.name for node in source.body if isinstance(node, ast.ClassDef)}


# Where processes may be started: children, the question which packages another interpreter has, git, and ruff.
STARTING = {
    "compare/workers/process.py",
    "compare/workers/interpreters.py",
    "compare/explain/two_alike.py",
    "compare/port/formatting.py",
}


def starting_processes(sources: dict[str, str]) -> set[str]:
    """The files that import what starts a process."""
    modules = {"subprocess", "multiprocessing", "concurrent.futures.process"}
    return {
        name
        for name, text in sources.items()
        for node in ast.walk(ast.parse(text))
        if (isinstance(node, ast.Import) and modules & {alias.name for alias in node.names})
        or (isinstance(node, ast.ImportFrom) and node.module in modules)
        or (isinstance(node, ast.Name) and node.id == "ProcessPoolExecutor")
    }


def test_no_other_file_starts_processes() -> None:
    """No room has a protocol of its own: nothing else in the package starts a process, and one that did is seen."""
    files = {str(file.relative_to(ROOT)): file.read_text("utf-8") for file in (ROOT / "compare").rglob("*.py")}
    assert starting_processes(files) == STARTING
    planted = {"compare/bench/bench.py": files["compare/bench/bench.py"] + "\nimport subprocess\n"}
    assert starting_processes(planted) == set(planted)
