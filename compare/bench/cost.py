"""What a verdict costs, as a sum of its work: fitted to measurements, and told of a case before it is run."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

import numpy as np

from compare.config.gates import gate_count
from compare.experiment.experiment import Experiment

# The parts of the cost beside the trainings of the runners, which go by the runner's name.
STOCK, ENSEMBLE, JUDGING = "stock", "ensemble", "judging"

# A case is told what it will cost from here on, seconds.
TOLD_FROM = 60.0


@dataclass(frozen=True)
class Work:
    """How much there is to compute: steps, checked steps, and in a step timesteps of all layers and operations.

    `operations` are the floating-point operations of a step's products of matrices.
    """

    steps: int
    checked: int
    timesteps: int
    operations: float

    @property
    def terms(self) -> np.ndarray:
        """What a cost is a sum of: one, then steps and checked steps, each alone, by timesteps and by operations."""
        of_step = np.array([1.0, self.timesteps, self.operations])
        return np.concatenate([[1.0], self.steps * of_step, self.checked * of_step])


def work_of(experiment: Experiment) -> Work:
    """Count the work of a case."""
    model, training = experiment.case.model, experiment.case.training
    layers = model.layers * (2 if model.bidirectional else 1)
    checked = 0 if training.stock else len(experiment.recorded_steps)
    timesteps = experiment.case.data.window * layers
    return Work(experiment.steps, checked, timesteps, operations(experiment))


def operations(experiment: Experiment) -> float:
    """Count the floating-point operations of the products of matrices in a training step of a whole batch.

    Each product forward takes two of its size on the way back: one for its input's gradient, one for its weights'.
    """
    model, batch, time = experiment.case.model, experiment.case.training.batch_size, experiment.case.data.window
    gates, units, directions = gate_count(model.cell), model.units, 2 if model.bidirectional else 1
    below = directions * units if model.bidirectional == "concat" else units
    seen = [model.embedding or experiment.examples.features or 1, *[below] * (model.layers - 1)]
    forward = sum(2 * directions * batch * time * gates * units * (width + units) for width in seen)
    forward += 2 * batch * below * experiment.examples.outputs
    return 3.0 * forward


@dataclass(frozen=True)
class CostModel:
    """Seconds on one core for each term of a work, by part: a runner, "stock", "ensemble" or "judging"."""

    parts: Mapping[str, Sequence[float]]

    def seconds(self, part: str, work: Work) -> float:
        """Predict a part of the cost, seconds. Raises KeyError for a part that was not measured."""
        return float(np.dot(self.parts[part], work.terms))

    def as_json(self) -> dict[str, list[float]]:
        """The form in which it is kept."""
        return {part: list(coefficients) for part, coefficients in self.parts.items()}


def fit(measured: Mapping[str, Sequence[tuple[Work, float]]]) -> CostModel:
    """Fit each part's seconds as a sum of non-negative terms, by least squares of the relative error.

    Raises ValueError where a part has no measurement, or one that took no time.
    """
    from scipy.optimize import nnls  # a run predicts, and fits nothing

    parts = {}
    for part, points in measured.items():
        seconds = np.array([second for _, second in points])
        if not len(seconds) or not (seconds > 0).all():
            raise ValueError(f"{part}: every measurement must have taken some time, and there must be one")
        terms = np.array([work.terms for work, _ in points]) / seconds[:, None]
        largest = terms.max(axis=0)
        coefficients, _ = nnls(terms / np.where(largest == 0, 1, largest), np.ones(len(seconds)))
        parts[part] = [float(c) for c in coefficients / np.where(largest == 0, 1, largest)]
    return CostModel(parts)


def exponent(values: Sequence[float], seconds: Sequence[float]) -> float:
    """Return b of seconds ∝ values^b, over the upper half of the values, where constant costs matter least.

    Raises ValueError for fewer than two values, or for numbers that are not positive.
    """
    if len(values) < 2 or min(*values, *seconds) <= 0:
        raise ValueError("an exponent needs two positive values with positive seconds")
    half = max(len(values) // 2 + 1, 2)
    slope, _ = np.polyfit(np.log(values[-half:]), np.log(seconds[-half:]), 1)
    return float(slope)


@dataclass(frozen=True)
class Prediction:
    """What cases will cost in seconds: the trainings of both sides, the ensemble, and judging."""

    training: float
    ensemble: float
    judging: float

    @property
    def seconds(self) -> float:
        """The whole."""
        return self.training + self.ensemble + self.judging

    def __str__(self) -> str:
        units = (("hours", 3600), ("minutes", 60), ("seconds", 1))
        unit, size = next((name, size) for name, size in units if self.seconds >= 2 * size or size == 1)
        whole, *parts = (f"{part / size:.2g}" for part in (self.seconds, self.training, self.ensemble, self.judging))
        return f"about {whole} {unit}: {parts[0]} training, {parts[1]} ensemble, {parts[2]} judging"


def predict(experiments: Sequence[Experiment], runners: Sequence[str], processes: int) -> Prediction:
    """Predict what cases cost on a machine like that on which the packaged figures were measured.

    Trainings share `processes`; the judge is one. The import of the frameworks is not in it.
    """
    model = packaged()
    training = ensemble = judging = 0.0
    for experiment in experiments:
        work = work_of(experiment)
        training += sum(model.seconds(runner, work) for runner in runners)
        ensemble += model.seconds(ENSEMBLE, work)
        judging += model.seconds(JUDGING, work) * (len(runners) - 1)
    return Prediction(training / processes, ensemble / processes, judging)


@lru_cache(maxsize=1)
def packaged() -> CostModel:
    """Read the figures that come with the package: see `benchmarks/cost.md`."""
    return CostModel(json.loads(files("compare.bench").joinpath("cost.json").read_text("utf-8")))
