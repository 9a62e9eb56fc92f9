"""Independent masks: each side draws its own, so that trainings are compared as samples of a distribution."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from compare.config.case import Case
from compare.experiment.experiment import Experiment
from compare.judge import completeness
from compare.judge.metrics import epoch_losses, metrics_of
from compare.judge.verdict import Comparison, Difference
from compare.trace.trace import Trace

# One false alarm in a thousand comparisons of the means, and one in a thousand of all the rates of a comparison.
SIGNIFICANCE = 1e-3


def judge_samples(expected: Sequence[Trace], obtained: Sequence[Trace], experiment: Experiment) -> Comparison:
    """Compare trainings of two sides that draw independent dropout masks, several of each, with other draws.

    Same experiment; the same parts are random; at each location the rate and the scale are those of the case; the mean
    training loss of the last epoch is the same on both sides (Welch's t-test; Welch 1947).
    """
    first, other = expected[0], obtained[0]
    runner = other.manifest["runner"]
    differences = [
        difference
        for left, right in zip(expected, obtained, strict=True)
        for difference in (
            *completeness.experiment_differences(left, right),
            *completeness.missing_columns(left, right, completeness.required_columns(experiment)),
            *completeness.missing_steps(left, right),
            *completeness.missing_predictions(left, right, experiment),
        )
    ]
    comparison = Comparison(
        case=experiment.case.name,
        runner=runner,
        reference=first.manifest["runner"],
        dtype=first.manifest["dtype"],
        status="agrees",
        checks=4 * len(expected),
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
            left, right, first.manifest["runner"], runner, int(first.manifest["steps"])
        )
        differences += mean_differences
        metrics = {
            trace.manifest["runner"]: metrics_of(experiment, trace.predictions)
            for trace in (first, other)
            if trace.predictions is not None
        }
        locations = len(first.manifest["dropout"]["places"])
        comparison = replace(
            comparison, notes=(note,), metrics=metrics, checks=comparison.checks + 2 + 2 * locations * len(expected)
        )
    return replace(comparison, differences=differences, status="differs" if differences else "agrees")


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
    left: np.ndarray, right: np.ndarray, expected: str, obtained: str, steps: int
) -> tuple[str, list[Difference]]:
    """Compare the mean losses of two samples; the text says what was measured, whatever came of it."""
    from scipy.stats import ttest_ind

    low, high = ttest_ind(right, left, equal_var=False).confidence_interval(1 - SIGNIFICANCE)
    note = (
        f"mean loss of the last epoch over {len(left)} seeds: {expected} {left.mean():.4g}, {obtained} "
        f"{right.mean():.4g}; difference {right.mean() - left.mean():+.2g}, {1 - SIGNIFICANCE:.1%} interval "
        f"{low:+.2g} to {high:+.2g}"
    )
    if low <= 0 <= high:
        return note, []
    message = "the mean losses of the two sides are not the same"
    means = float(left.mean()), float(right.mean())
    return note, [Difference("distribution", steps, "loss", message, expected=means[0], obtained=means[1])]
