"""What a process of `bench` does: trains one side in one way, a round whenever asked, and says how long each took."""

import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from compare.experiment.experiment import read_experiment
from compare.workers.backends import REFERENCE_RUNNER, import_framework
from compare.workers.protocol import Answer, Request
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


class Rounds:
    """The service that times rounds of training: `prepare` comes first, then `train` as often as asked."""

    def __init__(self, runner: str) -> None:
        import_framework(runner)
        self.runner = runner
        self.train: Epochs | None = None

    def __call__(self, request: Request, report: object = None) -> Answer:
        """Do what is asked for."""
        del report
        if request.action == "prepare":
            return Answer(self._prepare(**request.options))
        if request.action != "train" or self.train is None:
            raise ValueError(f"{request.action!r} is neither `prepare` nor, after that, `train`")
        began = time.perf_counter()
        self.train(request.options["epochs"])
        seconds = time.perf_counter() - began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return Answer({"seconds": seconds, "peak_memory_mib": peak})

    def _prepare(self, engine: str, folder: str) -> dict[str, Any]:
        """Take a first step, measured, and train an epoch, so that everything is compiled."""
        experiment = read_experiment(Path(folder))
        kind: Any = TorchSide if self.runner == REFERENCE_RUNNER else KerasSide
        way = stock if engine == "stock" else recorded

        began = time.perf_counter()
        side: Side = kind(experiment, None)
        side.schedule = side.schedule[:1, : experiment.case.training.batch_size]
        way(side)(1)
        facts: dict[str, Any] = {"first_step_s": time.perf_counter() - began, **side.facts()}
        facts["execution"] = side.package.execution(side.model, side.batch(0)[0])
        if self.runner == REFERENCE_RUNNER:
            from torch_models import operations_per_second

            facts["operations_per_second"] = operations_per_second()

        self.train = way(kind(experiment, None))
        self.train(1)  # what is compiled for the other size of the last batch is no part of a step
        return facts
