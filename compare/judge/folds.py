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
        found = [comparison for comparison in comparisons if comparison.case in names]
        for side in dict.fromkeys(side for one in found for side in (one.reference, one.runner)):
            by_fold = [_metrics(name, side, found) for name in names]
            metrics = dict.fromkeys(metric for figures in by_fold for metric in figures)
            summaries.append(
                FoldSummary(
                    group,
                    side,
                    len(names),
                    {metric: FoldFigures(tuple(figures.get(metric) for figures in by_fold)) for metric in metrics},
                )
            )
    return summaries


def _metrics(case: str, side: str, comparisons: Sequence[Comparison]) -> Mapping[str, float | None]:
    """One side's metrics of one fold, from any comparison that has them."""
    return next((one.metrics[side] for one in comparisons if one.case == case and side in one.metrics), {})
