"""What both sides are given: windows, batch schedule and initial weights, made once and kept on disk, hashed."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from compare.case import Case, case_from_json
from compare.datasets import load_series
from compare.initial_weights import draw_initial_weights
from compare.storage import digest, read_tensors, write_json, write_tensors
from compare.windows import Scaling, Windows, batch_schedule, make_windows


@dataclass(frozen=True, eq=False)
class Start:
    """The same start for both sides of a case."""

    case: Case
    windows: Windows
    scaling: Scaling
    weights: Mapping[str, np.ndarray]
    schedule: np.ndarray

    @property
    def features(self) -> int:
        """The number of features of an input."""
        return self.windows.features.shape[1]

    @property
    def steps(self) -> int:
        """The number of training steps, the smaller last batch of each epoch included."""
        return len(self.schedule) * self.steps_per_epoch

    @property
    def steps_per_epoch(self) -> int:
        """The number of training steps in an epoch, the smaller last batch included."""
        return -(-self.schedule.shape[1] // self.case.training.batch_size)

    @property
    def recorded_steps(self) -> list[int]:
        """The steps that are taken apart: 0, 1, 2, 4, 8, … and the last, smaller batch of the first epoch."""
        growing = {0, *(2**power for power in range(self.steps.bit_length()))}
        return sorted(step for step in growing | {self.steps_per_epoch - 1} if step < self.steps)

    def batch(self, step: int) -> np.ndarray:
        """The windows that a step is to be trained on."""
        return self.batch_of(self.schedule, step)

    def batch_of(self, schedule: np.ndarray, step: int) -> np.ndarray:
        """The windows that a step is trained on by a schedule; none where the schedule does not reach so far."""
        epoch, batch = divmod(step, self.steps_per_epoch)
        if epoch >= len(schedule):
            return schedule[:0].ravel()
        size = self.case.training.batch_size
        return schedule[epoch, batch * size : (batch + 1) * size]


def make_start(case: Case) -> Start:
    """Load a case's series, cut and scale it, draw the batch schedule and the initial weights.

    Raises InputError for data that cannot be used.
    """
    series = load_series(case)
    windows, scaling = make_windows(series, case)
    weights = draw_initial_weights(case, series.features.shape[1], case.data.horizon)
    schedule = batch_schedule(case.seed, case.training.epochs, windows.training)
    return Start(case, windows, scaling, weights, schedule)


def start_hashes(
    data: Mapping[str, np.ndarray], schedule: np.ndarray, weights: Mapping[str, np.ndarray]
) -> dict[str, str]:
    """Hash what a side starts from; each process does so with the arrays that it holds."""
    return {"data": digest(data), "schedule": digest({"schedule": schedule}), "weights": digest(weights)}


def write_start(start: Start, folder: Path) -> None:
    """Write a start into a new folder."""
    folder.mkdir(parents=True)
    write_tensors(folder / "series.safetensors", {"features": start.windows.features, "target": start.windows.target})
    write_tensors(folder / "weights.safetensors", start.weights)
    np.save(folder / "schedule.npy", start.schedule, allow_pickle=False)
    facts = {
        "case": json.loads(start.case.to_json()),
        "training": start.windows.training,
        "first_test": start.windows.first_test,
        "mean": start.scaling.mean,
        "standard_deviation": start.scaling.standard_deviation,
    }
    write_json(folder / "start.json", facts)


def read_start(folder: Path) -> Start:
    """Read a start; the schedule stays on disk and is read as it is used."""
    facts = json.loads((folder / "start.json").read_text("utf-8"))
    case = case_from_json(json.dumps(facts["case"]), str(folder))
    series = read_tensors(folder / "series.safetensors")
    weights = read_tensors(folder / "weights.safetensors")
    if series is None or weights is None:
        raise ValueError(f"{folder} holds no whole start")
    windows = Windows(
        series["features"],
        series["target"],
        case.data.window,
        case.data.horizon,
        facts["training"],
        facts["first_test"],
    )
    schedule = np.load(folder / "schedule.npy", mmap_mode="r", allow_pickle=False)
    return Start(case, windows, Scaling(facts["mean"], facts["standard_deviation"]), weights, schedule)
