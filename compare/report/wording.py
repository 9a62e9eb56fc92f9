"""The sentences of every report."""

from collections.abc import Sequence

from compare.config.case import Case
from compare.judge.verdict import Cause, Comparison, Difference, FoldFigures, TensorUnits, Verdict

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
    given = case.data
    name = given.csv or given.file or given.folder or given.dataset
    if given.dataset in ("digits", "mnist"):
        return f"{name}, row by row"
    if given.dataset == "text":
        return f"{name}, pieces of {given.window} characters"
    if given.dataset in ("tokens", "sequences", "signals", "symbols"):
        padding = "" if given.padding == "none" else f", padding {given.padding}"
        return f"{name}, up to {given.window} timesteps{padding}"
    fold = "" if given.fold is None else f", fold {given.fold} of {given.folds}"
    return f"{name}, windows of {given.window} → {given.horizon}{fold}"


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


def location(difference: Difference) -> str:
    """Say where a difference stands."""
    if difference.phase == "start":
        return "before the first step"
    return f"step {difference.step}, {difference.phase}" + (f", {difference.tensor}" if difference.tensor else "")


def explain(comparison: Comparison) -> str:
    """Say in one sentence what came of a comparison."""
    if comparison.status == "failed":
        lines = [line for line in (comparison.error or "").splitlines() if line.strip()]
        return "\n".join(lines[:ERROR_LINES])
    first = comparison.first_difference
    if first is None:
        return (
            f"{comparison.steps} steps agree: loss within {figure(comparison.max_relative_loss_difference)} relative, "
            f"at most {share(comparison)} of what rounding explains"
        )
    numbers = ""
    if first.relative_error is not None:
        numbers = f": relative error {figure(first.relative_error)}, allowed {figure(first.tolerance)}"
    return f"first at {location(first)}: {first.message}{numbers}"


def cause(found: Cause) -> str:
    """Say why a comparison differs or failed, and what to do about it."""
    proof = "confirmed" if found.confirmed else "not confirmed"
    return f"cause: {found.name} ({proof}). {found.message}. To do: {found.fix}."


def status(comparison: Comparison) -> str:
    """Name what came of a comparison, a framework's defect that was expected among it."""
    return "defect" if comparison.expected else comparison.status


def share(comparison: Comparison) -> str:
    """Say how much of what is allowed was used."""
    shares = (comparison.largest_share_of_allowed, comparison.largest_step_share)
    return percent(max((value for value in shares if value is not None), default=None))


def percent(value: float | None) -> str:
    """Write a share of what is allowed."""
    if value is None:
        return "–"
    return f"{value:.0%}" if value < 10 else f"{value:.0f}×"


def units(row: TensorUnits, side: str) -> str:
    """Say how many units of precision a side is from the reference in a tensor."""
    return _count(row.sides[side][1]) if side in row.sides else "–"


def tolerance_ulps(row: TensorUnits, side: str) -> str:
    """Say how many units of precision a side may be from the reference in a tensor."""
    return _count(row.sides[side][2]) if side in row.sides else "–"


def _count(value: float) -> str:
    return "∞" if value == float("inf") else f"{value:.2g}" if value < 10 else f"{value:.0f}"


def conclusion(verdict: Verdict) -> str:
    """Say in one line what came of a run."""
    total = len(verdict.comparisons)
    unexpected = [c for c in verdict.comparisons if not c.expected]
    counts = {status: [c for c in unexpected if c.status == status] for status in ("differs", "failed")}
    if verdict.agree:
        expected = total - len(unexpected)
        shown = "a known defect" if expected == 1 else f"{expected} known defects"
        defects = f", and {shown} of a framework showed as expected" if expected else ""
        if not unexpected:
            return f"No comparison agrees{defects}."
        subject = "The comparison agrees" if total == 1 else f"All {len(unexpected)} comparisons agree"
        found = [c.max_relative_loss_difference for c in unexpected if c.max_relative_loss_difference is not None]
        within = f": losses within {figure(max(found))} relative at every step" if found else ""
        if found and max(found) > FAR_APART:
            # Of a long training, or one whose loss is nearly 0; the figure alone would read like a difference.
            within = f": twins that start a last bit apart drift as far, {figure(max(found))} relative at some step"
        return f"{subject}{within}{defects}."
    parts = [f"{len(found)} of {total} {_verb(status, found)}" for status, found in counts.items() if found]
    named = [f"{c.case} on {c.runner}" for found in counts.values() for c in found]
    more = f" and {len(named) - NAMED} more" if len(named) > NAMED else ""
    return f"{'; '.join(parts)}: {', '.join(named[:NAMED])}{more}."


def _verb(status: str, found: Sequence[Comparison]) -> str:
    if status == "failed":
        return "could not be run"
    return "differs" if len(found) == 1 else "differ"
