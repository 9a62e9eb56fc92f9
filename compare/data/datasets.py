"""Everything that can be trained on, by name: series and whole examples, published, generated or the user's own."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from compare.config.case import Case
from compare.data.csv_file import read_csv
from compare.data.examples import Examples
from compare.data.images import digits, mnist
from compare.data.published import co2, elnino, sunspots
from compare.data.sequences import sequences
from compare.data.series import Series
from compare.data.signals import signals
from compare.data.sine import sine
from compare.data.symbols import symbols
from compare.data.text import characters, tokens


@dataclass(frozen=True)
class Dataset:
    """What a dataset is and what loads it."""

    description: str
    load: Callable[[Case], Series | Examples]


def _csv(case: Case) -> Series:
    data = case.data
    assert data.csv is not None  # DataConfig has checked both
    assert data.target is not None
    return read_csv(data.csv, data.target, data.features)


DATASETS: Mapping[str, Dataset] = {
    "sine": Dataset(
        "1,000 points of sin on [0, 50] with Gaussian noise 0.1",
        lambda case: sine(case.data.points, case.data.noise, case.seed),
    ),
    "csv": Dataset("a series from a CSV file with a header line", _csv),
    "sunspots": Dataset("yearly sunspot numbers, 1700 to 2008 (statsmodels)", lambda case: sunspots()),
    "co2": Dataset(
        "weekly carbon dioxide at Mauna Loa, 1958 to 2001, gaps filled (statsmodels)",
        lambda case: co2(case.data.calendar),
    ),
    "elnino": Dataset(
        "monthly sea surface temperature off Peru, 1950 to 2010 (statsmodels)",
        lambda case: elnino(case.data.calendar),
    ),
    "digits": Dataset("1,797 handwritten digits of 8 rows of 8 pixels (scikit-learn)", digits),
    "mnist": Dataset("handwritten digits of 28 rows of 28 pixels (IDX files of your own, or fetched)", mnist),
    "text": Dataset("the characters of a text file, or of a generated story", characters),
    "tokens": Dataset("the words of labelled texts from a CSV file, or of generated reviews", tokens),
    "sequences": Dataset("sequences of different length from an NPZ file, or generated speech", sequences),
    "signals": Dataset("noisy measurements of a hidden process, of different length", signals),
    "symbols": Dataset("random token ids of several kinds, of different length", symbols),
}


def load_data(case: Case) -> Series | Examples:
    """Load the data that a case names: a series to cut into windows, or whole examples.

    Raises InputError for a file that cannot be used.
    """
    return DATASETS[case.data.dataset].load(case)
