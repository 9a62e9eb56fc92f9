"""The child process: builds one side, trains it and writes its trace; one import of a framework for many cases.

Reads tasks as JSON lines from standard input and answers with JSON events on what was its standard output; everything
that the framework prints goes to standard error.
"""

import gc
import json
import os
import queue
import re
import resource
import sys
import threading
import time
import traceback
from collections.abc import Callable, Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from compare.data.text_sampling import draw_uniforms, sample_text
from compare.experiment.experiment import Experiment, experiment_hashes, read_experiment
from compare.trace.trace import TraceWriter, read_state
from compare.workers.backends import REFERENCE_RUNNER, backend_of, keep_tensorflow_out
from compare.workers.kept_side import KeptSide
from compare.workers.planted_fault import load_fault
from compare.workers.pool import JUDGE
from compare.workers.sides import KerasSide, Side, TorchSide

PROGRESS_SECONDS = 0.2

KEPT = KeptSide()

# Frameworks colour their messages; a report has no use for the codes.
ANSI_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def checkpoint_epochs(epochs: int) -> set[int]:
    """Choose after which epochs weights are kept: 1, 2, 4, 8, … and the last."""
    return {2**power for power in range(epochs.bit_length())} | {epochs}


def perform(task: dict[str, Any], runner: str, send: Any) -> None:
    """Train one case and write its trace."""
    experiment = read_experiment(Path(task["experiment"]))
    kind: Any = TorchSide if runner == REFERENCE_RUNNER else KerasSide
    # A fault changes a side for good.
    kept = None if task.get("fault") else KEPT.take(experiment)
    side: Side = kept or kind(experiment, task.get("member"), task.get("sample", 0))
    reference = task.get("reference")
    parts = {
        "training": (side.inputs, side.targets),
        "test": (experiment.test_inputs, experiment.examples.test.targets),
    }
    data = {f"{part}/targets": targets for part, (_, targets) in parts.items()}
    for part, (inputs, _) in parts.items():
        named = inputs if isinstance(inputs, Mapping) else {"inputs": inputs}
        data |= {f"{part}/{name}": array for name, array in named.items()}
    manifest = {
        "case": experiment.case.name,
        "runner": runner,
        "dtype": experiment.case.dtype,
        "member": task.get("member"),
        "steps": experiment.steps,
        "epochs": experiment.case.training.epochs,
        "hashes": experiment_hashes(data, side.schedule, side.weights()),
        **side.facts(),
        "execution": side.execution(),
    }
    if task.get("fault"):
        load_fault(task["fault"])(side)
    if experiment.case.model.independent_masks:
        manifest["dropout"] = side.package.dropout_probe(side.model, side.batch(0)[0])
    with TraceWriter(Path(task["out"]), manifest, side.columns()) as trace:
        # Both sides take steps apart from the PyTorch side's states; a Keras side keeps only what it starts from.
        recorded = experiment.recorded_steps if runner == REFERENCE_RUNNER else [0]
        end = _train(side, trace, experiment, send, recorded if reference is not None else ())
        predicted = _predict(side, experiment)
        if reference is not None:
            _take_apart(side, trace, Path(reference))
        trace.finish(predicted, end)
    if isinstance(side, KerasSide) and not task.get("fault"):
        KEPT.keep(side, experiment)
    else:
        side.release()
        settle()


def _train(
    side: Side, trace: TraceWriter, experiment: Experiment, send: Any, recorded: Collection[int]
) -> dict[str, Any]:
    """Train, writing what happens; the state before each step of `recorded` is kept."""
    epochs = experiment.case.training.epochs
    kept = checkpoint_epochs(epochs)
    steps = 0
    began = last_sent = time.monotonic()
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
            trace.state(steps, side.weights(), side.slots(), side.non_trainable())
        if steps == (epoch + 1) * experiment.steps_per_epoch and epoch + 1 in kept:
            trace.checkpoint(epoch + 1, side.weights())
        now = time.monotonic()
        if now - last_sent > PROGRESS_SECONDS or steps == experiment.steps:
            last_sent = now
            send({"event": "progress", "epoch": epoch + 1, "loss": float(losses[-1])})
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"stopped": None, "seconds": time.monotonic() - began, "peak_memory_mib": peak}


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


def _take_apart(side: Side, trace: TraceWriter, reference: Path) -> None:
    """Take the recorded steps apart, each from the PyTorch side's state before it and with this side's own batch."""
    single_step = side.single_step()
    for step in side.experiment.recorded_steps:
        state = read_state(reference, step)
        inputs, targets = side.batch(step)
        if state is None or not len(targets):
            continue  # the PyTorch side stopped before, or this side has no such batch: the judge misses the step
        weights, slots, non_trainable = state
        if slots.keys() != side.slots().keys():
            return  # another update rule, which shows in the slots that each side starts with
        side.load_weights(weights)
        trace.single_step(step, single_step(slots, non_trainable, step, inputs, targets))


@cache
def settle() -> None:
    """Have what the first case has brought in stay: to look through it after every case takes longer than the case."""
    gc.collect()
    gc.freeze()


def load_runner(runner: str) -> Callable[[dict[str, Any], str, Any], None]:
    """Import what a runner computes with and return what performs its tasks."""
    if runner == JUDGE:
        from compare.sweep.judging import judge_task

        return judge_task
    keep_tensorflow_out(runner)
    __import__("torch" if runner == REFERENCE_RUNNER else "keras")
    return perform


def main(runner: str) -> None:
    """Serve tasks until standard input ends."""
    events = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)

    def send(event: dict[str, Any]) -> None:
        events.write(json.dumps(event) + "\n")

    tasks: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_read_tasks, args=(tasks,), daemon=True).start()
    serve = load_runner(runner)
    send({"event": "ready", "backend": backend_of(runner)})
    while True:
        task = json.loads(tasks.get())
        try:
            serve(task, runner, send)
        except Exception as error:  # whatever a framework raises is this comparison's result, not the harness's end
            traceback.print_exc()
            send({"event": "failed", "error": ANSI_COLOUR.sub("", f"{type(error).__name__}: {error}")})
        else:
            send({"event": "done"})


def _read_tasks(tasks: "queue.Queue[str]") -> None:
    for line in sys.stdin:
        tasks.put(line)
    # The harness has closed the pipe or died: there is nobody left to work for.
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
