"""Which backends are used, and in which environment their processes run."""

import importlib.util

import pytest

from compare.errors import InputError, nearest
from compare.workers.backends import (
    BACKENDS,
    check_device,
    choose_backends,
    device_of_process,
    version,
    worker_environment,
)


@pytest.mark.parametrize(
    ("requested", "environment", "chosen"),
    [
        pytest.param(None, {}, ["tensorflow", "torch", "jax"], id="all-installed"),
        pytest.param(None, {"KERAS_BACKEND": "jax"}, ["jax"], id="environment"),
        pytest.param(None, {"KERAS_BACKEND": ""}, ["tensorflow", "torch", "jax"], id="empty-environment"),
        pytest.param(["torch"], {"KERAS_BACKEND": "jax"}, ["torch"], id="option-goes-first"),
        pytest.param(["jax", "torch", "jax"], {}, ["jax", "torch"], id="each-once"),
    ],
)
def test_backends_are_chosen(requested: list[str] | None, environment: dict[str, str], chosen: list[str]) -> None:
    """The option goes before KERAS_BACKEND, and that before all that are installed."""
    assert choose_backends(requested, environment) == chosen


@pytest.mark.parametrize(
    ("requested", "environment", "source"),
    [(["tensorflw"], {}, "--backend"), (None, {"KERAS_BACKEND": "tensorflw"}, "KERAS_BACKEND")],
    ids=["option", "environment"],
)
def test_unknown_backends_name_the_nearest(
    requested: list[str] | None, environment: dict[str, str], source: str
) -> None:
    """An unknown backend is refused with where it was given, the nearest name and all names."""
    with pytest.raises(InputError, match=rf"^{source}: .*did you mean 'tensorflow'\? accepted: jax, tensorflow, torch"):
        choose_backends(requested, environment)


def test_no_backend_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """With none installed, what could be installed is named."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None)
    assert [version(name) for name in BACKENDS] == [None, None, None]
    with pytest.raises(InputError, match="install one of: tensorflow, torch, jax"):
        choose_backends(None, {})


@pytest.mark.parametrize(
    ("runner", "backend"),
    [("torch", None), ("keras-torch", "torch"), ("keras-jax", "jax"), ("keras-tensorflow", "tensorflow")],
)
def test_each_runner_has_its_own_backend(runner: str, backend: str | None) -> None:
    """A Keras runner gets its own KERAS_BACKEND whatever the user's is, and the PyTorch side gets none."""
    environment = worker_environment(runner, threads=2, environment={"KERAS_BACKEND": "openvino", "HOME": "/home"})
    assert environment.get("KERAS_BACKEND") == backend
    assert environment["OMP_NUM_THREADS"] == "2"
    assert environment["HOME"] == "/home"


def test_every_runner_is_told_its_device() -> None:
    """On the CPU no runner sees a GPU, which some frameworks would take by themselves; with cuda all do."""
    variables = [
        worker_environment(runner, 1, {"CUDA_VISIBLE_DEVICES": "0"}, "cpu") for runner in ("torch", "keras-jax")
    ]
    for environment in variables:
        assert environment["CUDA_VISIBLE_DEVICES"] == ""
        assert environment["JAX_PLATFORMS"] == environment["KERAS_TORCH_DEVICE"] == "cpu"
        assert device_of_process(environment) == "cpu"
    environment = worker_environment("keras-torch", 1, {"CUDA_VISIBLE_DEVICES": "0"}, "cuda")
    assert environment["CUDA_VISIBLE_DEVICES"] == "0"
    assert device_of_process(environment) == environment["KERAS_TORCH_DEVICE"] == "cuda"


def test_an_unknown_device_is_refused() -> None:
    """A device that no runner has is told with those that they have."""
    with pytest.raises(InputError, match=r"--device 'gpu' is unknown; .*accepted: cpu, cuda"):
        check_device("gpu")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lstn", "did you mean 'lstm'? accepted: gru, lstm, simple_rnn"),
        ("transformer", "accepted: gru, lstm, simple_rnn"),
        ("", "accepted: gru, lstm, simple_rnn"),
    ],
)
def test_nearest_names(name: str, message: str) -> None:
    """A near name is suggested, a far one is not, and all are listed."""
    assert nearest(name, ["simple_rnn", "lstm", "gru"]) == message
