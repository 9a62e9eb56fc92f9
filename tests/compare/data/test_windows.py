"""Windows: none lost, none copied, none that sees what it must not."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.model_selection import TimeSeriesSplit

from compare.config.case import Case, fold_cases, load_case, with_fields
from compare.data.series import Series
from compare.data.windows import Scaling, Windows, batch_schedule, make_windows
from compare.errors import InputError

MakeWindows = Callable[[Series, Case], tuple[Windows, Scaling]]

SHAPES = [
    pytest.param({"window": 10, "horizon": 1, "features": 1}, id="one-step-ahead"),
    pytest.param({"window": 4, "horizon": 3, "features": 1}, id="three-steps-ahead"),
    pytest.param({"window": 7, "horizon": 2, "features": 3}, id="three-features"),
    pytest.param({"window": 1, "horizon": 1, "features": 2}, id="one-value-windows"),
]


def case_of(window: int, horizon: int, test_fraction: float = 0.2) -> Case:
    """A float64 case, so that values can be told apart after scaling."""
    return with_fields(
        load_case("lstm"),
        {
            "data.window": window,
            "data.horizon": horizon,
            "data.test_fraction": test_fraction,
            "dtype": "float64",
        },
    )


def counting(points: int, features: int) -> Series:
    """A series whose values say where they stand: feature j at time t is 1000 j + t, the target -t."""
    times = np.arange(points, dtype=np.float64)
    names = tuple(f"feature{j}" for j in range(features))
    return Series(np.stack([1000 * j + times for j in range(features)], axis=1), -times, names, "target")


def held_out_from(points: int, test_fraction: float = 0.2) -> int:
    """The first time that is held out."""
    return points - round(points * test_fraction)


def times_of(scaled: np.ndarray, mean: float, deviation: float) -> np.ndarray:
    """Undo the scaling of a counting series' value and round to the time it stands for."""
    return np.rint(scaled * deviation + mean).astype(int)


def check_content(make: MakeWindows, window: int, horizon: int, features: int, points: int = 60) -> None:
    """Raise AssertionError unless window i sees times i ... i + window - 1 and predicts the next `horizon` ones."""
    windows, scaling = make(counting(points, features), case_of(window, horizon))
    count = points - window - horizon + 1
    assert windows.inputs.shape == (count, window, features)
    assert windows.targets.shape == (count, horizon)
    trained_on = np.arange(held_out_from(points))
    starts = np.arange(count)[:, None]
    for j in range(features):
        obtained = times_of(windows.inputs[:, :, j], trained_on.mean(), trained_on.std())
        assert np.array_equal(obtained, starts + np.arange(window))
    obtained = -times_of(windows.targets, scaling.mean, scaling.standard_deviation)
    assert np.array_equal(obtained, starts + window + np.arange(horizon))


def check_no_leak(make: MakeWindows, window: int, horizon: int, features: int, points: int = 60) -> None:
    """Raise AssertionError if what is trained on, or how it is scaled, changes with held-out values."""
    series, case = counting(points, features), case_of(window, horizon)
    first = held_out_from(points)
    changed_features, changed_target = series.features.copy(), series.target.copy()
    changed_features[first:] += 1e6
    changed_target[first:] -= 1e6
    changed = replace(series, features=changed_features, target=changed_target)
    (windows, scaling), (other, other_scaling) = make(series, case), make(changed, case)
    assert scaling == other_scaling
    assert np.array_equal(windows.training_inputs, other.training_inputs)
    assert np.array_equal(windows.training_targets, other.training_targets)
    # The held-out part did change, or nothing has been shown.
    assert not np.array_equal(windows.test_targets, other.test_targets)


def check_parts(make: MakeWindows, window: int, horizon: int, features: int, points: int = 60) -> None:
    """Raise AssertionError unless every held-out value is predicted, none trained on and no window lost."""
    windows, scaling = make(counting(points, features), case_of(window, horizon))
    first = held_out_from(points)
    trained = -times_of(windows.training_targets, scaling.mean, scaling.standard_deviation)
    tested = -times_of(windows.test_targets, scaling.mean, scaling.standard_deviation)
    assert trained.max() == first - 1
    assert trained.min() == window
    assert tested.min() == first
    assert tested.max() == points - 1
    # Only the windows whose horizon reaches over the border belong to neither part.
    assert len(trained) + len(tested) == points - window - horizon + 1 - (horizon - 1)


@pytest.mark.parametrize("shape", SHAPES)
def test_windows_see_and_predict_the_right_values(shape: dict[str, int]) -> None:
    """Window i holds values i to i + window - 1 of every feature, and its targets are the next `horizon` ones."""
    check_content(make_windows, **shape)


@pytest.mark.parametrize("shape", SHAPES)
def test_held_out_values_do_not_leak(shape: dict[str, int]) -> None:
    """Held-out values change no training input, no training target and no figure of the scaling."""
    check_no_leak(make_windows, **shape)


@pytest.mark.parametrize("shape", SHAPES)
def test_no_window_is_lost(shape: dict[str, int]) -> None:
    """Every value after the first window is predicted once, by the training part or by the held-out part."""
    check_parts(make_windows, **shape)


def scaled_by_everything(series: Series, case: Case) -> tuple[Windows, Scaling]:
    """Planted: the scaling is fitted on the whole series."""
    windows, _ = make_windows(series, case)
    target = (series.target - series.target.mean()) / series.target.std()
    features = (series.features - series.features.mean(axis=0)) / series.features.std(axis=0)
    return replace(windows, target=target, features=features), Scaling(series.target.mean(), series.target.std())


def one_window_too_many(series: Series, case: Case) -> tuple[Windows, Scaling]:
    """Planted: the last training window predicts the first held-out value."""
    windows, scaling = make_windows(series, case)
    return replace(windows, training=windows.training + 1), scaling


def one_window_lost(series: Series, case: Case) -> tuple[Windows, Scaling]:
    """Planted: the first held-out value is predicted by no window."""
    windows, scaling = make_windows(series, case)
    return replace(windows, first_test=windows.first_test + 1), scaling


def target_shifted(series: Series, case: Case) -> tuple[Windows, Scaling]:
    """Planted: the target is the value before the one to predict."""
    windows, scaling = make_windows(series, case)
    return replace(windows, target=np.roll(windows.target, 1)), scaling


def inputs_reversed(series: Series, case: Case) -> tuple[Windows, Scaling]:
    """Planted: time runs backwards in the inputs."""
    windows, scaling = make_windows(series, case)
    return replace(windows, features=windows.features[::-1]), scaling


@pytest.mark.parametrize(
    ("check", "fault"),
    [
        (check_no_leak, scaled_by_everything),
        (check_no_leak, one_window_too_many),
        (check_parts, one_window_too_many),
        (check_parts, one_window_lost),
        (check_content, target_shifted),
        (check_content, inputs_reversed),
    ],
)
def test_wrong_windows_are_caught(check: Callable[..., None], fault: MakeWindows) -> None:
    """Each check of the windows fails for a planted leak, loss or shift."""
    with pytest.raises(AssertionError):
        check(fault, window=5, horizon=1, features=1)


@pytest.mark.parametrize("shape", SHAPES)
def test_windows_are_views(shape: dict[str, int]) -> None:
    """All windows of a series share its memory: a long series is not multiplied by the length of its windows."""
    case = case_of(shape["window"], shape["horizon"])
    windows, _ = make_windows(counting(60, shape["features"]), case)
    for inputs in (windows.inputs, windows.training_inputs, windows.test_inputs):
        assert np.shares_memory(inputs, windows.features)
    for targets in (windows.targets, windows.training_targets, windows.test_targets):
        assert np.shares_memory(targets, windows.target)
    assert not np.shares_memory(windows.inputs.copy(), windows.features)


def test_scaling_is_the_training_parts() -> None:
    """The training part has mean 0 and standard deviation 1 in every column, and the scaling undoes itself."""
    generator = np.random.default_rng(1)
    features = generator.normal(50, 7, (200, 2)) * np.array([1, 1000])
    series = Series(features, features[:, 1], ("a", "b"), "b")
    windows, scaling = make_windows(series, case_of(5, 1))
    training = slice(held_out_from(200))
    np.testing.assert_allclose(windows.features[training].mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(windows.features[training].std(axis=0), 1, rtol=1e-12)
    np.testing.assert_allclose(scaling.undo(windows.target), series.target, rtol=1e-12)


@given(
    points=st.integers(2, 60),
    window=st.integers(1, 20),
    horizon=st.integers(1, 8),
    test_fraction=st.floats(0.01, 0.99),
)
def test_a_series_is_cut_whole_or_refused(points: int, window: int, horizon: int, test_fraction: float) -> None:
    """Every series gives at least one window to each part, and all there are; or it is refused as too short."""
    held_out = round(points * test_fraction)
    enough = points - held_out >= window + horizon and held_out >= horizon
    case = case_of(window, horizon, test_fraction)
    if enough:
        windows, _ = make_windows(counting(points, 1), case)
        assert len(windows.training_inputs) == len(windows.training_targets) == points - held_out - window - horizon + 1
        assert len(windows.test_inputs) == len(windows.test_targets) == held_out - horizon + 1
    else:
        with pytest.raises(InputError, match=f"{points} rows"):
            make_windows(counting(points, 1), case)


def fold_of(fold: int, folds: int = 4) -> Case:
    """One fold of a float64 case."""
    return fold_cases(case_of(5, 2), folds)[fold - 1]


def fold_times(make: MakeWindows, fold: int, points: int) -> tuple[np.ndarray, np.ndarray]:
    """The times whose values a fold predicts in training, and in its test."""
    windows, scaling = make(counting(points, 1), fold_of(fold))
    figures = scaling.mean, scaling.standard_deviation
    return -times_of(windows.training_targets, *figures), -times_of(windows.test_targets, *figures)


def check_folds(make: MakeWindows, points: int = 83) -> None:
    """Raise AssertionError unless the folds are TimeSeriesSplit's and the past alone is trained on."""
    splits = TimeSeriesSplit(4).split(np.empty(points))
    for fold, (training, test) in enumerate(splits, start=1):
        trained, tested = fold_times(make, fold, points)
        assert set(trained.ravel()) == set(training[5:])
        assert set(tested.ravel()) == set(test)


def check_no_leak_into_folds(make: MakeWindows, points: int = 83) -> None:
    """Raise AssertionError if what a fold trains on, or its scaling, changes with anything from its test on."""
    for fold, (training, test) in enumerate(TimeSeriesSplit(4).split(np.empty(points)), start=1):
        series = counting(points, 2)
        features, target = series.features.copy(), series.target.copy()
        features[len(training) :] += 1e6
        target[len(training) :] -= 1e6
        changed = replace(series, features=features, target=target)
        (windows, scaling), (other, other_scaling) = make(series, fold_of(fold)), make(changed, fold_of(fold))
        assert scaling == other_scaling
        assert np.array_equal(windows.training_inputs, other.training_inputs)
        assert np.array_equal(windows.training_targets, other.training_targets)
        # What comes after the fold is not even held.
        assert len(windows.target) == test[-1] + 1


def test_folds_are_those_of_a_time_series_split() -> None:
    """Each fold predicts scikit-learn's test rows and trains on all before them, the first window aside."""
    check_folds(make_windows)


def test_nothing_leaks_into_a_fold() -> None:
    """What a fold trains on, and its scaling, follow from the rows before its test alone."""
    check_no_leak_into_folds(make_windows)


def folds_forgotten(series: Series, case: Case) -> tuple[Windows, Scaling]:
    """Planted: every fold is the last one."""
    return make_windows(series, fold_of(4))


def scaled_by_the_first_fold(series: Series, case: Case) -> tuple[Windows, Scaling]:
    """Planted: a fold is scaled with the rows up to the end of its test."""
    windows, _ = make_windows(series, case)
    seen = series.target[: len(windows.target)]
    return windows, Scaling(float(seen.mean()), float(seen.std()))


@pytest.mark.parametrize(
    ("check", "fault"),
    [
        (check_folds, folds_forgotten),
        (check_folds, one_window_lost),
        (check_no_leak_into_folds, scaled_by_the_first_fold),
        (check_no_leak_into_folds, one_window_too_many),
    ],
)
def test_wrong_folds_are_caught(check: Callable[..., None], fault: MakeWindows) -> None:
    """Each check of the folds fails for a planted leak, loss or mistaken fold."""
    with pytest.raises(AssertionError):
        check(fault)


@pytest.mark.parametrize(
    ("points", "folds", "message"),
    [
        (4, 4, "4 folds need more than 4 rows; the series has 4: give fewer folds"),
        (3, 4, "4 folds need more than 4 rows; the series has 3"),
        (30, 4, "up to the end of fold 1 of 4 has 12 rows, 6 of them to train on: too few"),
        (14, 12, "up to the end of fold 1 of 12 has 3 rows, 2 of them to train on: too few"),
    ],
)
def test_folds_larger_than_the_series_are_refused(points: int, folds: int, message: str) -> None:
    """More folds than the series has rows, or folds too short for a window, are refused."""
    with pytest.raises(InputError, match=message):
        make_windows(counting(points, 1), fold_of(1, folds))


@given(seed=st.integers(0, 2**32 - 1), epochs=st.integers(1, 5), windows=st.integers(1, 60))
def test_schedule_is_a_permutation_each_epoch(seed: int, epochs: int, windows: int) -> None:
    """In every epoch each window is trained on exactly once, in an order that follows from the seed."""
    schedule = batch_schedule(seed, epochs, windows)
    assert schedule.shape == (epochs, windows)
    assert np.array_equal(np.sort(schedule, axis=1), np.tile(np.arange(windows), (epochs, 1)))
    assert np.array_equal(schedule, batch_schedule(seed, epochs, windows))


@given(seed=st.integers(0, 2**31))
def test_schedules_differ(seed: int) -> None:
    """Another epoch and another seed have another order."""
    first, second = batch_schedule(seed, 2, 50)
    assert not np.array_equal(first, second)
    assume(seed > 0)
    assert not np.array_equal(first, batch_schedule(seed - 1, 1, 50)[0])
