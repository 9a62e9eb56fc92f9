"""From two traces and an ensemble to a comparison: same experiment, same step, same trajectory, nothing missing."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from compare.experiment.experiment import Experiment
from compare.judge import completeness, metrics
from compare.judge.drift import drift_by_phase, prediction_drift, relative_loss_differences
from compare.judge.ensemble import EnsembleDrift, measure_ensemble
from compare.judge.finite import Undecidable, undecidable_from
from compare.judge.margins import ENSEMBLE_MARGIN
from compare.judge.pictures import gates_of_window, ratio_map
from compare.judge.self_consistency import of_both, repetition_differences, self_differences
from compare.judge.single_step import OFF_REFERENCE, initial_state_differences, step_differences
from compare.judge.step_reference import StepReference
from compare.judge.trajectory import (
    batch_difference,
    check_phase,
    check_predictions,
    check_weights,
    sample_difference,
)
from compare.judge.verdict import ClassResults, Comparison, Curves, Difference, TensorErrors
from compare.judge.witness import Witness
from compare.trace.trace import Trace

# A confusion matrix of more classes is too large to be read.
CONFUSED_CLASSES = 20


def judge(
    expected: Trace,
    obtained: Trace,
    members: Sequence[Trace],
    experiment: Experiment,
    references: Sequence[StepReference] | None = None,
    with_ensemble: Trace | None = None,
    checked_steps: Sequence[int] | None = None,
    repetition: Trace | None = None,
) -> Comparison:
    """Compare a Keras runner's trace with the PyTorch side's: same experiment, step and trajectory, nothing missing.

    The members are of the ensemble of the expected side, or of `with_ensemble`, in the precision in which the obtained
    side computes; all are trainings of this experiment. The references are of the checked steps, None where no step is
    to be checked; `checked_steps` are those of which there must be one, by default all that an experiment records.
    The repetition is of the training that has the ensemble, which must come to the same.
    Raises TraceError for trainings on different devices.
    """
    completeness.require_one_device((expected, obtained, *members))
    step_of = _last_steps(expected, obtained, experiment)
    completeness_checks = (
        completeness.experiment_differences(expected, obtained),
        completeness.missing_columns(expected, obtained, completeness.required_columns(experiment)),
        completeness.missing_steps(expected, obtained, experiment),
        completeness.missing_weights(expected, obtained, experiment, step_of),
        completeness.missing_predictions(expected, obtained, experiment),
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
        samples={
            trace.manifest["runner"]: "".join(experiment.examples.symbols[number] for number in trace.sample.ids)
            for trace in (expected, obtained)
            if trace.sample is not None
        },
    )
    if references is not None:
        checked = experiment.recorded_steps if checked_steps is None else checked_steps
        found = [reference.step for reference in references]
        absent = completeness.missing_states(expected, experiment, checked, found)
        comparison = replace(comparison, differences=[*comparison.differences, *absent])
        comparison = _judge_steps(comparison, expected, obtained, references)
    if repetition is not None:
        comparison = _judge_repetition(comparison, with_ensemble or expected, repetition)
    recorded = set(completeness.required_columns(experiment)) <= set(expected.columns) == set(obtained.columns)
    undecidable = undecidable_from(expected, obtained, members, references or ())
    if comparison.steps and recorded and (undecidable is None or undecidable.step):  # or it is a difference already
        differences = relative_loss_differences(expected, obtained)
        comparison = replace(comparison, max_relative_loss_difference=float(differences.max()))
        norms = {reference.step: reference.rounded_norms for reference in references or ()}
        traces = [with_ensemble or expected, expected, obtained, *members]
        if undecidable is not None:
            traces = [trace.up_to(undecidable.step) for trace in traces]
        perturbed, left, right, *others = traces
        try:
            ensemble = measure_ensemble(perturbed, others, norms, obtained.manifest["precision"])
        except ValueError as error:
            unknown = Difference("no-ensemble", int(expected.manifest["steps"]), "update", str(error))
            comparison = replace(comparison, differences=[*comparison.differences, unknown])
        else:
            witness = Witness(experiment, left, right, references) if references else None
            comparison = _judge_trajectory(comparison, left, right, ensemble, step_of, experiment, witness)
    comparison = _with_predictions(comparison, expected, obtained, experiment)
    if undecidable is not None:
        return _as_far_as_decidable(comparison, undecidable)
    return replace(comparison, status="differs" if comparison.differences else "agrees")


def _as_far_as_decidable(comparison: Comparison, undecidable: Undecidable) -> Comparison:
    """Keep the differences before the step from which nothing can be decided; without any the comparison is open.

    That step itself begins from a finite state: where it is checked, a finite error of it is a difference too, unless
    what it computes is beyond the working precision.
    """
    of_infinity = ("not-finite", "no-ensemble")
    kept = [
        difference
        for difference in comparison.differences
        if difference.kind not in of_infinity
        and (
            difference.step < undecidable.step
            or (undecidable.errors_tell and _is_error_of_step(difference, undecidable.step))
        )
    ]
    if kept:
        return replace(comparison, differences=kept, status="differs")
    return replace(comparison, differences=(), status="undecidable", error=undecidable.reason)


def _is_error_of_step(difference: Difference, step: int) -> bool:
    figures = (difference.relative_error, difference.tolerance)
    finite = all(figure is not None and np.isfinite(figure) for figure in figures)
    return difference.kind == OFF_REFERENCE and difference.step == step and finite


def _judge_steps(
    comparison: Comparison, expected: Trace, obtained: Trace, references: Sequence[StepReference]
) -> Comparison:
    differences = list(comparison.differences)
    if not references:
        differences.append(Difference("no-steps", 0, "start", "no step was checked"))
        return replace(comparison, differences=differences)
    folders = {trace.manifest["runner"]: trace.folder for trace in (expected, obtained)}
    differences += initial_state_differences(references[0].experiment, folders, references[0].precision)
    largest: dict[tuple[str, str], TensorErrors] = {}
    checks = 0
    of_themselves: list[Difference] = []
    for trace in (expected, obtained):
        of_trace, of_itself = self_differences(trace, references, references[0].experiment)
        of_themselves += of_trace
        checks += of_itself
    differences += of_both(of_themselves)
    for reference in references:
        records = {trace.manifest["runner"]: trace.single_step(reference.step) for trace in (expected, obtained)}
        of_step, errors_by_side = step_differences(reference, records)
        differences += of_step
        for side, errors in errors_by_side.items():
            checks += len(errors)
            for error in errors:
                of_tensor = largest.setdefault((error.phase, error.tensor), TensorErrors(error.phase, error.tensor, {}))
                of_tensor.update(side, error.step, error.error / reference.ulp, error.tolerance / reference.ulp)
    unjudged = ", ".join(str(reference.step) for reference in references if not reference.is_linear)
    notes = list(comparison.notes)
    if unjudged:
        notes.append(
            f"rounding alone carries the outputs of steps {unjudged} so far that their gradients are not judged"
        )
    return replace(
        comparison,
        checks=comparison.checks + checks,
        differences=differences,
        notes=notes,
        tensor_errors=tuple(largest.values()),
        step_tolerance_ratio=max((of_tensor.tolerance_ratio for of_tensor in largest.values()), default=None),
    )


def _judge_repetition(comparison: Comparison, trace: Trace, repetition: Trace) -> Comparison:
    """Require a training to repeat itself; where its device promises no such thing it is noted."""
    differences, notes = list(repetition_differences(trace, repetition)), list(comparison.notes)
    if not trace.manifest["execution"]["deterministic"]:
        notes += [f"{d.message} (step {d.step}); its device does not promise to repeat itself" for d in differences]
        differences = []
    return replace(
        comparison, checks=comparison.checks + 1, differences=[*comparison.differences, *differences], notes=notes
    )


def _judge_trajectory(
    comparison: Comparison,
    expected: Trace,
    obtained: Trace,
    ensemble: EnsembleDrift,
    step_of: dict[int, int],
    experiment: Experiment,
    witness: Witness | None,
) -> Comparison:
    """Compare the trajectories up to the horizon, beyond which rounding explains everything."""
    if witness is not None:
        ensemble = witness.bound(ensemble)
    last_step, horizon = int(expected.manifest["steps"]), ensemble.horizon
    steps = min(len(expected.rows), len(obtained.rows))
    drifts = drift_by_phase(expected, obtained, steps)
    drift_checks = [check_phase(drift, ensemble) for drift in drifts]
    judged = {epoch: step for epoch, step in step_of.items() if horizon is None or step < horizon}
    drift_checks += check_weights(expected, obtained, ensemble, judged)
    checks = len(expected.columns) + sum(map(len, expected.checkpoints.values()))
    predictions = _comparable(expected.predictions, obtained.predictions)
    # Those that do not follow from their own weights are a difference already, of the side that has them.
    is_judged = horizon is None and all(d.phase != "evaluation" for d in comparison.differences)
    if predictions is not None and is_judged:
        drift_checks.append(check_predictions(*predictions, ensemble.predictions, last_step))
        checks += 1
    forecasts = _comparable(expected.forecast, obtained.forecast)
    if forecasts is not None and horizon is None:
        subject = "the free-running forecasts are"
        drift_checks.append(check_predictions(*forecasts, ensemble.forecast, last_step, subject))
        checks += 1
    differences = [difference for _, difference in drift_checks]
    left, right = expected.sample, obtained.sample
    if horizon is None and left is not None and right is not None and left.ids.shape == right.ids.shape:
        # A probability moves by at most half of what its logits move by, over the temperature.
        tolerance = ENSEMBLE_MARGIN * ensemble.predictions / 2 / (experiment.case.data.temperature or 1)
        differences.append(sample_difference(left, right, tolerance, last_step))
        checks += 1
    differences.append(batch_difference(expected, obtained))
    found = [difference for difference in differences if difference is not None]
    if witness is not None:
        first = min((difference.step for difference in comparison.differences), default=last_step + 1)
        found = [witness.with_off_side(difference, ensemble, difference.step < first) for difference in found]
        found += witness.shared_differences(ensemble)
        checks += len(witness.exact.rows)
    return replace(
        comparison,
        checks=comparison.checks + checks,
        differences=[*comparison.differences, *found],
        notes=[*comparison.notes, *_note_of_horizon(horizon, comparison.steps)],
        trajectory_tolerance_ratio=max(ratio for ratio, _ in drift_checks),
        curves=_curves(expected, obtained, drifts[0].values[:, 0], ensemble),
        ratio_map=ratio_map(drifts, ensemble),
        gates=gates_of_window(experiment, {trace.manifest["runner"]: trace for trace in (expected, obtained)}),
    )


def _with_predictions(comparison: Comparison, expected: Trace, obtained: Trace, experiment: Experiment) -> Comparison:
    predictions = _comparable(expected.predictions, obtained.predictions)
    if predictions is None or predictions[0].shape != metrics.predictions_shape(experiment.examples):
        return comparison
    by_side = dict(zip((comparison.reference, comparison.runner), predictions, strict=True))
    curves, truth, scaling = comparison.curves, experiment.examples.test.targets, experiment.scaling
    if curves is not None and scaling is not None:
        left, right = (scaling.undo(values) for values in predictions)
        curves = replace(curves, truth=scaling.undo(truth), expected_predictions=left, obtained_predictions=right)
    return replace(
        comparison,
        max_prediction_difference=prediction_drift(*predictions),
        metrics={side: metrics.metrics_of(experiment, values) for side, values in by_side.items()},
        curves=curves,
        classes=_class_results(by_side, experiment),
    )


def _class_results(logits_by_side: Mapping[str, np.ndarray], experiment: Experiment) -> ClassResults | None:
    examples, test = experiment.examples, experiment.examples.test
    if experiment.case.task == "forecasting":
        return None
    confusion, by_timestep = {}, {}
    for side, logits in logits_by_side.items():
        counts = metrics.confusion_matrix(*metrics.judged(test.targets, logits, test.mask))
        if counts is not None and examples.outputs <= CONFUSED_CLASSES:
            confusion[side] = counts
        accuracy = metrics.accuracy_by_timestep(test.targets, logits, test.mask)
        if accuracy is not None:
            by_timestep[side] = accuracy
    labels = examples.labels or tuple(str(label) for label in range(examples.outputs))
    return ClassResults(labels, confusion, by_timestep)


def _comparable(left: np.ndarray | None, right: np.ndarray | None) -> tuple[np.ndarray, np.ndarray] | None:
    """Both arrays; None where one is missing or empty, or of another shape, which is a difference already."""
    if left is None or right is None or left.size == 0 or left.shape != right.shape:
        return None
    return left, right


def _curves(expected: Trace, obtained: Trace, loss_drift: np.ndarray, ensemble: EnsembleDrift) -> Curves:
    steps = len(loss_drift)
    nothing, tolerance = np.empty((0, 1)), ensemble.tolerance("loss")[:steps]
    return Curves(
        expected_losses=expected.losses[:steps],
        obtained_losses=obtained.losses[:steps],
        loss_drift=loss_drift,
        ensemble_loss_drift=ensemble.by_phase["loss"][:steps],
        loss_tolerance=np.where(np.isfinite(tolerance), tolerance, np.nan),
        truth=nothing,
        expected_predictions=nothing,
        obtained_predictions=nothing,
    )


def _last_steps(expected: Trace, obtained: Trace, experiment: Experiment) -> dict[int, int]:
    """The last step of each epoch that is to have a checkpoint, or has one on either side."""
    epochs = {*experiment.checkpoint_epochs, *expected.checkpoints, *obtained.checkpoints}
    return {epoch: epoch * experiment.steps_per_epoch - 1 for epoch in epochs}


def _note_of_horizon(horizon: int | None, steps: int) -> list[str]:
    if horizon is None:
        return []
    return [
        f"from step {horizon} of {steps} on rounding alone carries trainings of this case as far apart as their "
        "figures are large: there the single steps are judged, and what follows from the weights; the trajectory is not"
    ]


def _notes(obtained: Trace) -> list[str]:
    manifest = obtained.manifest
    if manifest["precision"] == manifest["dtype"]:
        return []
    return [
        f"Keras {manifest['versions'].get('keras')} computes in {manifest['precision']} on this backend although "
        f"{manifest['dtype']} was asked for ({', '.join(manifest['narrowed'])}); judged in {manifest['precision']}"
    ]
