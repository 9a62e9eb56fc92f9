"""A sweep on Ray: the same verdicts, whatever becomes of a worker."""

import importlib.util
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.sweep_runs import CASES, TRAININGS, finish_sweep, records, start_sweep, trainings, verdicts


@pytest.fixture
def locally(finished_sweep: tuple[Path, dict[str, int]]) -> Path:
    """The folder of a sweep that ran on this machine without Ray."""
    return finished_sweep[0]


@pytest.mark.slow
def test_a_killed_actor_is_replaced_and_the_verdicts_are_the_same(
    tmp_path: Path, environment: dict[str, str], locally: Path
) -> None:
    """On a cluster started here a killed worker is replaced, which is said; each verdict is the same to the byte."""
    counts, errors = finish_sweep(start_sweep(tmp_path, {**environment, "KILLED": "keras-torch"}, "--on", "ray"))
    assert counts == {"cases": 3, "agree": 3, "differ": 0, "failed": 0, "skipped": 0, "comparisons": 3}
    (said,) = [line for line in errors.splitlines() if "tried again" in line]
    assert "keras-torch: the process ended" in said
    assert verdicts(tmp_path) == verdicts(locally)
    assert trainings(tmp_path) == trainings(locally)
    assert {record["run"]["on"] for record in records(tmp_path)} == {"ray"}
    # What was done on Ray is found by a sweep without it.
    counts, _ = finish_sweep(start_sweep(tmp_path, environment))
    assert counts["skipped"] == CASES
    assert trainings(tmp_path).total() == TRAININGS


CLUSTER = """
import ray, sys
print(ray.init("local", num_cpus=2, include_dashboard=False).address_info["gcs_address"], flush=True)
sys.stdin.read()
"""


@pytest.fixture
def cluster(environment: dict[str, str]) -> Iterator[dict[str, str]]:
    """A running cluster that wants a token, and the environment of those who know its token and its address."""
    own = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "of-this-test-alone-0123456789", "RAY_USAGE_STATS_ENABLED": "0"}
    known = {**environment, **own}
    with subprocess.Popen(
        [sys.executable, "-c", CLUSTER],
        env={**known, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        yield {**known, "CLUSTER": process.stdout.readline().strip()}


@pytest.mark.slow
def test_a_running_cluster_serves(tmp_path: Path, cluster: dict[str, str], locally: Path) -> None:
    """On a cluster that is there already, given by its address, the verdicts are the same to the byte."""
    counts, _ = finish_sweep(start_sweep(tmp_path, cluster, "--on", "ray", "--address", cluster["CLUSTER"]))
    assert (counts["cases"], counts["agree"], counts["skipped"]) == (CASES, CASES, 0)
    assert verdicts(tmp_path) == verdicts(locally)


@pytest.mark.slow
def test_another_seed_is_seen(locally: Path) -> None:
    """The comparison of verdicts is of something: those of different seeds are not the same."""
    assert len(set(verdicts(locally).values())) == CASES


@pytest.fixture
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which Ray is not installed."""
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "ray" else find_spec(name, *rest)
    )


@pytest.mark.usefixtures("without_ray")
def test_without_ray_the_way_to_install_it_is_said(command: Callable) -> None:
    """Where Ray is missing the command says how to install it and exits 2."""
    Path("sweep.toml").write_text('case = "lstm"\n')
    code, output, errors = command("sweep", "sweep.toml", "--on", "ray")
    assert (code, output) == (2, "")
    assert "python -m pip install 'rnn-parity[ray]'" in errors
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("address", "message"),
    [("127.0.0.1:9", "no Ray cluster answers there"), ("nonsense", "is not HOST:PORT")],
    ids=["nobody", "no-address"],
)
def test_an_address_without_a_cluster_is_refused(command: Callable, address: str, message: str) -> None:
    """An address at which nothing answers is a user's mistake: exit code 2, one line."""
    Path("sweep.toml").write_text('case = "lstm"\n')
    code, output, errors = command("sweep", "sweep.toml", "--on", "ray", "--address", address)
    assert (code, output) == (2, "")
    assert errors.startswith(f"rnn-parity: --address {address}")
    assert message in errors
    assert errors.count("\n") == 1
