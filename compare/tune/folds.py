"""The folds of a cross-validation: in time for a series, stratified for classes; held-out data are in none of them."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from compare.config.case import Case, with_fields
from compare.config.data import DataConfig
from compare.data.examples import Examples, Part
from compare.data.series import Series
from compare.data.windows import borders
from compare.errors import InputError
from compare.experiment.experiment import Experiment, experiment_of, load_checked


def fold_experiments(case: Case, folds: int) -> list[Experiment]:
    """Cut the training part of a case into folds, each held out once, and make an experiment of each.

    Series are cut by scikit-learn's TimeSeriesSplit, so that the past predicts; one label an example by its
    StratifiedKFold; all else by KFold. Raises InputError where there are too few examples, of a class too.
    """
    data = load_checked(case)
    plain = {"training.record": "loss", "data.future": 0, "data.sampled": 0}
    if isinstance(data, Series):
        first, _ = borders(len(data.target), case)
        past = replace(data, features=data.features[:first], target=data.target[:first])
        whole = {**plain, "data.test_fraction": DataConfig.model_fields["test_fraction"].default, "data.folds": folds}
        cases = [with_fields(case, {**whole, "data.fold": fold}) for fold in range(1, folds + 1)]
        parts: list[tuple[Case, Series | Examples]] = [(fold, past) for fold in cases]
    else:
        light, splits = with_fields(case, plain), _splits(data.training, folds, case.seed)
        parts = [(light, _chosen(data, rows, held)) for rows, held in splits]
    of_first = experiment_of(*parts[0])
    return [of_first, *(experiment_of(*part, of_first.weights) for part in parts[1:])]


def _splits(part: Part, folds: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    from sklearn.model_selection import KFold, StratifiedKFold

    labels = part.targets
    if len(labels) < folds:
        raise InputError(f"{folds} folds need as many examples; {len(labels)} are trained on: give fewer folds")
    if labels.dtype.kind != "i" or labels.ndim > 1:
        yield from KFold(folds, shuffle=True, random_state=seed).split(labels)
        return
    rarest, count = min(Counter(labels.tolist()).items(), key=lambda item: item[1])
    if count < folds:
        raise InputError(
            f"class {rarest} has {count} of the examples that are trained on, and each of {folds} folds needs one: "
            "give fewer folds or more data.examples"
        )
    yield from StratifiedKFold(folds, shuffle=True, random_state=seed).split(labels, labels)


def _chosen(data: Examples, rows: np.ndarray, held: np.ndarray) -> Examples:
    def part(chosen: np.ndarray) -> Part:
        mask = None if data.training.mask is None else data.training.mask[chosen]
        return Part(data.training.inputs[chosen], data.training.targets[chosen], mask)

    return replace(data, training=part(rows), test=part(held))
