"""What tests of the two packages' likeness run inside the process of a framework; each takes a side first."""

import doctest
import importlib
import inspect
from typing import Any

from helpers.probes import package


def run_examples(side: str, expected: str | None = None) -> tuple[int, int]:
    """Run the example of `build`, expecting something else if asked to: how many lines failed, how many ran."""
    module = importlib.import_module(f"{package(side).__name__}.model")
    text = inspect.getdoc(module.build) or ""
    if expected is not None:
        assert "(2, 5, 1)" in text
        text = text.replace("(2, 5, 1)", expected)
    package(side).set_precision("float32")
    example = doctest.DocTestParser().get_doctest(text, {}, "build", None, 0)
    failed, attempted = doctest.DocTestRunner(verbose=False).run(example, out=lambda _: None)
    return failed, attempted


def specimen(side: str) -> tuple[list[str], list[str]]:
    """Train a stock model and say what of Keras is no longer as it was imported; the same with fast layers imported."""
    import sys

    import keras
    import numpy as np

    def looked_at() -> dict[str, Any]:
        classes = {name: kind for name, kind in vars(keras.layers).items() if isinstance(kind, type)}
        attributes = {
            f"{name}.{attribute}": vars(kind).get(attribute)
            for name, kind in classes.items()
            for attribute in ("__init__", "__new__", "__call__", "call", "inner_loop", "build")
        }
        return classes | attributes

    def changes() -> list[str]:
        after = looked_at()
        names = before.keys() | after.keys()
        changed = [f"keras.layers.{name}" for name in names if before.get(name) is not after.get(name)]
        return sorted([*changed, *(name for name in sys.modules if name.startswith("keras_models.fast"))])

    before = looked_at()
    both = package(side)
    model = both.build(cell="gru", units=2, bidirectional="concat")
    optimizer = both.build_optimizer(model.trainable_variables)
    inputs, targets = np.zeros((4, 3, 1), "float32"), np.zeros((4, 1), "float32")
    list(both.train(model, both.build_loss("mse"), optimizer, inputs, targets, np.arange(4)[None], 2))
    both.execution(model, inputs[:2])
    trained = changes()
    importlib.import_module("keras_models.fast")
    return trained, changes()
