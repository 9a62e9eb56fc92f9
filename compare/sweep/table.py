"""The results of a sweep as one table."""

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from compare.sweep.grid import Point

Row = dict[str, Any]

FIGURES = (
    "steps",
    "checks",
    "max_relative_loss_difference",
    "max_prediction_difference",
    "largest_share_of_allowed",
    "largest_step_share",
)


def rows_of(point: Point, record: Mapping[str, Any]) -> list[Row]:
    """Make a row for each comparison of a case: its fields, what it came to and each side's metrics."""
    rows = []
    for comparison in record["comparisons"]:
        first = comparison["first_difference"] or {}
        sides = {comparison["runner"]: "keras", comparison["reference"]: "torch"}
        rows.append(
            {"case": record["case"]}
            | dict(point.fields)
            | {"runner": comparison["runner"], "status": comparison["status"], "expected": comparison["expected"]}
            | {name: comparison[name] for name in FIGURES}
            | {f"first_{name}": first.get(name) for name in ("step", "phase", "tensor", "message", "off_side")}
            | {"error": comparison["error"]}
            | {
                f"{metric}_{side}": value
                for runner, side in sides.items()
                for metric, value in comparison["metrics"].get(runner, {}).items()
            }
            | {"retried": len(record["run"]["retried"]), "training_seconds": record["run"]["seconds"]}
            | {"on": record["run"]["on"]}
        )
    return rows


def write_table(rows: Sequence[Row], out: Path) -> Path:
    """Write the table into a folder, as Parquet, or as CSV where pyarrow is not installed; return its file."""
    table = pd.DataFrame(list(rows))
    if importlib.util.find_spec("pyarrow") is None:
        path = out / "table.csv"
        table.to_csv(path, index=False)
    else:
        path = out / "table.parquet"
        table.to_parquet(path, index=False)
    return path
