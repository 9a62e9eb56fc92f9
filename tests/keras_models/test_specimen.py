"""What is compared with PyTorch is Keras as it is: nothing of this project has changed it."""

import json
import os
import subprocess
import sys

from helpers.paths import ROOT

CODE = """
import json, sys
sys.modules["tensorflow"] = None
import keras
from helpers.mirror_probes import specimen
print(json.dumps(specimen("keras-torch")))
"""


def test_a_stock_training_leaves_keras_as_it_is() -> None:
    """No class of keras.layers is another one or has other methods, and fast layers are not imported; if so, it shows.

    In a process of its own: the shared one may have imported them for another test.
    """
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    environment = {**os.environ, "PYTHONPATH": path, "KERAS_BACKEND": "torch"}
    command = [sys.executable, "-W", "ignore", "-c", CODE]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    trained, planted = json.loads(done.stdout.splitlines()[-1])
    assert trained == []
    assert "keras.layers.Bidirectional.__init__" in planted
    assert "keras_models.fast" in planted
