"""Published series are what was published, in time order, and gaps that were filled are said to be."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.paths import SUNSPOTS

from compare.config.case import Case, make_case
from compare.data.csv_file import read_csv
from compare.data.datasets import load_data
from compare.data.series import Series
from compare.errors import InputError
from compare.experiment.experiment import make_experiment, read_experiment, write_experiment


def case_of(dataset: str, **data: object) -> Case:
    """A case of a published series."""
    return make_case({"name": "a", "model": {"cell": "gru", "units": 2}, "data": {"dataset": dataset, **data}}, "a")


def load(dataset: str, **data: object) -> Series:
    """A published series."""
    series = load_data(case_of(dataset, **data))
    assert isinstance(series, Series)
    return series


def test_sunspots_are_the_published_numbers() -> None:
    """Yearly sunspots are those of another copy of the same series, from 1700 to 2008."""
    expected = read_csv(str(SUNSPOTS), "sunspots")
    series = load("sunspots")
    assert np.array_equal(series.target, expected.target)
    assert np.array_equal(series.features, series.target[:, None])
    assert series.notes == ()


def test_gaps_of_co2_are_filled_and_said_so() -> None:
    """Weekly CO₂ has no gap left; measured values are as they were, filled ones between their neighbours."""
    series = load("co2")
    assert series.target.shape == (2284,)
    assert series.target[[0, 1, -1]].tolist() == [316.1, 317.3, 371.5]
    assert np.isfinite(series.target).all()
    # Week 6 was not measured; weeks 9 to 13 are a longer gap.
    assert series.target[6] == pytest.approx((series.target[5] + series.target[7]) / 2)
    gap = series.target[8:15]
    np.testing.assert_allclose(np.diff(gap), (gap[-1] - gap[0]) / 6)
    (note,) = series.notes
    assert note.startswith("59 of 2,284 weekly values were not measured; they were filled by linear interpolation")


def test_sea_temperatures_run_month_by_month() -> None:
    """The table of years and months is read along its rows: January to December 1950, then 1951."""
    series = load("elnino")
    assert series.target.shape == (61 * 12,)
    assert series.target[[0, 1, 11, 12, -1]].tolist() == [23.11, 24.2, 21.8, 24.19, 22.07]
    assert series.feature_names == ("temperature",)


@pytest.mark.parametrize(("dataset", "period"), [("elnino", 12), ("co2", 365.25 / 7)])
def test_a_calendar_adds_the_time_of_the_year(dataset: str, period: float) -> None:
    """Two features more go round once a year; the target and its own feature are as without them."""
    series, plain = load(dataset, calendar=True), load(dataset)
    assert series.features.shape == (len(plain.target), 3)
    assert np.array_equal(series.features[:, :1], plain.features)
    assert np.array_equal(series.target, plain.target)
    angle = np.unwrap(np.arctan2(series.features[:, 1], series.features[:, 2]))
    turns = (angle - angle[0]) / (2 * np.pi)
    np.testing.assert_allclose(turns, np.arange(len(turns)) / period, atol=0.01)


def test_a_year_has_no_calendar(refused: Callable[..., str]) -> None:
    """Yearly values have no time of the year."""
    message = refused("run", "lstm", "--set", "data.dataset=sunspots", "--set", "data.calendar=true")
    assert "calendar belongs to dataset co2, elnino, not to sunspots; leave it out" in message


def test_several_steps_ahead_and_several_features(tmp_path: Path) -> None:
    """A series gives windows of all its features and several steps to predict, and its notes reach the examples."""
    experiment = make_experiment(case_of("co2", calendar=True, window=20, horizon=4))
    assert experiment.examples.training.inputs.shape[1:] == (20, 3)
    assert experiment.examples.test.targets.shape[1:] == (4,)
    write_experiment(experiment, tmp_path / "experiment")
    again = read_experiment(tmp_path / "experiment").examples
    assert again.notes == experiment.examples.notes == load("co2").notes
    assert np.array_equal(again.training.inputs, experiment.examples.training.inputs)


@pytest.mark.parametrize("dataset", ["sunspots", "co2", "elnino"])
def test_statsmodels_that_is_not_installed_is_named(
    dataset: str, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without statsmodels its series are refused, with what to install; others need it not."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "statsmodels"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "statsmodels", None)
    message = refused("run", "lstm", "--set", f"data.dataset={dataset}")
    assert f"dataset '{dataset}' comes with statsmodels, which cannot be imported" in message
    assert "python -m pip install 'rnn-parity[data]'" in message
    assert isinstance(load_data(case_of("sine")), Series)


def test_reading_says_the_same_without_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loader itself raises InputError, for users who call it from Python."""
    monkeypatch.setitem(sys.modules, "statsmodels.datasets.co2", None)
    with pytest.raises(InputError, match="comes with statsmodels"):
        load("co2")
