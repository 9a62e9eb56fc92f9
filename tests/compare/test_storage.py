"""Hashes see everything, and files are whole or not there."""

import os
from pathlib import Path

import numpy as np
import pytest
from helpers.small_runs import tiny_case

from compare.config.case import Case
from compare.errors import InputError
from compare.experiment.experiment import make_experiment, read_experiment, write_experiment
from compare.storage import digest, file_to_write, read_tensors, write_json, write_tensors

ARRAYS = {"a": np.arange(12, dtype=np.float32).reshape(3, 4), "b": np.ones(2, dtype=np.float32)}


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"a": ARRAYS["a"].astype(np.float64)}, id="dtype"),
        pytest.param({"a": ARRAYS["a"].reshape(4, 3)}, id="shape"),
        pytest.param({"a": np.nextafter(ARRAYS["a"], np.float32(99))}, id="last-bit"),
        pytest.param({"a": ARRAYS["a"][:, ::-1]}, id="order"),
        pytest.param({"c": ARRAYS["b"]}, id="another-array"),
        pytest.param({"a": ARRAYS["b"], "b": ARRAYS["a"]}, id="names-swapped"),
    ],
)
def test_hashes_differ(change: dict[str, np.ndarray]) -> None:
    """A hash changes with the names, dtypes, shapes and bytes of the arrays."""
    assert digest(ARRAYS | change) != digest(ARRAYS)


def test_hashes_of_equal_arrays_are_equal() -> None:
    """A hash depends neither on the order of the names nor on how the memory is laid out."""
    assert digest(dict(reversed(ARRAYS.items()))) == digest(ARRAYS)
    assert digest(ARRAYS | {"a": np.asfortranarray(ARRAYS["a"])}) == digest(ARRAYS)
    series = np.arange(3e5)
    views = np.lib.stride_tricks.sliding_window_view(series, 10)
    assert digest({"x": views}) == digest({"x": views.copy()})
    assert digest({"x": views[:-1]}) != digest({"x": views})


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    """What cannot be written leaves what was there."""
    file = tmp_path / "facts.json"
    write_json(file, {"a": 1})
    with pytest.raises(TypeError):
        write_json(file, {"a": object()})
    assert file.read_text() == '{\n "a": 1\n}'


def test_tensors_are_read_to_the_last_bit(tmp_path: Path) -> None:
    """Tensors of any memory layout are read as they were written; a missing file is None."""
    tensors = ARRAYS | {"view": ARRAYS["a"].T, "whole": np.arange(3, dtype=np.int32)}
    write_tensors(tmp_path / "t.safetensors", tensors)
    obtained = read_tensors(tmp_path / "t.safetensors")
    assert obtained is not None
    assert digest(obtained) == digest(tensors)
    assert read_tensors(tmp_path / "missing.safetensors") is None


def test_an_experiment_is_the_same_after_reading(tmp_path: Path) -> None:
    """What a worker reads from disk is what the harness made: windows, schedule, weights and scaling."""
    experiment = make_experiment(tiny_case("gru", {"data.horizon": 2, "dtype": "float64"}))
    write_experiment(experiment, tmp_path / "experiment")
    obtained = read_experiment(tmp_path / "experiment", Case.model_validate)
    assert obtained.case == experiment.case
    assert obtained.scaling == experiment.scaling
    assert obtained.steps == experiment.steps == 18
    for part in ("training_inputs", "training_targets", "test_inputs", "test_targets"):
        assert digest({part: getattr(obtained.windows, part)}) == digest({part: getattr(experiment.windows, part)})
    assert digest(obtained.weights) == digest(experiment.weights)
    assert digest({"schedule": obtained.schedule}) == digest({"schedule": experiment.schedule})


@pytest.mark.parametrize("damaged", ["series.safetensors", "weights.safetensors"])
def test_a_damaged_experiment_is_refused(tmp_path: Path, damaged: str) -> None:
    """An experiment that is not whole raises ValueError rather than being trained on."""
    write_experiment(make_experiment(tiny_case()), tmp_path / "experiment")
    file = tmp_path / "experiment" / damaged
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ValueError, match="holds no whole experiment"):
        read_experiment(tmp_path / "experiment")


def test_a_file_without_permission_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that this user may not write is refused before the work, whose table it would have held."""
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(InputError, match=r"--write .* cannot be written: permission denied"):
        file_to_write("--write", tmp_path / "power.md")
