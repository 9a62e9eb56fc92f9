"""Independent masks: each side draws its own, so that trainings are compared as samples of a distribution."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from compare.config.case import Case
from compare.experiment.experiment import Experiment
from compare.judge import completeness
from compare.judge.inference import prediction_error
from compare.judge.margins import ENSEMBLE_FLOOR_ULPS, ENSEMBLE_MARGIN, ulp
from compare.judge.metrics import epoch_losses, metrics_of
from compare.judge.step_errors import StepError
from compare.judge.verdict import Comparison, Difference
from compare.trace.trace import Trace

# One false alarm in a thousand comparisons of the means, and one in a thousand of all the rates of a comparison.
SIGNIFICANCE = 1e-3

# How probably a difference is found that is told to be found.
POWER = 0.9


def judge_samples(
    expected: Sequence[Trace], obtained: Sequence[Trace], experiment: Experiment, shared: Comparison | None = None
) -> Comparison:
    """Compare trainings of two sides that draw independent dropout masks, several of each, with other draws.

    Same experiment; the same parts are random; at each location the rate and the scale are those of the case;
    predictions follow from the last weights of each training; the mean training loss of the last epoch is the same on
    both sides (Welch's t-test; Welch 1947). `shared` is the comparison of both sides with shared masks, in which each
    step is compared: what differs there differs here. Without it no step is. Raises TraceError for trainings on
    different devices.
    """
    completeness.require_one_device((*expected, *obtained))
    first, other = expected[0], obtained[0]
    runner = other.manifest["runner"]
    last_steps = {epoch: epoch * experiment.steps_per_epoch - 1 for epoch in experiment.checkpoint_epochs}
    differences = [
        difference
        for left, right in zip(expected, obtained, strict=True)
        for difference in (
            *completeness.experiment_differences(left, right),
            *completeness.missing_columns(left, right, completeness.required_columns(experiment)),
            *completeness.missing_steps(left, right, experiment),
            *completeness.missing_weights(left, right, experiment, last_steps),
            *completeness.missing_predictions(left, right, experiment),
        )
    ]
    comparison = Comparison(
        case=experiment.case.name,
        runner=runner,
        reference=first.manifest["runner"],
        dtype=first.manifest["dtype"],
        status="agrees",
        checks=5 * len(expected),
        steps=min(len(first.rows), len(other.rows)),
        versions={**first.manifest["versions"], **other.manifest["versions"]},
        epoch_losses={trace.manifest["runner"]: epoch_losses(trace, experiment) for trace in (first, other)},
    )
    if not differences:
        differences += _probe_differences(expected, experiment.case)
        differences += _probe_differences(obtained, experiment.case)
        differences += _placement_differences(expected, obtained)
        left, right = (
            np.array([epoch_losses(trace, experiment)[-1] for trace in side]) for side in (expected, obtained)
        )
        note, mean_differences = _compare_means(
            left, right, first.manifest["runner"], runner, int(first.manifest["steps"]), _rounding(other, shared)
        )
        predicted = [
            (trace, error)
            for trace in (*expected, *obtained)
            if (error := prediction_error(experiment, trace)) is not None
        ]
        differences += _prediction_differences(predicted)
        differences += mean_differences
        metrics = {
            trace.manifest["runner"]: metrics_of(experiment, trace.predictions)
            for trace in (first, other)
            if trace.predictions is not None
        }
        locations = len(first.manifest["dropout"]["places"])
        checks = comparison.checks + 2 + 2 * locations * len(expected) + len(predicted)
        comparison = replace(comparison, notes=(note,), metrics=metrics, checks=checks)
    if shared is None:
        return replace(comparison, differences=differences, status="differs" if differences else "agrees")
    return _with_shared_masks(comparison, differences, shared)


def _with_shared_masks(comparison: Comparison, differences: list[Difference], shared: Comparison) -> Comparison:
    """Add what was said of the same case with shared masks, whose steps can be compared."""
    both = [
        *differences,
        *(replace(difference, message=f"with shared masks {difference.message}") for difference in shared.differences),
    ]
    return replace(
        comparison,
        status="differs" if both else shared.status,
        differences=both,
        checks=comparison.checks + shared.checks,
        notes=[*comparison.notes, *shared.notes],
        causes=shared.causes,
        expected=shared.expected and not differences,
        tensor_errors=shared.tensor_errors,
        step_tolerance_ratio=shared.step_tolerance_ratio,
        trajectory_tolerance_ratio=shared.trajectory_tolerance_ratio,
    )


def detectable_effect(count: int, power: float = POWER) -> float:
    """Return which difference of two means is found with a probability, in standard deviations of one training.

    Of `count` trainings on each side, by the t-test at the level SIGNIFICANCE: from the noncentral t distribution
    (Cohen 1988, section 2.4).
    """
    from scipy.optimize import brentq
    from scipy.stats import nct, t

    freedom, root = 2 * count - 2, math.sqrt(count / 2)
    limit = t.ppf(1 - SIGNIFICANCE / 2, freedom)
    return float(brentq(lambda effect: nct.sf(limit, freedom, effect * root) - power, 0, 20))


def _rounding(obtained: Trace, shared: Comparison | None) -> float:
    """How far rounding alone may carry the mean loss of the last epoch, relative.

    No less than the floor of a trajectory's tolerance; as far as that is where masks are shared. The root of a loss is
    what its tolerance is of.
    """
    floor = ENSEMBLE_MARGIN * ENSEMBLE_FLOOR_ULPS * ulp(obtained.manifest["precision"])
    if shared is None or shared.curves is None:
        return 2 * floor
    steps = len(obtained.rows) // int(obtained.manifest["epochs"])
    return 2 * max(floor, float(shared.curves.loss_tolerance[-steps:].max()))


def _prediction_differences(predicted: Sequence[tuple[Trace, StepError]]) -> Iterator[Difference]:
    for trace, error in predicted:
        if not error.tolerance_ratio <= 1:
            side = trace.manifest["runner"]
            message = f"the predictions of {side} do not follow from its last weights"
            yield Difference(
                "predictions", error.step, "forward", message, None, error.error, error.tolerance, off_side=side
            )


def _probe_differences(traces: Sequence[Trace], case: Case) -> Iterator[Difference]:
    """Compare rate and scale at each location of one side's dropout with those of the case."""
    from scipy.stats import binomtest  # takes half a second to import

    side, locations = traces[0].manifest["runner"], traces[0].manifest["dropout"]["places"]
    for location in locations:
        kind = location.rpartition(".")[2]
        rate = getattr(case.model, kind) if kind in ("input_dropout", "recurrent_dropout") else case.model.dropout
        probes = [trace.manifest["dropout"]["places"][location] for trace in traces]
        zeros, numbers = (sum(probe[name] for probe in probes) for name in ("zeros", "numbers"))
        if binomtest(zeros, numbers, rate).pvalue < SIGNIFICANCE / (2 * len(locations)):
            message = f"{side} drops {zeros / numbers:.3f} of all numbers, {rate:g} expected"
            yield Difference(
                "dropout-rate", 0, "forward", message, location, off_side=side, expected=rate, obtained=zeros / numbers
            )
        scale = max(abs(probe["scale"] * (1 - rate) - 1) for probe in probes)
        tolerance = 4 * float(np.finfo(np.float32).eps)
        if scale > tolerance:
            message = f"{side} does not scale what it keeps by {1 / (1 - rate):g}"
            yield Difference("dropout-scale", 0, "forward", message, location, scale, tolerance, off_side=side)


def _placement_differences(expected: Sequence[Trace], obtained: Sequence[Trace]) -> Iterator[Difference]:
    left, right = expected[0].manifest["dropout"]["places"], obtained[0].manifest["dropout"]["places"]
    for name in sorted(left.keys() ^ right.keys()):
        yield Difference("missing-tensor", 0, "forward", f"{name} is on one side only", name)
    # A part is random where any sample shows it: few numbers at a low rate can all be kept in one of them.
    parts = [set().union(*(trace.manifest["dropout"]["random"] for trace in side)) for side in (expected, obtained)]
    for part in sorted(parts[0] ^ parts[1]):
        yield Difference("dropout-placement", 0, "forward", f"{part} is random on one side only", part)


def _compare_means(
    left: np.ndarray, right: np.ndarray, expected: str, obtained: str, steps: int, rounding: float
) -> tuple[str, list[Difference]]:
    """Compare the mean losses of two samples; the text says what was measured, whatever came of it.

    Where the seeds hardly spread, the interval is as wide as rounding, relative to the loss, makes it.
    """
    from scipy.stats import t

    count = len(left)
    means, variances = (left.mean(), right.mean()), (left.var(ddof=1) / count, right.var(ddof=1) / count)
    error, difference = math.sqrt(sum(variances)), float(means[1] - means[0])
    freedom = sum(variances) ** 2 / sum(v**2 / (count - 1) for v in variances) if error else 1.0
    half_width = max(float(t.ppf(1 - SIGNIFICANCE / 2, freedom)) * error, rounding * abs(float(means[0])))
    effect = max(detectable_effect(count) * error * math.sqrt(count / 2), rounding * abs(float(means[0])))
    share = effect / abs(float(means[0])) if means[0] else math.inf
    note = (
        f"mean loss of the last epoch over {count} seeds: {expected} {means[0]:.4g}, {obtained} {means[1]:.4g}; "
        f"difference {difference:+.2g}, {1 - SIGNIFICANCE:.1%} interval {difference - half_width:+.2g} to "
        f"{difference + half_width:+.2g}; a difference of {effect:.2g} ({share:.2g} of the loss) is found in "
        f"{POWER:.0%} of such comparisons"
    )
    if abs(difference) <= half_width:
        return note, []
    message = "the mean losses of the two sides are not the same"
    return note, [
        Difference("distribution", steps, "loss", message, expected=float(means[0]), obtained=float(means[1]))
    ]
