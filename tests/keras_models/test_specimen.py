"""What is compared with PyTorch is Keras as it is: nothing of this project has changed it."""

import json
import os
import subprocess
import sys

import pytest
from helpers.paths import ROOT

CODE = """
import json, os, sys
sys.modules["tensorflow"] = None
import keras
from helpers.mirror_probes import specimen
print(json.dumps(specimen("keras-torch", touch=json.loads(sys.argv[1]))))
"""


def changes(touch: bool) -> list[str]:
    """What is changed after a stock training in a fresh process, in which something may be planted."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    environment = {**os.environ, "PYTHONPATH": path, "KERAS_BACKEND": "torch"}
    command = [sys.executable, "-W", "ignore", "-c", CODE, json.dumps(touch)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("touch", [False, True], ids=["stock", "planted"])
def test_a_stock_training_leaves_keras_as_it_is(touch: bool) -> None:
    """No class of keras.layers is another one or has other methods, and fast layers are not imported."""
    obtained = changes(touch)
    assert bool(obtained) == touch, obtained
    if touch:
        assert "keras.layers.Bidirectional.__init__" in obtained
        assert "keras_models.fast" in obtained
