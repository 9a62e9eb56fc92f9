"""Published series that come with statsmodels: yearly sunspots, weekly carbon dioxide, monthly sea temperature."""

from typing import Any

import numpy as np

from compare.data.series import Series
from compare.errors import InputError


def sunspots() -> Series:
    """Yearly sunspot numbers, 1700 to 2008."""
    activity = _load("sunspots")["SUNACTIVITY"].to_numpy(np.float64)
    return Series(activity[:, None], activity, ("sunspots",), "sunspots")


def co2(calendar: bool) -> Series:
    """Weekly carbon dioxide at Mauna Loa in ppm, March 1958 to December 2001, gaps filled by linear interpolation."""
    table = _load("co2")
    measured = table["co2"]
    filled = measured.interpolate("linear").to_numpy(np.float64)
    note = (
        f"{int(measured.isna().sum())} of {len(measured):,} weekly values were not measured; "
        "they were filled by linear interpolation between their neighbours"
    )
    of_year = (table.index.day_of_year.to_numpy(np.float64) - 1) / 365.25
    return _with_calendar(filled, "co2", of_year if calendar else None, (note,))


def elnino(calendar: bool) -> Series:
    """Monthly mean sea surface temperature off Peru (Niño 1+2) in degrees Celsius, 1950 to 2010."""
    temperature = _load("elnino").drop(columns="YEAR").to_numpy(np.float64).ravel()
    of_year = np.arange(len(temperature)) % 12 / 12
    return _with_calendar(temperature, "temperature", of_year if calendar else None, ())


def _with_calendar(values: np.ndarray, name: str, of_year: np.ndarray | None, notes: tuple[str, ...]) -> Series:
    """Add the sine and cosine of the time of the year, from 0 to 1, where it is given."""
    columns = {name: values}
    if of_year is not None:
        angle = 2 * np.pi * of_year
        columns |= {"sine of the time of year": np.sin(angle), "cosine of the time of year": np.cos(angle)}
    return Series(np.stack(list(columns.values()), axis=1), values, tuple(columns), name, notes)


def _load(name: str) -> Any:
    """Load a table of statsmodels; raises InputError where that is not installed."""
    from importlib import import_module

    try:
        module = import_module(f"statsmodels.datasets.{name}")
    except ImportError as error:
        raise InputError(
            f"dataset {name!r} comes with statsmodels, which cannot be imported ({error}); "
            "install it: python -m pip install 'rnn-parity[data]'"
        ) from None
    return module.load_pandas().data
