"""The child process of `bench`: trains one side in one way, a round whenever asked, and says how long each took."""

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from compare.experiment.experiment import read_experiment
from compare.workers.backends import REFERENCE_RUNNER, keep_tensorflow_out
from compare.workers.sides import KerasSide, Side, TorchSide

Epochs = Callable[[int], None]


def recorded(side: Side) -> Epochs:
    """Return what trains as a run does, each step recorded, for a number of epochs."""
    steps = -(-side.schedule.shape[1] // side.experiment.case.training.batch_size)
    # The same epoch again and again, without holding them all.
    side.schedule = np.broadcast_to(side.schedule[0], (2**40, side.schedule.shape[1]))
    calls = side.train()

    def train(epochs: int) -> None:
        done = 0
        while done < epochs * steps:
            done += len(next(calls)[1])

    return train


def stock(side: Side) -> Epochs:
    """Return the loop that a framework's users have, with nothing recorded: `fit`, or one written by hand for torch."""
    chosen = np.asarray(side.schedule[0])
    assert isinstance(side.inputs, np.ndarray)  # `check_case` lets nothing else pass
    inputs, targets, size = side.inputs[chosen], side.targets[chosen], side.experiment.case.training.batch_size
    return side.package.train_stock(side.model, inputs, targets, size)


def main(runner: str, engine: str, folder: str) -> None:
    """Take a first step, then train as many epochs as each line on standard input asks for, until it ends."""
    events = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    keep_tensorflow_out(runner)
    __import__("torch" if runner == REFERENCE_RUNNER else "keras")
    experiment = read_experiment(Path(folder))
    kind: Any = TorchSide if runner == REFERENCE_RUNNER else KerasSide
    way = stock if engine == "stock" else recorded

    began = time.perf_counter()
    side: Side = kind(experiment, None)
    side.schedule = side.schedule[:1, : experiment.case.training.batch_size]
    way(side)(1)
    facts: dict[str, Any] = {"first_step_s": time.perf_counter() - began, **side.facts()}
    facts["execution"] = side.package.execution(side.model, side.batch(0)[0])
    if runner == REFERENCE_RUNNER:
        from torch_models import operations_per_second

        facts["operations_per_second"] = operations_per_second()

    train = way(kind(experiment, None))
    train(1)  # what is compiled for the other size of the last batch is no part of a step
    print(json.dumps(facts), file=events)
    for line in sys.stdin:
        began = time.perf_counter()
        train(int(line))
        seconds = time.perf_counter() - began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"seconds": seconds, "peak_memory_mib": peak}), file=events)


if __name__ == "__main__":
    main(*sys.argv[1:])
