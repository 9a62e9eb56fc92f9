"""Figures over the folds of a cross-validation, for each side."""

from collections.abc import Mapping, Sequence

from compare.config.case import Case, fold_group
from compare.judge.verdict import Comparison, FoldFigures, FoldSummary


def summarise_folds(cases: Sequence[Case], comparisons: Sequence[Comparison]) -> list[FoldSummary]:
    """Summarise the metrics of every side over the folds of each case that has any."""
    groups: dict[str, list[Case]] = {}
    for case in cases:
        group = fold_group(case)
        if group is not None:
            groups.setdefault(group, []).append(case)
    summaries = []
    for group, folds in groups.items():
        names = [case.name for case in folds]
        of_group = [comparison for comparison in comparisons if comparison.case in names]
        for side in dict.fromkeys(side for c in of_group for side in (c.reference, c.runner)):
            by_fold = [_metrics(name, side, of_group) for name in names]
            metrics = dict.fromkeys(metric for figures in by_fold for metric in figures)
            figures = {metric: FoldFigures(tuple(fold.get(metric) for fold in by_fold)) for metric in metrics}
            summaries.append(FoldSummary(group, side, len(names), figures))
    return summaries


def _metrics(case: str, side: str, comparisons: Sequence[Comparison]) -> Mapping[str, float | None]:
    """One side's metrics of one fold, from any comparison that has them."""
    return next((c.metrics[side] for c in comparisons if c.case == case and side in c.metrics), {})
