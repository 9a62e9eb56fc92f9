"""A trace held against itself: its rows follow from its steps, its predictions from its weights, and it repeats itself.

What both sides do wrong alike outside the checked steps no comparison of the two can see; and what a trace does not
have from its own weights is its own side's fault.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from compare.experiment.experiment import Experiment
from compare.judge.drift import epoch_scale
from compare.judge.inference import prediction_error
from compare.judge.margins import ENSEMBLE_FLOOR_ULPS, ROW_MARGIN, UPDATE_SHARE, ulp
from compare.judge.phases import TRAJECTORY_PHASES, Phase
from compare.judge.ratios import tolerance_ratio, tolerance_ratios
from compare.judge.replay import loss_and_gradients, state_at_epoch
from compare.judge.step_reference import StepReference, Tensors, in_float64
from compare.judge.verdict import Difference
from compare.reference.clipping import clip
from compare.reference.update_rules import apply_update
from compare.trace.trace import Trace, read_state

NOT_ITS_STEP = "not-its-step"
NOT_ITS_WEIGHTS = "not-its-weights"
NOT_DETERMINISTIC = "not-deterministic"


def self_differences(
    trace: Trace, references: Sequence[StepReference], experiment: Experiment
) -> tuple[list[Difference], int]:
    """Hold a trace against itself; return the differences and the number of checks that were made."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # what is not finite is beyond every tolerance
        found = [list(row_differences(trace, reference)) for reference in references]
        found.append(list(checkpoint_differences(trace, references, experiment)))
        found.append(list(prediction_differences(trace, experiment)))
    return [difference for differences in found for difference in differences], len(found)


def of_both(differences: Sequence[Difference]) -> list[Difference]:
    """Say once, of both sides, what each of them has at the same location."""
    by_location: dict[tuple[object, ...], Difference] = {}
    for difference in differences:
        location = difference.kind, difference.step, difference.phase, difference.tensor
        if location in by_location:
            difference = replace(
                by_location[location], off_side="both", message=f"{difference.message}; nor does the other side"
            )
        by_location[location] = difference
    return list(by_location.values())


def row_differences(trace: Trace, reference: StepReference) -> Iterator[Difference]:
    """Compare the row of a checked step with the step taken alone, by a side that started it from the same state.

    The PyTorch side starts every checked step from its own state; a Keras side only the first, from that of both.
    """
    record, state = trace.single_step(reference.step), read_state(trace.folder, reference.step)
    if record is None or state is None or reference.step >= len(trace.rows):
        return  # what is missing is a difference already
    if any(not np.array_equal(state.weights.get(name, ()), weight) for name, weight in reference.weights.items()):
        return
    figures = {"loss": float(record["loss"])} | {
        name: float(np.linalg.norm(np.float64(tensor)))
        for name, tensor in record.items()
        if name.partition("/")[0] in ("gradient", "update")
    }
    message = f"in its training {trace.manifest['runner']} does not take the step that it takes alone"
    yield from _figure_differences(trace, reference.step, figures, _row_tolerances(reference, record), message)


def _row_tolerances(reference: StepReference, record: Tensors) -> dict[str, float]:
    """How far the figures of a row may be from those of the step taken alone, by the names of a row.

    Both start from one state, so that each is as far from the exact step as rounding carries it. An update goes as far
    as the rounding of the gradients carries it, and by the last bits of the weights.
    """
    ulps, loss = reference.ulp, abs(float(record["loss"]))
    floor = ENSEMBLE_FLOOR_ULPS * ulps
    root = ROW_MARGIN * reference.rounded_norms["loss"]
    tolerances = {"loss": 2 * np.sqrt(loss) * root + root**2 + floor * loss}
    gradients = {name: reference.computed.exact[f"gradient/{name}"] for name in reference.weights}
    signs = np.random.default_rng([reference.step, 8])
    rounded = {
        name: gradient + float(reference.computed.rounding[f"gradient/{name}"]) * signs.choice([-1, 1], gradient.shape)
        for name, gradient in gradients.items()
    }
    updates, moved = (_updates(reference, tensors) for tensors in (gradients, rounded))
    smallest = float(np.finfo(reference.precision).smallest_normal)
    # A tensor whose true gradient is near zero has no digits of its own, and Adam moves it as far as any other.
    whole = UPDATE_SHARE * float(np.sqrt(sum(np.sum(np.square(update)) for update in updates.values())))
    for name, weight in reference.weights.items():
        norms = [float(np.linalg.norm(tensor)) for tensor in (gradients[name], updates[name], weight + updates[name])]
        tolerances[f"gradient/{name}"] = floor * norms[0] + ROW_MARGIN * reference.rounded_norms["gradient"] + smallest
        difference = float(np.linalg.norm(moved[name] - updates[name]))
        tolerances[f"update/{name}"] = whole + 4 * ulps * norms[2] + ROW_MARGIN * difference + smallest
    return tolerances


def _updates(reference: StepReference, gradients: Tensors) -> dict[str, np.ndarray]:
    training, casts = reference.experiment.case.training, reference.experiment.case.dtype == reference.precision
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        new, _ = apply_update(
            training, reference.weights, clip(training, gradients), reference.slots, reference.step, casts=casts
        )
    return {name: new[name] - weight for name, weight in reference.weights.items()}


def checkpoint_differences(
    trace: Trace, references: Sequence[StepReference], experiment: Experiment
) -> Iterator[Difference]:
    """Compare the row after each checkpoint with what the reference computes from the weights that are kept there.

    So the losses and gradients of both sides are checked where their states are not known, whatever has become of their
    trajectories. The tolerance is that of the checked steps, of the one that rounds most.
    """
    runner, per_epoch = trace.manifest["runner"], experiment.steps_per_epoch
    recorded = set(trace.columns)
    if not all(reference.is_linear for reference in references):
        return  # what rounding does at other steps is not known from these
    for epoch, weights in trace.checkpoints.items():
        step = epoch * per_epoch
        shapes = {name: tensor.shape for name, tensor in weights.items()}
        if step >= len(trace.rows) or shapes != {name: np.shape(w) for name, w in experiment.weights.items()}:
            continue  # what is missing is a difference already
        state = state_at_epoch(experiment, step)
        with np.errstate(over="ignore", invalid="ignore"):
            loss, gradients, _ = loss_and_gradients(experiment, step, in_float64(weights), state)
        figures = {"loss": loss} | {f"gradient/{name}": float(np.linalg.norm(g)) for name, g in gradients.items()}
        row = dict(zip(trace.columns, trace.rows[step], strict=True))
        for phase in TRAJECTORY_PHASES[:2]:
            names = [name for name in figures if name.partition("/")[0] == phase and name in recorded]
            if not names:
                continue
            scale = float(epoch_scale(trace, phase, len(trace.rows))[step])
            share = max(r.rounded_norms[phase] / _scale_at(trace, phase, r.step) for r in references)
            tolerance = ROW_MARGIN * max(share, ENSEMBLE_FLOOR_ULPS * ulp(str(trace.manifest["precision"])))
            errors = {name: _distance(phase, row[name], figures[name]) / scale for name in names}
            worst = max(errors, key=lambda name: errors[name])
            if tolerance_ratio(errors[worst], tolerance) > 1:
                message = f"the {phase} of {runner} does not follow from the weights that it has after epoch {epoch}"
                yield Difference(
                    NOT_ITS_WEIGHTS, step, phase, message, worst.partition("/")[2] or None, errors[worst], tolerance,
                    runner, expected=figures[worst], obtained=row[worst],
                )  # fmt: skip


def _scale_at(trace: Trace, phase: Phase, step: int) -> float:
    return float(epoch_scale(trace, phase, len(trace.rows))[min(step, len(trace.rows) - 1)])


def _distance(phase: Phase, left: float, right: float) -> float:
    """The difference of two norms, or of the roots of two losses."""
    return abs(np.sqrt(left) - np.sqrt(right)) if phase == "loss" else abs(left - right)


def prediction_differences(trace: Trace, experiment: Experiment) -> Iterator[Difference]:
    """Compare predictions with those of the reference from the weights that the trace ends with."""
    error = prediction_error(experiment, trace)
    if error is not None and error.tolerance_ratio > 1:
        runner = trace.manifest["runner"]
        message = f"the predictions of {runner} do not follow from the weights that its training ends with"
        yield Difference(
            NOT_ITS_WEIGHTS, error.step, "evaluation", message, None, error.error, error.tolerance, runner
        )  # fmt: skip


def repetition_differences(trace: Trace, repetition: Trace) -> Iterator[Difference]:
    """Find the first step that a training does not repeat bit for bit, or the weights where all steps do."""
    runner, steps = trace.manifest["runner"], min(len(trace.rows), len(repetition.rows))
    message = f"{runner} is not deterministic: the same training, taken again step by step, comes to something else"
    rows, again = (t.rows[:steps, [t.columns.index(name) for name in trace.columns]] for t in (trace, repetition))
    different = np.flatnonzero(((rows != again) & ~(np.isnan(rows) & np.isnan(again))).any(axis=1))
    if different.size:
        step = int(different[0])
        figures = dict(zip(trace.columns, again[step], strict=True))
        exact = dict.fromkeys(figures, 0.0)
        yield from _figure_differences(trace, step, figures, exact, message, NOT_DETERMINISTIC)
    elif len(trace.rows) != len(repetition.rows):
        left, right = len(repetition.rows), len(trace.rows)
        yield Difference(NOT_DETERMINISTIC, steps, "loss", message, off_side=runner, expected=left, obtained=right)
    else:
        for epoch, weights in trace.checkpoints.items():
            for name, repeated in repetition.checkpoints.get(epoch, {}).items():
                if not np.array_equal(weights.get(name, repeated), repeated, equal_nan=True):
                    yield Difference(NOT_DETERMINISTIC, steps - 1, "update", message, name, off_side=runner)
                    return


def _figure_differences(
    trace: Trace,
    step: int,
    figures: Mapping[str, float],
    tolerances: Mapping[str, float],
    message: str,
    kind: str = NOT_ITS_STEP,
) -> Iterator[Difference]:
    """Yield the first phase of a row whose figures are not those expected, at the one furthest beyond its tolerance."""
    row, runner = dict(zip(trace.columns, trace.rows[step], strict=True)), trace.manifest["runner"]
    for phase in ("batch", *TRAJECTORY_PHASES):
        names = [name for name in figures if name.partition("/")[0] == phase and name in row]
        errors = np.array([abs(row[name] - figures[name]) for name in names])
        ratios = tolerance_ratios(errors, np.array([tolerances[name] for name in names]))
        if not names or ratios.max() <= 1:
            continue
        name, scale = names[int(ratios.argmax())], abs(figures[names[int(ratios.argmax())]]) or 1.0
        tensor = "inputs" if phase == "batch" else name.partition("/")[2] or None
        yield Difference(
            kind, step, "forward" if phase == "batch" else phase, message, tensor,
            float(errors[ratios.argmax()]) / scale, tolerances[name] / scale, runner,
            expected=figures[name], obtained=float(row[name]),
        )  # fmt: skip
        return
