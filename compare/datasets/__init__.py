"""Named series and the user's own CSV files, as arrays."""

from compare.case import Case
from compare.datasets.csv_file import read_csv
from compare.datasets.series import Series
from compare.datasets.signals import signals
from compare.datasets.sine import sine
from compare.datasets.symbols import symbols
from compare.examples import Examples

__all__ = ["DATASETS", "Series", "load_data"]

DATASETS = {
    "sine": "1,000 points of sin on [0, 50] with Gaussian noise 0.1",
    "csv": "a CSV file with a header line",
    "signals": "noisy measurements of a hidden process, of different length",
    "symbols": "random token ids of several kinds, of different length",
}


def load_data(case: Case) -> Series | Examples:
    """Load the data that a case names: a series to cut into windows, or whole examples.

    Raises InputError for a file that cannot be used.
    """
    data = case.data
    if data.dataset == "csv":
        assert data.csv is not None  # DataConfig has checked both
        assert data.target is not None
        return read_csv(data.csv, data.target, data.features)
    if data.dataset == "signals":
        return signals(case)
    if data.dataset == "symbols":
        return symbols(case)
    return sine(data.points, data.noise, case.seed)
