"""The form in which every series arrives."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Series:
    """A series in time order: features (time, features) and the target (time,), in their own units, float64."""

    features: np.ndarray
    target: np.ndarray
    feature_names: tuple[str, ...]
    target_name: str
