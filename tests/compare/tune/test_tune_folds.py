"""The folds by which a trial is scored see nothing of the held-out data, and are what their kind of data needs."""

from collections import Counter

import numpy as np
import pytest

from compare.config.case import load_case, with_fields
from compare.data.examples import Part
from compare.errors import InputError
from compare.experiment.experiment import make_experiment
from compare.tune.folds import fold_experiments


@pytest.mark.parametrize("folds", [2, 5])
def test_the_past_predicts_and_held_out_values_stay_out(folds: int) -> None:
    """Of a series each fold trains on what is before its held-out part, and none reaches into the case's own."""
    case = with_fields(load_case("lstm"), {"data.points": 120, "data.noise": 0.5})
    whole = make_experiment(case)
    assert whole.scaling is not None
    first_held_out = 96
    series = whole.scaling.undo(whole.windows.target)  # type: ignore[union-attr]
    last = []
    for experiment in fold_experiments(case, folds):
        assert experiment.scaling is not None
        own = experiment.scaling.undo(experiment.windows.target)  # type: ignore[union-attr]
        np.testing.assert_allclose(own, series[: len(own)], atol=1e-5)
        assert len(own) <= first_held_out
        windows = experiment.windows
        assert windows.first_test >= windows.training  # type: ignore[union-attr]
        last.append(len(own))
    assert last == sorted(set(last))
    assert last[-1] == first_held_out, "the folds use all of the training part"


def test_classes_are_stratified() -> None:
    """Each fold has every class in the parts of the whole, up to one example, and each example is held out once."""
    case = with_fields(load_case("digits"), {"data.examples": 200})
    labels = make_experiment(case).examples.training.targets
    experiments = fold_experiments(case, 4)
    held = np.concatenate([experiment.examples.test.targets for experiment in experiments])
    assert Counter(held.tolist()) == Counter(labels.tolist())
    for experiment in experiments:
        counts = Counter(experiment.examples.test.targets.tolist())
        assert all(abs(counts[label] - count / 4) < 1 for label, count in Counter(labels.tolist()).items())
        assert len(experiment.examples.training.targets) + len(experiment.examples.test.targets) == len(labels)


@pytest.mark.parametrize("name", ["right_padding", "tagging", "text", "tokens"])
def test_each_example_is_held_out_once(name: str) -> None:
    """Whatever the task, each example of the training part is held out in one fold, with its targets and its mask."""
    case = with_fields(load_case(name), {"data.examples": 60})
    training = make_experiment(case).examples.training
    folds = [experiment.examples.test for experiment in fold_experiments(case, 3)]

    def rows(parts: list[Part]) -> Counter[bytes]:
        arrays = [[a for a in vars(part).values() if a is not None] for part in parts]
        return Counter(b"".join(a[row].tobytes() for a in part) for part in arrays for row in range(len(part[0])))

    assert rows(folds) == rows([training])


def test_a_class_that_is_too_rare_is_refused() -> None:
    """A class with fewer examples than folds cannot be in each of them."""
    case = with_fields(load_case("digits"), {"data.examples": 40})
    with pytest.raises(InputError, match=r"class \d has \d of the examples .* give fewer folds"):
        fold_experiments(case, 20)
