"""The child process: builds one side, trains it and writes its trace; one import of a framework for many cases.

Reads tasks as JSON lines from standard input and answers with JSON events on what was its standard output; everything
that the framework prints goes to standard error.
"""

import gc
import importlib.util
import json
import os
import queue
import random
import re
import resource
import sys
import threading
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from compare.backends import REFERENCE_RUNNER, backend_of
from compare.runners import JUDGE
from compare.sampling import draw_uniforms, sample_text
from compare.start import Start, read_start, start_hashes
from compare.trace import TraceWriter, read_state

PROGRESS_SECONDS = 0.2

# Frameworks colour their messages; a report has no use for the codes.
ANSI_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class Side:
    """One side of a comparison. A planted fault changes its attributes after the start was hashed."""

    package: Any
    model: Any
    loss: Any
    optimizer: Any

    def __init__(self, start: Start) -> None:
        self.start = start
        self.inputs, self.targets = start.training_inputs, start.examples.training.targets
        self.schedule = start.schedule

    def model_arguments(self) -> dict[str, Any]:
        """The keywords that both packages' `build` take."""
        case, examples = self.start.case, self.start.examples
        own = ("initial_state", "sequence_first")
        return {name: value for name, value in vars(case.model).items() if name not in own} | {
            "features": examples.features or 1,
            "vocabulary": examples.vocabulary,
            "outputs": examples.outputs,
            "batch_size": case.training.batch_size if case.model.stateful else None,
            "masked": examples.training.mask is not None,
            "initial_state": case.model.initial_state == "given",
            "dtype": case.dtype,
        }

    def optimizer_arguments(self) -> dict[str, Any]:
        """The keywords that both packages' `build_optimizer` take."""
        training = self.start.case.training
        same = ("learning_rate", "momentum", "nesterov", "weight_decay", "clipvalue", "clipnorm", "global_clipnorm")
        of_schedule = ("schedule", "decay_steps", "decay_rate", "boundaries", "values")
        return {"name": training.optimizer} | {option: getattr(training, option) for option in same + of_schedule}

    def facts(self) -> dict[str, Any]:
        """What computes: versions, threads, precision."""
        raise NotImplementedError

    def columns(self) -> list[str]:
        """What is recorded at each step."""
        return self.package.columns(self.model, self.norms)

    @property
    def norms(self) -> bool:
        """Whether the norms of gradients and updates are recorded at each step."""
        return self.start.case.training.record == "norms"

    def load_weights(self, weights: Mapping[str, np.ndarray]) -> None:
        """Load canonical weights into the model."""
        self.package.load_canonical(self.model, dict(weights))

    @property
    def engine(self) -> Any:
        """What trains this side."""
        return self.package.train

    def train(self) -> Iterator[tuple[int, np.ndarray]]:
        """Train, yielding (epoch, rows)."""
        return self.engine(
            self.model,
            self.loss,
            self.optimizer,
            self.inputs,
            self.targets,
            self.schedule,
            self.start.case.training.batch_size,
            draw=self.draw if self.start.case.model.given_masks else None,
            norms=self.norms,
            **self.training_arguments(),
        )

    def training_arguments(self) -> dict[str, Any]:
        """What this side's `train` takes beside what both take."""
        return {}

    def slots(self) -> dict[str, np.ndarray]:
        """The optimizer's slots now, in the canonical form."""
        return self.package.read_slots(self.model, self.optimizer)

    def one_step(self) -> Any:
        """Return what takes single steps with this side's model."""
        raise NotImplementedError

    def draw(self, step: int, count: int) -> dict[str, np.ndarray]:
        """The dropout masks of a step, by name."""
        return self.start.draw(step, count)

    def batch(self, step: int) -> tuple[Any, np.ndarray]:
        """What this side trains a step on: inputs and targets, none where its schedule does not reach so far."""
        windows = self.start.batch_of(self.schedule, step)
        if not isinstance(self.inputs, Mapping):
            return self.inputs[windows], self.targets[windows]
        inputs = {name: array[windows] for name, array in self.inputs.items()}
        return inputs | self.draw(step, len(windows)), self.targets[windows]

    def carried(self) -> dict[str, np.ndarray]:
        """What a step changes beside weights and slots, in the canonical form."""
        return self.package.read_carried(self.model)

    def weights(self) -> dict[str, np.ndarray]:
        """The weights now, in the canonical form."""
        return self.package.to_canonical(self.model)

    def predict(self, inputs: Any) -> np.ndarray:
        """The model's outputs now."""
        return self.package.predict(self.model, inputs)

    def release(self) -> None:
        """Return the memory of this case."""
        gc.collect()


class TorchSide(Side):
    """The native PyTorch side; with `twin` its weights and its Adam differ in the last bit."""

    def __init__(self, start: Start, twin: dict[str, Any] | None, sample: int = 0) -> None:
        import torch

        import torch_models
        from torch_models.twins import perturb_optimizer, perturb_weights

        super().__init__(start)
        self.torch, self.package = torch, torch_models
        case = start.case
        torch.manual_seed(case.seed + sample)
        self.model = torch_models.build(**self.model_arguments(), sequence_first=case.model.sequence_first)
        if case.training.stock:
            torch_models.train_both_biases(self.model)
        self.optimizer = torch_models.build_optimizer(
            self.model.named_parameters(), **self.optimizer_arguments(), stock=case.training.stock
        )
        self.loss = torch_models.build_loss(case.training.loss)
        weights = dict(start.weights)
        if twin is not None:
            weights = perturb_weights(weights, twin["precision"], twin["seed"])
            perturb_optimizer(self.optimizer, twin["precision"], twin["seed"])
        self.load_weights(weights)

    def training_arguments(self) -> dict[str, Any]:
        return {"pauses": self.start.recorded_steps}

    def one_step(self) -> Any:
        return self.package.OneStep(self.model, self.loss, self.optimizer)

    def facts(self) -> dict[str, Any]:
        return {
            "versions": {"torch": self.torch.__version__},
            "threads": self.torch.get_num_threads(),
            "precision": self.start.case.dtype,
            "narrowed": [],
        }


class KerasSide(Side):
    """The Keras side, on the backend that `KERAS_BACKEND` names."""

    def __init__(self, start: Start, twin: dict[str, Any] | None, sample: int = 0) -> None:
        if twin is not None:
            raise ValueError("twins are trained on the PyTorch side")
        case = start.case
        if os.environ["KERAS_BACKEND"] == "jax":
            import jax

            jax.config.update("jax_enable_x64", case.dtype == "float64")
        import keras

        import keras_models
        from keras_models.precision import narrowed_operations

        super().__init__(start)
        self.keras, self.package = keras, keras_models
        keras.config.set_floatx(case.dtype)
        self.narrowed = narrowed_operations(case.dtype)
        if keras.backend.backend() == "tensorflow":
            # Elsewhere this too would import TensorFlow, where it is installed, beside the backend.
            keras.utils.set_random_seed(case.seed)
        # Layers that draw numbers take their seeds from here.
        random.seed(case.seed + sample)
        self.model = keras_models.build(**self.model_arguments())
        if case.training.keras_layers == "fast":
            from keras_models import fast

            fast.enable(self.model)
        self.optimizer = keras_models.build_optimizer(**self.optimizer_arguments())
        self.loss = keras_models.build_loss(case.training.loss)
        self.load_weights(start.weights)

    @property
    def engine(self) -> Any:
        return self.package.fit if self.start.case.training.engine == "fit" else self.package.train

    def one_step(self) -> Any:
        return self.package.OneStep(self.model)

    def facts(self) -> dict[str, Any]:
        import importlib.metadata

        backend = self.keras.backend.backend()
        return {
            "versions": {"keras": self.keras.__version__, backend: importlib.metadata.version(backend)},
            "threads": int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)),
            "precision": "float32" if self.narrowed else self.start.case.dtype,
            "narrowed": self.narrowed,
        }

    def release(self) -> None:
        self.keras.backend.clear_session(free_memory=True)
        super().release()


def load_fault(place: str) -> Any:
    """Load a planted fault, given as FILE.py:function."""
    file, _, name = place.rpartition(":")
    spec = importlib.util.spec_from_file_location("planted_fault", file)
    if spec is None or spec.loader is None:
        raise ValueError(f"fault {place!r} is not FILE.py:function")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)


def checkpoint_epochs(epochs: int) -> set[int]:
    """Choose after which epochs weights are kept: 1, 2, 4, 8, … and the last."""
    return {2**power for power in range(epochs.bit_length())} | {epochs}


def perform(task: dict[str, Any], runner: str, send: Any) -> None:
    """Train one case and write its trace."""
    start = read_start(Path(task["start"]))
    kind: Any = TorchSide if runner == REFERENCE_RUNNER else KerasSide
    side: Side = kind(start, task.get("twin"), task.get("sample", 0))
    reference = task.get("reference")
    parts = {"training": (side.inputs, side.targets), "test": (start.test_inputs, start.examples.test.targets)}
    data = {f"{part}/targets": targets for part, (_, targets) in parts.items()}
    for part, (inputs, _) in parts.items():
        named = inputs if isinstance(inputs, Mapping) else {"inputs": inputs}
        data |= {f"{part}/{name}": array for name, array in named.items()}
    manifest = {
        "case": start.case.name,
        "runner": runner,
        "dtype": start.case.dtype,
        "twin": task.get("twin"),
        "steps": start.steps,
        "epochs": start.case.training.epochs,
        "hashes": start_hashes(data, side.schedule, side.weights()),
        **side.facts(),
        "execution": side.package.execution(side.model, side.batch(0)[0]),
    }
    if task.get("fault"):
        load_fault(task["fault"])(side)
    if start.case.model.native_dropout:
        manifest["dropout"] = side.package.dropout_probe(side.model, side.batch(0)[0])
    with TraceWriter(Path(task["out"]), manifest, side.columns()) as trace:
        # Both sides take steps apart from the PyTorch side's states; a Keras side keeps only what it starts from.
        recorded = start.recorded_steps if runner == REFERENCE_RUNNER else [0]
        end = _train(side, trace, start, send, recorded if reference is not None else ())
        predicted = _predict(side, start)
        if reference is not None:
            _take_apart(side, trace, Path(reference))
        trace.finish(predicted, end)
    side.release()


def _train(side: Side, trace: TraceWriter, start: Start, send: Any, recorded: Collection[int]) -> dict[str, Any]:
    """Train, writing what happens; the state before each step of `recorded` is kept."""
    epochs = start.case.training.epochs
    kept = checkpoint_epochs(epochs)
    steps = 0
    began = last_sent = time.monotonic()
    if 0 in recorded:
        trace.state(0, side.weights(), side.slots(), side.carried())
    for epoch, rows in side.train():
        losses = rows[:, trace.columns.index("loss")]
        not_finite = np.flatnonzero(~np.isfinite(losses))
        if not_finite.size:
            trace.append(rows[: not_finite[0] + 1])
            return {"stopped": f"the loss is not finite at step {steps + int(not_finite[0])}"}
        trace.append(rows)
        steps += len(rows)
        if steps in recorded:
            trace.state(steps, side.weights(), side.slots(), side.carried())
        if steps == (epoch + 1) * start.steps_per_epoch and epoch + 1 in kept:
            trace.checkpoint(epoch + 1, side.weights())
        now = time.monotonic()
        if now - last_sent > PROGRESS_SECONDS or steps == start.steps:
            last_sent = now
            send({"event": "progress", "epoch": epoch + 1, "loss": float(losses[-1])})
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"stopped": None, "seconds": time.monotonic() - began, "peak_memory_mib": peak}


def _predict(side: Side, start: Start) -> dict[str, np.ndarray]:
    """Predict the held-out part, and forecast and sample from its end as far as the case asks for it."""
    data, last = start.case.data, start.examples.test.inputs[-1:]
    predicted = {"predictions": side.predict(start.test_inputs)}
    if data.future:
        predicted["forecast"] = side.package.forecast(side.model, last, data.future)
    if data.sampled:

        def predict_next(ids: np.ndarray) -> np.ndarray:
            return side.predict(ids[None, -data.window :])[0, -1]

        uniforms = draw_uniforms(start.case.seed, data.sampled)
        sample = sample_text(predict_next, last[0], uniforms, data.temperature)
        predicted |= {"sample": sample.ids, "margins": sample.margins}
    return predicted


def _take_apart(side: Side, trace: TraceWriter, reference: Path) -> None:
    """Take the recorded steps apart, each from the PyTorch side's state before it and with this side's own batch."""
    one_step = side.one_step()
    for step in side.start.recorded_steps:
        state = read_state(reference, step)
        inputs, targets = side.batch(step)
        if state is None or not len(targets):
            continue  # the PyTorch side stopped before, or this side has no such batch: the judge misses the step
        weights, slots, carried = state
        if slots.keys() != side.slots().keys():
            return  # another update rule, which shows in the slots that each side starts with
        side.load_weights(weights)
        trace.one_step(step, one_step(slots, carried, step, inputs, targets))


def load_runner(runner: str) -> Callable[[dict[str, Any], str, Any], None]:
    """Import what a runner computes with and return what performs its tasks."""
    if runner == JUDGE:
        from compare.sweep.judging import judge_task

        return judge_task
    __import__("torch" if runner == REFERENCE_RUNNER else "keras")
    # What a framework makes at its import stays: to look through it after every case would take longer than the case.
    gc.collect()
    gc.freeze()
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
