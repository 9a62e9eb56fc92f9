"""A harness that is interrupted, or dies, leaves readable traces and no process behind."""

import functools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from compare.trace.trace import read_trace

PS = shutil.which("ps") or "ps"

# How long to wait for what must come, on a machine however busy; nothing is asserted about how soon it does.
PATIENCE_SECONDS = 120


def wait_for(condition) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < end, f"{condition.__name__} did not come true"
        time.sleep(0.1)


def children_of(process: int) -> set[int]:
    """The processes that a process has started, and those started by these."""
    table = subprocess.run([PS, "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = {int(pid): int(parent) for pid, parent in (line.split() for line in table.splitlines())}
    children = {pid for pid, parent in parents.items() if parent == process}
    return children.union(*(children_of(pid) for pid in children))


def running(processes: set[int]) -> set[int]:
    """Those of some processes that have not ended; one that only waits to be reaped has."""
    given = ",".join(map(str, processes))
    table = subprocess.run([PS, "-o", "pid=,stat=", "-p", given], capture_output=True, text=True).stdout
    return {int(pid) for pid, state in (line.split() for line in table.splitlines()) if not state.startswith("Z")}


@pytest.fixture
def training(tmp_path: Path, environment: dict[str, str]) -> Iterator[tuple[subprocess.Popen, set[int]]]:
    """A command in the middle of a training that would take for ever, and the processes that it has started."""
    command = [sys.executable, "-m", "compare", "run", "lstm", "--backend", "torch", "--epochs", "100000"]
    command += ["--set", "data.points=60", "--out", "out", "--quiet"]
    # Tests run in the background of a shell inherit an ignored SIGINT, which no user's terminal passes on.
    heed_interrupts = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,
    ) as process:
        steps = tmp_path / "out" / "lstm" / "torch" / "steps.bin"

        def some_steps_are_written() -> bool:
            assert process.poll() is None, process.stderr.read()
            return steps.is_file() and steps.stat().st_size > 0

        wait_for(some_steps_are_written)
        workers = children_of(process.pid)
        assert workers
        yield process, workers
        for left in running(workers | {process.pid}):
            os.kill(left, signal.SIGKILL)


def test_ctrl_c_ends_everything(training: tuple[subprocess.Popen, set[int]], tmp_path: Path) -> None:
    """After Ctrl-C the exit code is 130, no process is left, and the traces can be read as far as they were written."""
    process, workers = training
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 130
    assert running(workers) == set()
    assert output == ""
    assert errors == "rnn-parity: interrupted; the traces written so far are kept\n"
    trace = read_trace(tmp_path / "out" / "lstm" / "torch")
    assert len(trace.rows) > 0
    assert not trace.complete
    assert not (tmp_path / "out" / "verdict.json").exists()


def test_workers_end_with_a_killed_harness(training: tuple[subprocess.Popen, set[int]]) -> None:
    """Where the harness is killed, and can do nothing more, its workers notice and end."""
    process, workers = training
    process.kill()
    process.wait(PATIENCE_SECONDS)

    def no_worker_is_left() -> bool:
        return not running(workers)

    wait_for(no_worker_is_left)
