"""The judge: two traces and the reference's twins in, a comparison out; NumPy only."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from compare.experiment.experiment import Experiment
from compare.judge import completeness, metrics
from compare.judge.single_step import StepReference, initial_state_differences, step_differences
from compare.judge.tolerance import MARGIN, Envelope, errors_by_phase, measure_envelope, prediction_error
from compare.judge.trajectory import (
    loss_errors,
    other_batch,
    other_sample,
    strayed,
    strayed_predictions,
    strayed_weights,
)
from compare.judge.verdict import ClassResults, Comparison, Curves, Difference, TensorUnits, Verdict
from compare.trace.trace import Trace

__all__ = ["Comparison", "Curves", "Difference", "StepReference", "Verdict", "judge"]

# A confusion matrix of more classes is too large to be read.
CONFUSED_CLASSES = 20


def judge(
    expected: Trace,
    obtained: Trace,
    members: Sequence[Trace],
    experiment: Experiment,
    references: Sequence[StepReference] | None = None,
    with_ensemble: Trace | None = None,
) -> Comparison:
    """Compare a Keras runner's trace with the PyTorch side's: same start, same step, same journey, nothing absent.

    The twins are of the expected side, or of `twinned`, in the precision in which the obtained side computes; all had
    this start; the references are of the steps that were taken apart, None where none was.
    """
    step_of = _last_steps(expected, obtained)
    completeness_checks = (
        completeness.experiment_differences(expected, obtained),
        completeness.absent_columns(expected, obtained, completeness.required_columns(experiment)),
        completeness.absent_steps(expected, obtained),
        completeness.absent_weights(expected, obtained, step_of),
        completeness.absent_predictions(
            expected,
            obtained,
            metrics.predictions_shape(experiment.examples),
            experiment.case.data.future,
            experiment.case.data.sampled,
        ),
    )
    comparison = Comparison(
        case=obtained.manifest["case"],
        runner=obtained.manifest["runner"],
        reference=expected.manifest["runner"],
        dtype=expected.manifest["dtype"],
        status="agrees",
        checks=len(completeness_checks),
        steps=min(len(expected.rows), len(obtained.rows)),
        differences=[difference for check in completeness_checks for difference in check],
        notes=_notes(obtained),
        versions={**expected.manifest["versions"], **obtained.manifest["versions"]},
        epoch_losses={
            trace.manifest["runner"]: metrics.epoch_losses(trace, experiment) for trace in (expected, obtained)
        },
    )
    if references is not None:
        comparison = _judge_steps(comparison, expected, obtained, references)
    norms = {reference.step: reference.rounded_norms for reference in references or ()}
    comparison = _judge_trajectory(
        comparison, expected, obtained, (with_ensemble or expected, members, norms), step_of, experiment
    )
    comparison = _with_predictions(comparison, expected, obtained, experiment)
    samples = {
        trace.manifest["runner"]: "".join(experiment.examples.symbols[number] for number in trace.sample.ids)
        for trace in (expected, obtained)
        if trace.sample is not None
    }
    return replace(comparison, samples=samples, status="differs" if comparison.differences else "agrees")


def _judge_steps(
    comparison: Comparison, expected: Trace, obtained: Trace, references: Sequence[StepReference]
) -> Comparison:
    differences = list(comparison.differences)
    if not references:
        differences.append(Difference("no-steps", 0, "start", "no step was taken apart"))
        return replace(comparison, differences=differences)
    folders = {trace.manifest["runner"]: trace.folder for trace in (expected, obtained)}
    differences += initial_state_differences(references[0].experiment, folders, references[0].precision)
    furthest: dict[tuple[str, str], TensorUnits] = {}
    checks = 0
    for reference in references:
        sides = {trace.manifest["runner"]: trace.single_step(reference.step) for trace in (expected, obtained)}
        found, measured = step_differences(reference, sides)
        differences += found
        for side, of_side in measured.items():
            checks += len(of_side)
            for one in of_side:
                row = furthest.setdefault((one.phase, one.tensor), TensorUnits(one.phase, one.tensor, {}))
                row.keep(side, one.step, one.error / reference.unit, one.tolerance / reference.unit)
    return replace(
        comparison,
        checks=comparison.checks + checks,
        differences=differences,
        units=tuple(furthest.values()),
        largest_step_share=max((row.share for row in furthest.values()), default=None),
    )


def _judge_trajectory(
    comparison: Comparison,
    expected: Trace,
    obtained: Trace,
    with_ensemble: tuple[Trace, Sequence[Trace], Mapping[int, Mapping[str, float]]],
    step_of: dict[int, int],
    experiment: Experiment,
) -> Comparison:
    differences = list(comparison.differences)
    present = set(completeness.required_columns(experiment)) <= set(expected.columns) == set(obtained.columns)
    if comparison.steps == 0 or not present:
        return replace(comparison, differences=differences)  # the absence is a difference already
    comparison = replace(comparison, max_relative_loss_difference=float(loss_errors(expected, obtained).max()))
    try:
        envelope = measure_envelope(*with_ensemble, obtained.manifest["precision"])
    except ValueError as error:
        differences.append(Difference("no-envelope", int(expected.manifest["steps"]), "update", str(error)))
        return replace(comparison, differences=differences)

    phases = errors_by_phase(expected, obtained, comparison.steps)
    found = [strayed(phase, envelope) for phase in phases]
    found += strayed_weights(expected, obtained, envelope, step_of)
    checks = len(expected.columns) + sum(map(len, expected.checkpoints.values()))
    predictions = _comparable_predictions(expected, obtained)
    if predictions is not None:
        found.append(strayed_predictions(*predictions, envelope.predictions, int(expected.manifest["steps"])))
        checks += 1
    if expected.forecast is not None and obtained.forecast is not None:
        forecasts = (expected.forecast, obtained.forecast)
        if forecasts[0].shape == forecasts[1].shape:  # another length is a difference already
            step = int(expected.manifest["steps"])
            found.append(strayed_predictions(*forecasts, envelope.forecast, step, "the free-running forecasts are"))
            checks += 1
    differences += [difference for _, difference in found if difference is not None]
    left, right = expected.sample, obtained.sample
    if left is not None and right is not None and left.ids.shape == right.ids.shape:
        # A probability moves by at most half of what its logits move by, over the temperature.
        tolerance = MARGIN * envelope.predictions / 2 / (experiment.case.data.temperature or 1)
        parted = other_sample(left, right, tolerance, int(expected.manifest["steps"]))
        differences += [] if parted is None else [parted]
        checks += 1
    batch = other_batch(expected, obtained)
    if batch is not None:
        differences.append(batch)
    return replace(
        comparison,
        checks=comparison.checks + checks,
        differences=differences,
        largest_share_of_allowed=max(share for share, _ in found),
        curves=_curves(expected, obtained, phases[0].values[:, 0], envelope),
    )


def _with_predictions(comparison: Comparison, expected: Trace, obtained: Trace, experiment: Experiment) -> Comparison:
    predictions = _comparable_predictions(expected, obtained)
    if predictions is None or predictions[0].shape != metrics.predictions_shape(experiment.examples):
        return comparison
    sides = dict(zip((comparison.reference, comparison.runner), predictions, strict=True))
    curves, truth, scaling = comparison.curves, experiment.examples.test.targets, experiment.scaling
    if curves is not None and scaling is not None:
        left, right = (scaling.undo(values) for values in predictions)
        curves = replace(curves, truth=scaling.undo(truth), expected_predictions=left, obtained_predictions=right)
    return replace(
        comparison,
        max_prediction_difference=prediction_error(*predictions),
        metrics={side: metrics.metrics_of(experiment, values) for side, values in sides.items()},
        curves=curves,
        classes=_class_results(sides, experiment),
    )


def _class_results(sides: Mapping[str, np.ndarray], experiment: Experiment) -> ClassResults | None:
    examples, test = experiment.examples, experiment.examples.test
    if experiment.case.task == "forecasting":
        return None
    confusion, by_timestep = {}, {}
    for side, logits in sides.items():
        counts = metrics.confusion_matrix(*metrics.judged(test.targets, logits, test.mask))
        if counts is not None and examples.outputs <= CONFUSED_CLASSES:
            confusion[side] = counts
        shares = metrics.accuracy_by_timestep(test.targets, logits, test.mask)
        if shares is not None:
            by_timestep[side] = shares
    labels = examples.labels or tuple(str(label) for label in range(examples.outputs))
    return ClassResults(labels, confusion, by_timestep)


def _comparable_predictions(expected: Trace, obtained: Trace) -> tuple[np.ndarray, np.ndarray] | None:
    left, right = expected.predictions, obtained.predictions
    if left is None or right is None or left.size == 0 or left.shape != right.shape:
        return None
    return left, right


def _curves(expected: Trace, obtained: Trace, errors: np.ndarray, envelope: Envelope) -> Curves:
    steps = len(errors)
    nothing = np.empty((0, 1))
    return Curves(
        expected_losses=expected.losses[:steps],
        obtained_losses=obtained.losses[:steps],
        loss_errors=errors,
        loss_envelope=envelope.by_phase["loss"][:steps],
        loss_tolerance=envelope.tolerance("loss")[:steps],
        truth=nothing,
        expected_predictions=nothing,
        obtained_predictions=nothing,
    )


def _last_steps(expected: Trace, obtained: Trace) -> dict[int, int]:
    steps_per_epoch = int(expected.manifest["steps"]) // int(expected.manifest["epochs"])
    return {epoch: epoch * steps_per_epoch - 1 for epoch in expected.checkpoints.keys() | obtained.checkpoints.keys()}


def _notes(obtained: Trace) -> list[str]:
    manifest = obtained.manifest
    if manifest["precision"] == manifest["dtype"]:
        return []
    return [
        f"Keras {manifest['versions'].get('keras')} computes in {manifest['precision']} on this backend although "
        f"{manifest['dtype']} was asked for ({', '.join(manifest['narrowed'])}); judged in {manifest['precision']}"
    ]
