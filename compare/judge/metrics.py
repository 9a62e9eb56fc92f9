"""Test metrics of a forecast, in the series' own units."""

import numpy as np


def forecast_metrics(truth: np.ndarray, predictions: np.ndarray) -> dict[str, float | None]:
    """Return mse, mae and r2 of predictions (windows, horizon); None where a figure is not defined.

    Undefined: any metric of predictions that are not finite or too large to square, and r2 of a single window.
    """
    from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score  # takes a second to import

    if not np.isfinite(predictions).all():
        return {"mse": None, "mae": None, "r2": None}
    with np.errstate(over="ignore", invalid="ignore"):
        figures = {
            "mse": float(mean_squared_error(truth, predictions)),
            "mae": float(mean_absolute_error(truth, predictions)),
            "r2": float(r2_score(truth, predictions)) if len(truth) > 1 else np.nan,
        }
    return {name: value if np.isfinite(value) else None for name, value in figures.items()}
