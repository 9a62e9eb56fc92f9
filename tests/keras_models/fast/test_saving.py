"""A model is saved the same with fast layers and with Keras's own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.fast_probes import CELLS
from helpers.framework_processes import FrameworkProcesses

SIDE = "keras-torch"
TOLERANCE = 1e-6

# A process that has Keras and nothing of this repository.
LOAD = """
import json, sys, keras, numpy as np
sys.modules["keras_models"] = None
model = keras.saving.load_model(sys.argv[1])
classes = [type(layer).__module__ for layer in model._flatten_layers() if isinstance(layer, keras.layers.RNN)]
print(json.dumps([classes, np.array(model.predict_on_batch(np.array(json.loads(sys.argv[2])))).tolist()]))
"""
SYMBOLS = [[1, 2, 3, 0, 0], [4, 5, 6, 7, 8]]


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("cell", CELLS)
def test_files_go_both_ways(frameworks: FrameworkProcesses, cell: str, suffix: str, tmp_path: Path) -> None:
    """The configuration is the same to the letter, and each file is loaded as stock layers or as fast ones."""
    files = {package: tmp_path / f"{package}{suffix}" for package in ("stock", "fast")}
    configurations, predictions = {}, {}
    for package, file in files.items():
        configurations[package], predictions[package] = frameworks.call(
            SIDE, "fast_switch_probes.save", package, cell, file
        )
    assert json.dumps(configurations["fast"]) == json.dumps(configurations["stock"])
    for package, file in files.items():
        for enabled in (False, True):
            classes, obtained = frameworks.call(SIDE, "fast_switch_probes.load", file, enabled)
            assert [name.startswith("keras_models.fast.") for name in classes] == [enabled] * 2
            np.testing.assert_allclose(obtained, predictions[package], atol=TOLERANCE)


@pytest.mark.slow  # the test above finds every file's configuration to be Keras's own
def test_a_file_of_fast_layers_needs_keras_alone(frameworks: FrameworkProcesses, tmp_path: Path) -> None:
    """Keras without this package loads a model that was saved with fast layers, on another backend too."""
    file = tmp_path / "fast.keras"
    frameworks.call(SIDE, "fast_switch_probes.save", "fast", "GRU", file)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-W", "ignore", "-c", LOAD, str(file), json.dumps(SYMBOLS)]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment | {"KERAS_BACKEND": "jax"}, check=True, cwd=tmp_path
    )
    classes, predictions = json.loads(done.stdout)
    assert classes == ["keras.src.layers.rnn.gru"] * 2
    assert np.shape(predictions) == (2, 5, 2)
