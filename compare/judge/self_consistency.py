"""A trace held against itself: its rows follow from its steps, its predictions from its weights, and it repeats itself.

What both sides do wrong alike, outside the checked steps, no comparison of the two can see.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from compare.experiment.experiment import Experiment
from compare.judge.margins import (
    MONTE_CARLO_FLOOR_ULPS,
    MONTE_CARLO_MARGIN,
    MONTE_CARLO_SAMPLES,
    ulp,
)
from compare.judge.phases import TRAJECTORY_PHASES
from compare.judge.ratios import tolerance_ratio, tolerance_ratios
from compare.judge.step_reference import StepReference, Tensors, in_float64
from compare.judge.verdict import Difference
from compare.reference.network import Network
from compare.reference.rounding import EXACT, Arithmetic, plain, working
from compare.trace.trace import Trace, read_state

# The kinds of differences that a trace has from itself.
SELF_KINDS = ("not-its-step", "not-deterministic", "not-its-weights")

# Multiplications that the reference may take for the predictions of a trace; a seeded sample of the windows is checked.
PREDICTION_OPERATIONS = 2e8


def row_differences(trace: Trace, reference: StepReference) -> Iterator[Difference]:
    """Compare the row of a checked step with the step taken alone, by a side that started it from the same state.

    The PyTorch side starts every checked step from its own state; a Keras side only the first, from that of both.
    """
    record, state = trace.single_step(reference.step), read_state(trace.folder, reference.step)
    if record is None or state is None or reference.step >= len(trace.rows):
        return  # what is missing is a difference already
    weights = state.weights
    if any(name not in weights or not np.array_equal(weights[name], w) for name, w in reference.weights.items()):
        return
    runner, tolerances = trace.manifest["runner"], reference.row_tolerances
    for phase in TRAJECTORY_PHASES:
        names = [name for name in trace.columns if name.partition("/")[0] == phase and name in record]
        if not names:
            continue
        rows = trace.rows[reference.step, [trace.columns.index(name) for name in names]]
        expected = np.array([float(np.linalg.norm(in_float64({name: record[name]})[name])) for name in names])
        expected = np.array([float(record["loss"])]) if phase == "loss" else expected
        errors, tolerance = np.abs(rows - expected), np.array([tolerances[name] for name in names])
        ratios = tolerance_ratios(errors, tolerance)
        worst = int(ratios.argmax())
        if ratios[worst] > 1:
            scale = expected[worst] or 1.0
            yield Difference(
                "not-its-step",
                reference.step,
                phase,
                f"in its training {runner} does not take the step that it takes alone from the same state",
                names[worst].partition("/")[2] or None,
                float(errors[worst] / scale),
                float(tolerance[worst] / scale),
                off_side=runner,
                expected=float(expected[worst]),
                obtained=float(rows[worst]),
            )


def repetition_difference(trace: Trace, repetition: Trace) -> Difference | None:
    """Find the first step that a training does not repeat bit for bit, or what it ends with where all steps do."""
    runner = trace.manifest["runner"]
    columns = [name for name in trace.columns if name in repetition.columns]
    steps = min(len(trace.rows), len(repetition.rows))
    left, right = (
        t.rows[:steps, [t.columns.index(name) for name in columns]] for t in (trace, repetition)
    )  # fmt: skip
    different = (left != right) & ~(np.isnan(left) & np.isnan(right))
    message = f"{runner} is not deterministic: the same training, taken again step by step, comes to something else"
    for step in np.flatnonzero(different.any(axis=1))[:1]:
        column = int(different[step].argmax())
        phase, _, tensor = columns[column].partition("/")
        expected, obtained = float(right[step, column]), float(left[step, column])
        phase, tensor = ("forward", "inputs") if phase == "batch" else (phase, tensor)
        error = abs(obtained - expected) / abs(expected or 1.0)
        return Difference(
            "not-deterministic", int(step), phase, message, tensor or None, error, 0.0, runner,
            expected=expected, obtained=obtained,
        )  # fmt: skip
    if len(trace.rows) != len(repetition.rows):
        return Difference(
            "not-deterministic", steps, "loss", message, off_side=runner,
            expected=len(repetition.rows), obtained=len(trace.rows),
        )  # fmt: skip
    last = int(trace.manifest["epochs"])
    weights = trace.checkpoints.get(last, {})
    for name, again in repetition.checkpoints.get(last, {}).items():
        if name in weights and not np.array_equal(weights[name], again, equal_nan=True):
            return Difference("not-deterministic", max(steps - 1, 0), "update", message, name, off_side=runner)
    return None


def prediction_difference(trace: Trace, experiment: Experiment) -> Difference | None:
    """Compare predictions with what the reference makes of the weights that the trace ends with, in inference.

    Not of a model with batch normalisation, whose running figures at the end no trace has. Where there are many windows
    a seeded sample is taken; of a stateful model the first batches.
    """
    weights, obtained = trace.checkpoints.get(int(trace.manifest["epochs"])), trace.predictions
    count = len(experiment.examples.test.inputs)
    if weights is None or obtained is None or len(obtained) != count or experiment.case.model.normalization == "batch":
        return None  # what is missing is a difference already
    precision = trace.manifest["precision"]
    chosen = _sampled_windows(experiment, weights)
    exact = _predicted(experiment, weights, chosen, EXACT)
    obtained = obtained[chosen]
    if obtained.shape != exact.shape:
        return None
    samples = [_predicted(experiment, weights, chosen, working(precision, seed)) for seed in range(MONTE_CARLO_SAMPLES)]
    scale = float(np.sqrt(np.mean(np.square(exact)))) or 1.0
    with np.errstate(invalid="ignore", over="ignore"):
        error = float(np.max(np.abs(obtained - exact))) / scale
        rounding = float(np.max(np.abs(np.array(samples) - exact))) / scale
    tolerance = MONTE_CARLO_MARGIN * max(rounding, MONTE_CARLO_FLOOR_ULPS * ulp(precision))
    if tolerance_ratio(error, tolerance) <= 1:
        return None
    runner, step = trace.manifest["runner"], int(trace.manifest["steps"])
    message = f"the predictions of {runner} do not follow from the weights that its training ends with"
    return Difference("not-its-weights", step, "evaluation", message, None, error, tolerance, off_side=runner)


def _sampled_windows(experiment: Experiment, weights: Tensors) -> np.ndarray:
    model, count = experiment.case.model, len(experiment.examples.test.inputs)
    time = experiment.examples.test.inputs.shape[1]
    numbers = sum(weight.size for name, weight in weights.items() if not name.startswith("embedding"))
    affordable = max(16, int(PREDICTION_OPERATIONS / (time * numbers)))
    if model.stateful:
        size = experiment.case.training.batch_size
        return np.arange(min(count, max(1, affordable // size) * size))
    if affordable >= count:
        return np.arange(count)
    drawn = np.random.default_rng([experiment.case.seed, 6]).permutation(count)[:affordable]
    return np.unique([0, count - 1, *drawn])


def _predicted(experiment: Experiment, weights: Tensors, chosen: np.ndarray, arithmetic: Arithmetic) -> np.ndarray:
    """The outputs (windows, ...) of the network in inference, a stateful one's batch after batch from zero states."""
    model = experiment.case.model
    arrays = experiment.test_inputs
    named: Mapping[str, np.ndarray] = arrays if isinstance(arrays, Mapping) else {"sequence": arrays}
    numbers = {
        name: array[chosen].astype(np.float64) if np.issubdtype(array.dtype, np.floating) else array[chosen]
        for name, array in named.items()
    }
    numbers |= _nothing_dropped(model)
    rounded = arithmetic.arrays(in_float64(weights))
    size = experiment.case.training.batch_size if model.stateful else len(chosen)
    state: dict[str, np.ndarray] = {}
    if model.stateful:
        parts = ("h", "c") if model.cell == "lstm" else ("h",)
        state = {
            f"layer{index}/forward/state/{part}": np.zeros((size, model.units))
            for index in range(model.layers)
            for part in parts
        }
    outputs = []
    for start in range(0, len(chosen), size):
        batch = {
            name: array if name not in named else array[start : start + size] for name, array in numbers.items()
        }  # fmt: skip
        network = Network(model, rounded, arithmetic.arrays(batch), arithmetic.arrays(state))
        outputs.append(plain(network.outputs))
        state = {name: plain(value) for name, value in network.non_trainable.items()}
    return np.concatenate(outputs)


def _nothing_dropped(model: object) -> dict[str, np.ndarray]:
    """Masks by name that keep everything as it is: they hold what the reference divides by."""
    masks: dict[str, np.ndarray] = {}
    settings = vars(model)
    for index in range(settings["layers"]):
        if settings["dropout"]:
            masks[f"dropout{index}"] = np.array([1.0 - settings["dropout"]])
        for direction in ("forward", "backward"):
            for kind in ("input_dropout", "recurrent_dropout"):
                if settings[kind]:
                    masks[f"layer{index}.{direction}.{kind}"] = np.full((1, 1, 1), 1.0 - settings[kind])
    return masks
