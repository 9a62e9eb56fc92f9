"""Planted faults: runners that do not come to their end, or come to it with no numbers."""

import json
import os
import signal
import sys
import tempfile
import threading

import numpy as np

EPOCHS_BEFORE = 1


def _after_an_epoch(side, act):
    """Act in the middle of the training, when some steps are written."""
    train = side.train

    def interrupted():
        for epoch, rows in train():
            if epoch >= EPOCHS_BEFORE:
                act()
            yield epoch, rows

    side.train = interrupted


def killed(side):
    """The process is killed in the middle of the training, as by the system where memory runs out."""
    _after_an_epoch(side, lambda: os.kill(os.getpid(), signal.SIGKILL))


def hangs(side):
    """The training stops in its middle and never goes on."""
    _after_an_epoch(side, threading.Event().wait)


def raises(side):
    """The framework raises in the middle of the training."""

    def act():
        raise RuntimeError("planted: the framework cannot do this")

    _after_an_epoch(side, act)


def tells_its_process(side):
    """The runner fails with the number of its process and the frameworks in it as its message."""
    # None where a framework was made to count as not installed.
    frameworks = [name for name in ("jax", "keras", "tensorflow", "torch") if sys.modules.get(name) is not None]
    raise RuntimeError(json.dumps({"process": os.getpid(), "frameworks": frameworks}))


def leaves_a_file(side):
    """The runner fails with the path of a temporary file as its message, which it has not removed."""
    with tempfile.NamedTemporaryFile(delete=False) as file:
        raise RuntimeError(file.name)


def weights_not_a_number(side):
    """One weight is NaN."""
    weights = side.weights()
    weights["head/kernel"][0, 0] = np.nan
    side.package.load_canonical(side.model, weights)
