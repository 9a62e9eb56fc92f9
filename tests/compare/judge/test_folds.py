"""Figures over the folds of a cross-validation: nothing is averaged over what is missing."""

import json
import statistics
from collections.abc import Sequence

import pytest

from compare.config.case import Case, fold_cases, fold_group, load_case, with_fields
from compare.errors import InputError
from compare.judge import Comparison, Verdict
from compare.judge.folds import summarise_folds

VALUES = (0.5, 0.25, 0.75)


def comparisons(cases: Sequence[Case], values: Sequence[float | None]) -> list[Comparison]:
    """A comparison on two runners for each case, whose Keras sides have twice the reference's error."""
    return [
        Comparison(
            case=case.name, runner=runner, reference="torch", dtype="float32", status="agrees",
            metrics={"torch": {"mse": value}, runner: {"mse": None if value is None else 2 * value}},
        )
        for case, value in zip(cases, values, strict=True)
        for runner in ("keras-jax", "keras-torch")
    ]  # fmt: skip


def test_each_side_has_mean_and_spread() -> None:
    """Each side has one summary a case, with every fold's value, their mean and sample standard deviation."""
    cases = fold_cases(load_case("lstm"), 3)
    summaries = summarise_folds([*cases, load_case("gru")], comparisons(cases, VALUES))
    assert [(summary.case, summary.side, summary.folds) for summary in summaries] == [
        ("lstm", "torch", 3),
        ("lstm", "keras-jax", 3),
        ("lstm", "keras-torch", 3),
    ]
    for summary, factor in zip(summaries, (1, 2, 2), strict=True):
        figures = summary.metrics["mse"]
        assert figures.values == tuple(factor * value for value in VALUES)
        assert figures.mean == pytest.approx(factor * statistics.mean(VALUES))
        assert figures.standard_deviation == pytest.approx(factor * statistics.stdev(VALUES))


def test_a_fold_without_a_figure_leaves_no_mean() -> None:
    """A fold that failed, or whose metric is not defined, shows as missing; the others are not averaged without it."""
    cases = fold_cases(load_case("lstm"), 3)
    failed = comparisons(cases[:2], VALUES[:2])
    undefined = comparisons(cases, (*VALUES[:2], None))
    for incomplete in (failed, undefined):
        figures = summarise_folds(cases, incomplete)[0].metrics["mse"]
        assert figures.values == (*VALUES[:2], None)
        assert figures.mean is figures.standard_deviation is None


def test_the_verdict_has_the_folds_as_json() -> None:
    """The folds stand in the verdict beside the comparisons, in a form that JSON has."""
    cases = fold_cases(load_case("lstm"), 3)
    all_folds = comparisons(cases, VALUES)
    content = json.loads(json.dumps(Verdict(all_folds, summarise_folds(cases, all_folds)).as_json(), allow_nan=False))
    assert content["folds"][0] == {
        "case": "lstm",
        "side": "torch",
        "folds": 3,
        "metrics": {
            "mse": {"values": list(VALUES), "mean": pytest.approx(0.5), "standard_deviation": pytest.approx(0.25)}
        },
    }
    assert Verdict(all_folds).as_json()["folds"] == []


def test_folds_are_cases_of_their_own() -> None:
    """Each fold is a case named after its case, which differs from it in its fold alone."""
    case = load_case("gru")
    first, second = fold_cases(case, 2)
    assert (first.name, second.name) == ("gru-fold1", "gru-fold2")
    assert fold_group(first) == fold_group(second) == "gru"
    assert fold_group(case) is None
    back = with_fields(second, {"name": "gru", "data.folds": None, "data.fold": None})
    assert back == case


@pytest.mark.parametrize("folds", [1, 0, -3])
def test_fewer_than_two_folds_are_refused(folds: int) -> None:
    """One fold is no cross-validation."""
    with pytest.raises(InputError, match=rf"data\.folds = {folds}: .*greater than or equal to 2"):
        fold_cases(load_case("gru"), folds)
