"""The sentences of every report."""

from collections.abc import Sequence

from compare.config.case import Case
from compare.judge.verdict import Cause, Comparison, Difference, FoldFigures, TensorErrors, Verdict

# How much of a framework's own message is shown; `verdict.json` has all of it.
ERROR_LINES = 4

# How many comparisons a conclusion names.
NAMED = 3

# From here on the difference of two losses, relative to them, is more than a reader takes for rounding.
FAR_APART = 0.01

METRICS = {"mse": "MSE", "rmse": "RMSE", "mae": "MAE", "r2": "R²", "accuracy": "accuracy", "perplexity": "perplexity"}


def model(case: Case) -> str:
    """Say what a case trains: the cell, its size, and every option that is not the default's."""
    layers = f"{case.model.layers} layer{'s' if case.model.layers > 1 else ''} of {case.model.units} units"
    options = case.model.model_dump(exclude_defaults=True, exclude={"cell", "layers", "units"}).items()
    return ", ".join([case.model.cell, layers, *(f"{name} = {str(value).lower()}" for name, value in options)])


def data(case: Case) -> str:
    """Say what a case is trained on."""
    data = case.data
    name = data.csv or data.file or data.folder or data.dataset
    if data.dataset in ("digits", "mnist"):
        return f"{name}, row by row"
    if data.dataset == "text":
        return f"{name}, pieces of {data.window} characters"
    if data.dataset in ("tokens", "sequences", "signals", "symbols"):
        padding = "" if data.padding == "none" else f", padding {data.padding}"
        return f"{name}, up to {data.window} timesteps{padding}"
    fold = "" if data.fold is None else f", fold {data.fold} of {data.folds}"
    return f"{name}, windows of {data.window} → {data.horizon}{fold}"


def metrics_title(case: Case) -> str:
    """Head the table of test metrics."""
    return "Test metrics" if case.task != "forecasting" else "Test metrics, in the units of the data"


def mean_and_spread(figures: FoldFigures | None) -> str:
    """Write a metric's mean over the folds and its standard deviation."""
    if figures is None or figures.mean is None:
        return "–"
    spread = "" if figures.standard_deviation is None else f" ± {figures.standard_deviation:.3g}"
    return f"{figures.mean:.4g}{spread}"


def exactly(value: object) -> str:
    """Write a metric with the digits in which two sides may differ."""
    return f"{value:.8g}" if isinstance(value, float) else "–"


def figure(value: float | None) -> str:
    """Write a small figure with two digits."""
    return "–" if value is None else f"{value:.1e}"


def four_digits(value: float | None) -> str:
    """Write a figure with four digits."""
    return "–" if value is None else f"{value:.4g}"


def location(difference: Difference) -> str:
    """Say where a difference stands."""
    if difference.phase == "start":
        return "before the first step"
    return f"step {difference.step}, {difference.phase}" + (f", {difference.tensor}" if difference.tensor else "")


def explain(comparison: Comparison) -> str:
    """Say in one sentence what came of a comparison."""
    if comparison.status in ("failed", "undecidable"):
        lines = [line for line in (comparison.error or "").splitlines() if line.strip()]
        return "\n".join(lines[:ERROR_LINES])
    first = comparison.first_difference
    if first is None:
        return (
            f"{comparison.steps} steps agree: loss within {figure(comparison.max_relative_loss_difference)} relative, "
            f"error / tolerance at most {tolerance_ratio(comparison)}"
        )
    return f"first at {location(first)}: {first.message}{figures(first, ': relative error')}"


def figures(difference: Difference, lead: str) -> str:
    """Write a difference's error and tolerance, after a lead; nothing where there is no number to give."""
    if difference.relative_error is None:
        return ""
    return f"{lead} {figure(difference.relative_error)}, tolerance {figure(difference.tolerance)}"


def explain_cause(cause: Cause) -> str:
    """Say why a comparison differs or failed, and what to do about it."""
    proof = "confirmed" if cause.confirmed else "not confirmed"
    return f"cause: {cause.name} ({proof}). {cause.message}. To do: {cause.fix}."


def status(comparison: Comparison) -> str:
    """Name what came of a comparison, a framework's defect that was expected among it."""
    return "defect" if comparison.expected else comparison.status


def tolerance_ratio(comparison: Comparison) -> str:
    """Write the largest error / tolerance of any checked step and of the trajectory."""
    ratios = (comparison.trajectory_tolerance_ratio, comparison.step_tolerance_ratio)
    return ratio(max((value for value in ratios if value is not None), default=None))


def ratio(value: float | None) -> str:
    """Write an error / tolerance."""
    return "–" if value is None else f"{value:.2f}" if value < 10 else f"{value:.0f}"


def error_ulps(errors: TensorErrors, side: str) -> str:
    """Write how many ulps a side is from the reference in a tensor."""
    return _count(errors.sides[side][1]) if side in errors.sides else "–"


def tolerance_ulps(errors: TensorErrors, side: str) -> str:
    """Write how many ulps a side may be from the reference in a tensor."""
    return _count(errors.sides[side][2]) if side in errors.sides else "–"


def _count(value: float) -> str:
    return "∞" if value == float("inf") else f"{value:.2g}" if value < 10 else f"{value:.0f}"


def conclusion(verdict: Verdict) -> str:
    """Say in one line what came of a run."""
    total = len(verdict.comparisons)
    unexpected = [c for c in verdict.comparisons if not c.expected]
    groups = {status: [c for c in unexpected if c.status == status] for status in ("differs", "failed", "undecidable")}
    if verdict.agree:
        expected = total - len(unexpected)
        shown = "a known defect" if expected == 1 else f"{expected} known defects"
        defects = f", and {shown} of a framework showed as expected" if expected else ""
        if not unexpected:
            return f"No comparison agrees{defects}."
        subject = "The comparison agrees" if total == 1 else f"All {len(unexpected)} comparisons agree"
        largest = max((c.max_relative_loss_difference or 0.0 for c in unexpected), default=0.0)
        measured = any(c.max_relative_loss_difference is not None for c in unexpected)
        within = f": losses within {figure(largest)} relative at every step" if measured else ""
        if largest > FAR_APART:
            # Of a long training, or one whose loss is nearly 0; the figure alone would read like a difference.
            within = f": ensemble members drift as far, {figure(largest)} relative at some step"
        return f"{subject}{within}{defects}."
    parts = [f"{len(group)} of {total} {_verb(status, group)}" for status, group in groups.items() if group]
    named = [f"{c.case} on {c.runner}" for group in groups.values() for c in group]
    more = f" and {len(named) - NAMED} more" if len(named) > NAMED else ""
    return f"{'; '.join(parts)}: {', '.join(named[:NAMED])}{more}."


def next_step(verdict: Verdict) -> str:
    """Say what to do about a run."""
    if verdict.agree:
        case = verdict.comparisons[0].case
        return (
            f"To keep it so: python -m compare record {case} --golden golden/, and check --golden golden/ in your CI."
        )
    unexpected = [comparison for comparison in verdict.comparisons if not comparison.expected]
    differing = [comparison for comparison in unexpected if comparison.status == "differs"]
    if not differing:
        return "Nothing was found to differ; open what could not be judged below: its message says what is missing."
    causes = dict.fromkeys(cause.name for comparison in differing for cause in comparison.causes)
    if causes:
        return f"Open a comparison that differs: its cause ({', '.join(causes)}) and what to do about it stand there."
    first = differing[0]
    difference = first.first_difference
    where = "" if difference is None else f", {location(difference)}: nothing before it differs"
    return f"Begin with {first.case} on {first.runner}{where}. In your own models: python -m compare explain PAIR.py."


def _verb(status: str, comparisons: Sequence[Comparison]) -> str:
    if status in ("failed", "undecidable"):
        return "could not be run" if status == "failed" else "cannot be decided"
    return "differs" if len(comparisons) == 1 else "differ"
