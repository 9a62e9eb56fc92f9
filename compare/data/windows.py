"""From a series to what both sides are trained on: scaled windows, held-out windows and the batch schedule."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from compare.config.streams import Stream, random_stream
from compare.data.examples import Examples, Part
from compare.data.precision import check_range
from compare.errors import InputError

if TYPE_CHECKING:  # workers read what is made here, in interpreters that need not have pydantic
    from compare.config.case import Case
    from compare.data.series import Series


@dataclass(frozen=True)
class Windows:
    """Windows of a scaled series: inputs (windows, window, features) and targets (windows, horizon), views of it.

    Window i sees values i … i + window - 1 and predicts the `horizon` target values after them. The first `training`
    windows are trained on; those from `first_test` on predict held-out values alone.
    """

    features: np.ndarray
    target: np.ndarray
    window: int
    horizon: int
    training: int
    first_test: int
    notes: tuple[str, ...] = ()

    def arrays(self) -> dict[str, np.ndarray]:
        """All arrays by name: the series as it is, not the windows cut from it."""
        return {"features": self.features, "target": self.target}

    def as_examples(self) -> Examples:
        """The windows in the form that every task's data has, without a copy."""
        return Examples(
            training=Part(self.training_inputs, self.training_targets),
            test=Part(self.test_inputs, self.test_targets),
            outputs=self.horizon,
            features=self.features.shape[1],
            notes=self.notes,
        )

    @property
    def inputs(self) -> np.ndarray:
        """All windows (windows, window, features), without a copy."""
        views = np.lib.stride_tricks.sliding_window_view(self.features, self.window, axis=0)
        return views[: len(self.targets)].transpose(0, 2, 1)

    @property
    def targets(self) -> np.ndarray:
        """What each window predicts (windows, horizon), without a copy."""
        return np.lib.stride_tricks.sliding_window_view(self.target, self.horizon)[self.window :]

    @property
    def training_inputs(self) -> np.ndarray:
        """The windows to train on."""
        return self.inputs[: self.training]

    @property
    def training_targets(self) -> np.ndarray:
        """What the windows to train on predict."""
        return self.targets[: self.training]

    @property
    def test_inputs(self) -> np.ndarray:
        """The held-out windows; they may look back into the training part, as a forecast does."""
        return self.inputs[self.first_test :]

    @property
    def test_targets(self) -> np.ndarray:
        """What the held-out windows predict, none of it trained on."""
        return self.targets[self.first_test :]


@dataclass(frozen=True)
class Scaling:
    """The target's mean and standard deviation over the training part, to give predictions in the series' own units."""

    mean: float
    standard_deviation: float

    def undo(self, values: np.ndarray) -> np.ndarray:
        """Return scaled target values in the series' own units."""
        return values.astype(np.float64) * self.standard_deviation + self.mean


def make_windows(series: "Series", case: "Case") -> tuple[Windows, Scaling]:
    """Standardise a series with its training part's figures and cut it into windows, the last part held out in time.

    Raises InputError where the series is too short for one training and one held-out window.
    """
    from sklearn.preprocessing import StandardScaler  # takes a second, and `import compare` must not

    data = case.data
    first_held_out, points = borders(len(series.target), case)
    training = first_held_out - data.window - data.horizon + 1
    first_test = max(first_held_out - data.window, 0)
    if training < 1 or points - data.window - data.horizon + 1 <= first_test:
        where = "the series" if data.fold is None else f"the series up to the end of fold {data.fold} of {data.folds}"
        fewer = "" if data.fold is None else " or fewer folds"
        raise InputError(
            f"{where} has {points} rows, {first_held_out} of them to train on: too few for one window of "
            f"{data.window} values and a horizon of {data.horizon} in each part; give a longer series or a smaller "
            f"data.window{fewer}"
        )
    dtype = np.dtype(case.dtype)
    for values, what in ((series.features, "the features"), (series.target, "the target")):
        check_range(values, case.dtype, what)
    features = StandardScaler().fit(series.features[:first_held_out])
    target = StandardScaler().fit(series.target[:first_held_out, None])
    scaled_target = target.transform(series.target[:points, None])[:, 0]
    scaled_features = features.transform(series.features[:points])
    for values, what in ((scaled_features, "the standardised features"), (scaled_target, "the standardised target")):
        check_range(values, case.dtype, what)
    windows = Windows(
        scaled_features.astype(dtype),
        scaled_target.astype(dtype),
        data.window,
        data.horizon,
        training,
        first_test,
        series.notes,
    )
    return windows, Scaling(float(target.mean_[0]), float(target.scale_[0]))


def borders(rows: int, case: "Case") -> tuple[int, int]:
    """Return the first row that is held out and the row at which the held-out part ends."""
    data = case.data
    if data.folds is None or data.fold is None:
        return rows - round(rows * data.test_fraction), rows
    from sklearn.model_selection import TimeSeriesSplit

    if data.folds >= rows:
        raise InputError(
            f"{data.folds} folds need more than {data.folds} rows; the series has {rows}: give fewer folds"
        )
    _, test = list(TimeSeriesSplit(data.folds).split(np.empty(rows)))[data.fold - 1]
    return int(test[0]), int(test[-1]) + 1


def batch_schedule(seed: int, epochs: int, windows: int) -> np.ndarray:
    """Draw the order of the training windows in each epoch: (epochs, windows) integers, one permutation a row."""
    generator = random_stream(seed, Stream.SCHEDULE)
    schedule = np.empty((epochs, windows), dtype=np.int32)
    for order in schedule:
        order[:] = generator.permutation(windows)
    return schedule


def stream_order(windows: int, case: "Case") -> np.ndarray:
    """Return the order in which a stateful model takes windows: each batch goes on where the one before it ended.

    The series is cut into as many streams as a batch has rows; what does not fill a batch is left out. Raises
    InputError where there are fewer windows than rows.
    """
    rows = case.training.batch_size
    length = windows // rows
    if length < 1:
        raise InputError(
            f"a stateful model with training.batch_size = {rows} needs as many windows in each part, there are "
            f"{windows}; give a smaller batch size or more data"
        )
    starts = np.arange(0, length, case.data.window)
    return (starts[:, None] + np.arange(rows) * length).ravel().astype(np.int32)
