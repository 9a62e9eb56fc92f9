"""What each Keras backend does in its own way: a loop of training steps, a single step, and to say what runs.

Each module has `compile_steps`, `compile_single_step`, `execution` and `device_of`.
"""

import importlib
from types import ModuleType

import keras


def load() -> ModuleType:
    """Return the module of the backend that Keras computes with."""
    return importlib.import_module(f"keras_models.backends.{keras.backend.backend()}")
