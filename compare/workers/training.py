"""What a runner's process does: builds one side, trains it and writes its trace; programs are kept between cases."""

import gc
import resource
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from compare.data.text_sampling import draw_uniforms, sample_text
from compare.experiment.experiment import Experiment, experiment_hashes, read_experiment
from compare.trace.trace import TraceWriter, read_state
from compare.workers.backends import REFERENCE_RUNNER, import_framework
from compare.workers.kept_side import KeptSide
from compare.workers.planted_fault import load_fault
from compare.workers.protocol import Answer, Progress, Request
from compare.workers.sides import KerasSide, Side, TorchSide
from compare.workers.tasks import Task, task_of

PROGRESS_SECONDS = 0.2

Report = Callable[[Progress], None]


class Training:
    """The service that trains: one import of a framework for many cases."""

    def __init__(self, runner: str) -> None:
        import_framework(runner)
        self._kept = KeptSide()

    def __call__(self, request: Request, report: Report) -> Answer:
        """Train one case and write its trace; what is asked for is a `Task`."""
        task = task_of(request)
        experiment = read_experiment(task.experiment)
        kind: Any = TorchSide if task.runner == REFERENCE_RUNNER else KerasSide
        member = None if task.member is None else asdict(task.member)
        # A fault changes a side for good.
        kept = None if task.fault else self._kept.take(experiment)
        side: Side = kept or kind(experiment, member, task.sample)
        manifest = _manifest(task, experiment, side)
        if task.fault:
            load_fault(task.fault)(side)
        if experiment.case.model.independent_masks:
            manifest["dropout"] = side.package.dropout_probe(side.model, side.batch(0)[0])
        with TraceWriter(task.out, manifest, side.columns()) as trace:
            # Single steps are checked from the PyTorch runner's states; a Keras runner keeps only its first.
            recorded = experiment.recorded_steps if task.runner == REFERENCE_RUNNER else [0]
            end = _train(side, trace, experiment, report, recorded if task.reference is not None else ())
            predictions = _predict(side, experiment)
            if task.reference is not None:
                _take_single_steps(side, trace, task.reference)
            trace.finish(predictions, end)
        if isinstance(side, KerasSide) and not task.fault:
            self._kept.keep(side, experiment)
        else:
            side.release()
            settle()
        return Answer()


def _manifest(task: Task, experiment: Experiment, side: Side) -> dict[str, Any]:
    parts = {
        "training": (side.inputs, side.targets),
        "test": (experiment.test_inputs, experiment.examples.test.targets),
    }
    data = {f"{part}/targets": targets for part, (_, targets) in parts.items()}
    for part, (inputs, _) in parts.items():
        named = inputs if isinstance(inputs, Mapping) else {"inputs": inputs}
        data |= {f"{part}/{name}": array for name, array in named.items()}
    return {
        "case": experiment.case.name,
        "runner": task.runner,
        "dtype": experiment.case.dtype,
        "member": None if task.member is None else asdict(task.member),
        "steps": experiment.steps,
        "epochs": experiment.case.training.epochs,
        "hashes": experiment_hashes(data, side.schedule, side.weights()),
        **side.facts(),
        "execution": side.execution(),
    }


def _train(
    side: Side, trace: TraceWriter, experiment: Experiment, report: Report, recorded: Collection[int]
) -> dict[str, Any]:
    """Train, writing what happens; the state before each step of `recorded` is kept."""
    checkpoints = experiment.checkpoint_epochs
    steps = 0
    began = last_report = time.monotonic()
    if 0 in recorded:
        trace.state(0, side.weights(), side.slots(), side.non_trainable())
    for epoch, rows in side.train():
        losses = rows[:, trace.columns.index("loss")]
        not_finite = np.flatnonzero(~np.isfinite(losses))
        if not_finite.size:
            trace.append(rows[: not_finite[0] + 1])
            return {"stopped": f"the loss is not finite at step {steps + int(not_finite[0])}"}
        trace.append(rows)
        steps += len(rows)
        if steps in recorded:
            trace.state(steps, side.weights(), side.slots(), _non_trainable_before(side, experiment, steps))
        if steps == (epoch + 1) * experiment.steps_per_epoch and epoch + 1 in checkpoints:
            trace.checkpoint(epoch + 1, side.weights())
        now = time.monotonic()
        if now - last_report > PROGRESS_SECONDS or steps == experiment.steps:
            last_report = now
            report(Progress(epoch + 1, float(losses[-1])))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"stopped": None, "seconds": time.monotonic() - began, "peak_memory_mib": peak}


def _non_trainable_before(side: Side, experiment: Experiment, step: int) -> dict[str, np.ndarray]:
    """The non-trainable state from which a step is to start: at the start of an epoch states are reset, then zero."""
    resets = step % experiment.steps_per_epoch == 0
    return {
        name: np.zeros_like(tensor) if resets and "/state/" in name else tensor
        for name, tensor in side.non_trainable().items()
    }


def _predict(side: Side, experiment: Experiment) -> dict[str, np.ndarray]:
    """Predict the held-out part, and forecast and sample from its end as far as the case asks for it."""
    data, last = experiment.case.data, experiment.examples.test.inputs[-1:]
    predicted = {"predictions": side.predict(experiment.test_inputs)}
    if data.future:
        predicted["forecast"] = side.package.forecast(side.model, last, data.future)
    if data.sampled:

        def predict_next(ids: np.ndarray) -> np.ndarray:
            return side.predict(ids[None, -data.window :])[0, -1]

        uniforms = draw_uniforms(experiment.case.seed, data.sampled)
        sample = sample_text(predict_next, last[0], uniforms, data.temperature)
        predicted |= {"sample": sample.ids, "margins": sample.margins}
    return predicted


def _take_single_steps(side: Side, trace: TraceWriter, reference: Path) -> None:
    """Take each recorded step from the PyTorch runner's state before it, with this runner's own batch."""
    single_step = side.single_step()
    for step in side.experiment.recorded_steps:
        state = read_state(reference, step)
        inputs, targets = side.batch(step)
        if state is None or not len(targets):
            continue  # the PyTorch runner stopped before, or this one has no such batch: the judge misses the step
        weights, slots, non_trainable = state
        if slots.keys() != side.slots().keys():
            return  # another update rule, which shows in the slots at the first step
        side.load_weights(weights)
        trace.single_step(step, single_step(slots, non_trainable, step, inputs, targets))


@cache
def settle() -> None:
    """Have what the first case has brought in stay: to look through it after every case takes longer than the case."""
    gc.collect()
    gc.freeze()
