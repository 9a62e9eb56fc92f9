"""The user's Keras model against a trace of the same model: on another backend, or saved and loaded."""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from compare.explain.batches import each
from compare.explain.keras_observer.model import Dropouts, Model, Program
from compare.explain.keras_observer.trace import Stepper
from compare.explain.step_comparison import Deviation, compare

# Members whose weights and inputs are one unit of float32 off: what that does to a step is rounding's doing.
MEMBERS = (11, 12)
UNIT = 2.0**-24


def follow(program: Program, trace: Mapping[str, Any], report: Callable[[str], None]) -> dict[str, Any]:
    """Take the trace's steps, each from its weights, and say what differs; the form is that of an investigation."""
    runs = []
    for seed in (None, *MEMBERS):
        report(
            f"Keras on {keras.backend.backend()} takes the same steps{'' if seed is None else ', slightly disturbed'}"
        )
        runs.append(list(_steps(program, trace["steps"], seed)))
    own, *members = runs
    compared: list[Deviation] = []
    for number, step in enumerate(trace["steps"]):
        others = [member[number] for member in members]
        for phase, tensor, expected in _tensors(step):
            values = [_value(each_run, phase, tensor) for each_run in (own[number], *others)]
            compared.append(
                compare(number, phase, tensor, expected, values[0], values[1:], _floor(step, phase, tensor))
            )
    differences = sorted((d for d in compared if d.differs), key=lambda d: d.order)
    losses = [(a["loss"], b["loss"]) for a, b in zip(trace["steps"], own, strict=True)]
    first = differences[0] if differences else None
    notes = [f"one step, each from the same weights, on {trace['backend']} and on {keras.backend.backend()}"]
    if first is not None:
        notes.append(f"no known cause explains step {first.step}, {first.phase}, {first.tensor}")
    return {
        "causes": [],
        "notes": notes,
        "not_tried": {},
        "steps": len(trace["steps"]),
        "checks": len(compared),
        "largest": max((d.error / d.tolerance for d in compared if d.tolerance), default=0.0),
        "loss_difference": max((abs(a - b) / abs(a) for a, b in losses if a), default=None),
        "differences": [{**d.as_facts(), "keras": None, "torch": None} for d in differences],
        "unexplained": None if first is None else first.as_facts(),
        "torch": keras.__version__,
    }


def reloaded(make: Callable[[], Any]) -> Callable[[], Any]:
    """A model that is saved and loaded before it trains."""

    def make_reloaded() -> Any:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "model.keras"
            make().save(file)
            return keras.models.load_model(file, safe_mode=False)

    return make_reloaded


def _steps(program: Program, steps: Sequence[Mapping[str, Any]], seed: int | None) -> Iterator[dict[str, Any]]:
    draw = None if seed is None else np.random.default_rng(seed)

    def disturbed(value: np.ndarray) -> np.ndarray:
        if draw is None or value.dtype.kind != "f":
            return value
        return (value * (1 + UNIT * 2 * draw.integers(-1, 2, value.shape))).astype(value.dtype)

    model = Model(program.make, program.seed, program.rows(steps[0]["batch"])[0])
    take_step = Stepper(model)
    names = _names(steps[0]["before"], model)
    for step in steps:
        x, y, options = program.rows(step["batch"])
        before = {names[path]: disturbed(value) for path, value in step["before"].items()}
        model.assign(before)
        model.model.reset_metrics()
        with Dropouts():
            loss, gradients = take_step(each(disturbed, x), y, options)
        moved = {path: value.astype(np.float64) - before[path] for path, value in model.weights().items()}
        yield {
            "loss": loss,
            "gradient": {path: gradients[name] for path, name in names.items() if name in gradients},
            "update": {path: moved[name] for path, name in names.items()},
        }


def _names(weights: Mapping[str, np.ndarray], model: Model) -> dict[str, str]:
    """The model's own names by the trace's: the same, else in their order, since a loaded model's may be others.

    Backends list a model's variables in different orders.
    """
    shapes = {name: tuple(variable.shape) for name, variable in model.variables.items()}
    if {name: value.shape for name, value in weights.items()} == shapes:
        return {name: name for name in shapes}
    if [value.shape for value in weights.values()] != list(shapes.values()):
        raise TypeError(f"the model has weights {shapes}; the other has { {n: v.shape for n, v in weights.items()} }")
    return dict(zip(weights, shapes, strict=True))


def _tensors(step: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    yield "loss", "loss", step["loss"]
    for path, gradient in step["gradients"].items():
        yield "gradient", path, gradient
    for path, after in step["after"].items():
        yield "update", path, after.astype(np.float64) - step["before"][path]


def _value(step: Mapping[str, Any], phase: str, tensor: str) -> Any:
    return step["loss"] if phase == "loss" else step[phase].get(tensor)


def _floor(step: Mapping[str, Any], phase: str, tensor: str) -> float:
    """What every number of a tensor is rounded to: an update to its weight's last bits, a gradient as its largest."""
    if phase == "loss":
        return 0.0
    if phase == "update":
        return 8 * UNIT * float(np.max(np.abs(step["before"][tensor]), initial=0.0))
    return 4 * UNIT * max(float(np.max(np.abs(gradient), initial=0.0)) for gradient in step["gradients"].values())
