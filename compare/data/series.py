"""The form in which every series arrives."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Series:
    """A series in time order: features (time, features) and the target (time,), in their own units, float64.

    `notes` say what was done to it that its reader must know.
    """

    features: np.ndarray
    target: np.ndarray
    feature_names: tuple[str, ...]
    target_name: str
    notes: tuple[str, ...] = ()
