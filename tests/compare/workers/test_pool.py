"""Runners may die, hang or be missing: that comparison has failed, for a reason, and the others go on."""

import importlib.util
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from helpers.small_runs import BACKENDS, STEPS, TINY, Run, run_cases_in, tiny_case

from compare.config.case import load_case, with_fields
from compare.trace.trace import read_trace
from compare.workers.pool import Pool
from compare.workers.tasks import Event

FAULT = "broken_runners.py"


@pytest.fixture(scope="module")
def damaged(pool: Pool, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run in which one runner is killed in mid-training, one raises, and one is as it should be."""
    faults = {"keras-tensorflow": f"{FAULT}:killed", "keras-torch": f"{FAULT}:raises"}
    return run_cases_in(tmp_path_factory.mktemp("damaged") / "out", pool, [tiny_case("lstm")], BACKENDS, faults)


@pytest.fixture(scope="module")
def hindered(damaged: Run, pool: Pool, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run after that, in which one runner hangs and another's backend is not installed."""
    assert damaged.verdict.comparisons
    waiting = {"torch", "repetition", "keras-tensorflow", *(f"member-float32-{seed}" for seed in (1, 2, 3, 4))}
    folder = tmp_path_factory.mktemp("hindered") / "out"
    find_spec = importlib.util.find_spec

    def find_all_but_jax(name: str, *rest: object) -> object:
        return None if name == "jax" else find_spec(name, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importlib.util, "find_spec", find_all_but_jax)

        def on_event(event: Event) -> None:
            if event.kind in ("done", "failed"):
                waiting.discard(event.task.out.name)
            if not waiting:  # only the hanging one is left: no need to wait for as long as an honest one may take
                patch.setattr(pool, "timeout", 1)

        return run_cases_in(folder, pool, [tiny_case("lstm")], BACKENDS, {"keras-torch": f"{FAULT}:hangs"}, on_event)


def error_of(run: Run, runner: str) -> str:
    """The error of a comparison that must have failed, and not differ."""
    comparison = run.comparison("lstm", runner)
    assert comparison.status == "failed"
    assert comparison.first_difference is None
    assert comparison.error is not None
    return comparison.error


def test_a_killed_runner_has_failed(damaged: Run) -> None:
    """A process killed in mid-training fails its comparison, and what it had written can be read."""
    assert error_of(damaged, "keras-tensorflow") == "keras-tensorflow: the process killed by SIGKILL"
    trace = read_trace(damaged.folder / "lstm" / "keras-tensorflow")
    assert 0 < len(trace.rows) < STEPS
    assert not trace.complete


def test_a_runner_that_raises_has_failed(damaged: Run) -> None:
    """An exception of a framework is the comparison's error, in its own words."""
    planted = "keras-torch: RuntimeError: planted: the framework cannot do this"
    assert error_of(damaged, "keras-torch") == planted
    assert not read_trace(damaged.folder / "lstm" / "keras-torch").complete


def test_a_hanging_runner_has_failed(hindered: Run) -> None:
    """A runner that says nothing for longer than the timeout is ended, and its comparison has failed."""
    assert error_of(hindered, "keras-torch") == "keras-torch: the process said nothing for 1 s and was ended"


def test_a_missing_backend_has_failed(hindered: Run) -> None:
    """A backend that is not installed fails its comparison with the command that installs it."""
    assert error_of(hindered, "keras-jax") == "keras-jax: backend jax is not installed; python -m pip install jax"


@pytest.mark.parametrize(("run", "runner"), [("damaged", "keras-jax"), ("hindered", "keras-tensorflow")])
def test_the_others_go_on(run: str, runner: str, request: pytest.FixtureRequest) -> None:
    """Whatever becomes of other runners, one that works agrees, also where it was killed in an earlier run."""
    finished: Run = request.getfixturevalue(run)
    assert finished.comparison("lstm", runner).status == "agrees"
    assert finished.verdict.exit_code == 3
    written = json.loads((finished.folder / "verdict.json").read_text())
    assert written == json.loads(json.dumps(finished.verdict.as_json()))


def test_without_the_reference_nothing_is_compared(pool: Pool, tmp_path: Path) -> None:
    """Where the PyTorch side fails, every comparison has failed, and says whose failure it was and why."""
    faults = {"torch": f"{FAULT}:raises"}
    run = run_cases_in(tmp_path / "out", pool, [tiny_case("lstm")], ["torch", "tensorflow"], faults)
    for runner in ("keras-torch", "keras-tensorflow"):
        assert error_of(run, runner) == "torch: RuntimeError: planted: the framework cannot do this"
    assert run.verdict.exit_code == 3


def process_of(pool: Pool, folder: Path, runner: str) -> dict[str, Any]:
    """Ask a runner for its process and the frameworks in it."""
    backend = "torch" if runner == "torch" else runner.removeprefix("keras-")
    fault = {runner: f"{FAULT}:tells_its_process"}
    run = run_cases_in(folder, pool, [tiny_case("lstm")], [backend], fault)
    return json.loads(error_of(run, f"keras-{backend}").removeprefix(f"{runner}: RuntimeError: "))


# Where TensorFlow is installed Keras imports it both for `fit` and for two directions, whatever its backend is.
IMPORTING = with_fields(load_case("bidirectional_sum"), {**TINY, "training.engine": "fit", "training.epochs": 1})


@pytest.mark.parametrize(
    "runner",
    ["keras-torch", *(pytest.param(r, marks=pytest.mark.slow) for r in ("torch", "keras-tensorflow", "keras-jax"))],
)
def test_no_process_holds_tensorflow_and_torch(pool: Pool, tmp_path: Path, runner: str) -> None:
    """Whatever it has trained, a runner's process holds its own framework, and never TensorFlow beside PyTorch."""
    backend = runner.removeprefix("keras-")
    if runner in ("keras-torch", "keras-jax"):
        assert run_cases_in(tmp_path / "importing", pool, [IMPORTING], [backend]).verdict.agree
    frameworks = process_of(pool, tmp_path / "out", runner)["frameworks"]
    assert backend in frameworks
    assert ("keras" in frameworks) == runner.startswith("keras")
    assert not {"tensorflow", "torch"} <= set(frameworks)


def test_workers_are_kept_warm(pool: Pool, tmp_path: Path) -> None:
    """The next case is trained by the process that has the framework already."""
    first = process_of(pool, tmp_path / "first", "keras-torch")
    assert process_of(pool, tmp_path / "second", "keras-torch") == first


@pytest.mark.slow
@pytest.mark.parametrize("runner", ["torch", "keras-torch"])
def test_an_idle_worker_that_died_is_replaced(pool: Pool, tmp_path: Path, runner: str) -> None:
    """A worker that died while it had nothing to do fails no later task: another one is started."""
    process = process_of(pool, tmp_path / "first", runner)["process"]
    os.kill(process, signal.SIGKILL)
    os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT)  # dead, and not yet noticed
    run = run_cases_in(tmp_path / "second", pool, [tiny_case("lstm")], ["torch"])
    assert run.verdict.exit_code == 0, run.verdict.comparisons[0].error


def test_warm_workers_find_relative_folders(pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that was started in another folder finds the experiment and the trace of a relative path."""
    monkeypatch.chdir(tmp_path)
    assert run_cases_in(Path("out"), pool, [tiny_case()], ["torch"]).verdict.agree


@pytest.mark.slow
def test_what_a_worker_leaves_goes_with_the_pool(tmp_path: Path) -> None:
    """A temporary file that a worker has not removed is there while the pool is, and gone with it."""
    with Pool(tmp_path / "logs", 1) as pool:
        fault = {"torch": f"{FAULT}:leaves_a_file"}
        run = run_cases_in(tmp_path / "out", pool, [tiny_case("lstm")], ["torch"], fault)
        file = Path(error_of(run, "keras-torch").removeprefix("torch: RuntimeError: "))
        assert file.is_file()
    assert not file.parent.exists()


# A framework that cannot be imported, whose process takes longer to unload than it took to fail.
BROKEN = "import atexit, time\natexit.register(time.sleep, 0.3)\nraise ImportError('planted: no such library')\n"


def test_a_framework_that_cannot_be_imported_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a process ends by itself its exit code is told, however long that takes, and its last words are kept."""
    (tmp_path / "torch.py").write_text(BROKEN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    with Pool(tmp_path / "logs", 1) as pool:
        run = run_cases_in(tmp_path / "out", pool, [tiny_case("lstm")], ["torch"])
    assert error_of(run, "keras-torch") == "torch: the process exited with code 1"
    assert "ImportError: planted: no such library" in (run.comparison("lstm", "keras-torch").log or "")
