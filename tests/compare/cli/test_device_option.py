"""The device that the command line asks for reaches every runner, and is what the run says of itself."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.small_runs import TINY

from compare.errors import InputError
from compare.workers.pool import Pool

CASE = ["lstm", "--backend", "torch", *(part for name, value in TINY.items() for part in ("--set", f"{name}={value}"))]
COMMANDS = {
    "run": ["run", *CASE, "--out", "out"],
    "record": ["record", *CASE, "--golden", "out"],
    "sweep": ["sweep", "sweep.toml", "--out", "out"],
    "check": ["check", "--golden", "{golden}", "--out", "out"],
}


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_hands_its_device_on(
    command: Callable, monkeypatch: pytest.MonkeyPatch, recorded: Path, name: str, device: str
) -> None:
    """What opens a runner's process is told the device, by every command that trains."""

    def told(pool: Pool, runner: str) -> None:
        raise InputError(f"{runner} is to be on {pool.device}")

    monkeypatch.setattr(Pool, "open", told)
    Path("sweep.toml").write_text('case = "lstm"\nbackends = ["torch"]\nseeds = [0]\n', "utf-8")
    arguments = [argument.format(golden=recorded) for argument in COMMANDS[name]]
    assert f"torch is to be on {device}" in command(*arguments, "--device", device, "--jobs", "1", "--quiet").errors


@pytest.mark.slow
def test_a_run_and_each_of_its_traces_say_the_device(command: Callable) -> None:
    """The device is in run.json and in every trace; given another, the folder is of another run."""
    arguments = ("run", *CASE, "--set", "training.epochs=1", "--out", "out", "--quiet", "--device")
    assert command(*arguments, "cpu").code == 0
    assert json.loads(Path("out/run.json").read_text("utf-8"))["device"] == "cpu"
    manifests = [json.loads(file.read_text("utf-8")) for file in Path("out").rglob("manifest.json")]
    assert len(manifests) == 7  # both sides, four members and the repetition
    assert {manifest["execution"]["device"] for manifest in manifests} == {"cpu"}
    outcome = command(*arguments, "cuda")
    assert (outcome.code, "it may hold another run" in outcome.errors) == (2, True)
    with pytest.MonkeyPatch.context() as none_seen:
        none_seen.setenv("CUDA_VISIBLE_DEVICES", "")
        elsewhere = ["elsewhere" if argument == "out" else argument for argument in arguments]
        outcome = command(*elsewhere, "cuda")
    assert (outcome.code, json.loads(Path("elsewhere/run.json").read_text("utf-8"))["device"]) == (3, "cuda")
    (comparison,) = json.loads(Path("elsewhere/verdict.json").read_text("utf-8"))["comparisons"]
    assert "device cuda was asked for" in comparison["error"]
