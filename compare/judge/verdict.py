"""What the judge returns: differences with their location, comparisons and the verdict over all of them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from compare.judge.phases import PHASES, Phase
from compare.judge.ratios import tolerance_ratio

SCHEMA = 1


@dataclass(frozen=True)
class Difference:
    """One difference and its location; error and tolerance are relative, None where there is no number to give.

    `expected` and `obtained` are the two sides' figures, shapes or counts, where one can be written for each.
    """

    kind: str
    step: int
    phase: str
    message: str
    tensor: str | None = None
    relative_error: float | None = None
    tolerance: float | None = None
    off_side: str = "unknown"
    timestep: int | None = None
    expected: float | str | None = None
    obtained: float | str | None = None
    source: Mapping[str, Any] | None = None

    @property
    def order(self) -> tuple[int, int]:
        """Where it stands in the order of computation."""
        return self.step, PHASES.index(self.phase)

    def as_json(self) -> dict[str, Any]:
        """The form in which `verdict.json` has it."""
        parts = (self.tensor or "").split("/")
        recurrent = parts[0].startswith("layer") and len(parts) >= 3
        return {
            "step": self.step,
            "phase": self.phase,
            "tensor": self.tensor,
            "layer": parts[0] or None,
            "direction": parts[1] if recurrent else None,
            "gate": parts[3] if recurrent and len(parts) > 3 else None,
            "timestep": self.timestep,
            "relative_error": _finite(self.relative_error),
            "allowed": _finite(self.tolerance),
            "off_side": self.off_side,
            "expected": _finite(self.expected),
            "obtained": _finite(self.obtained),
            "kind": self.kind,
            "message": self.message,
            **({} if self.source is None else {"source": dict(self.source)}),
        }


@dataclass(frozen=True)
class Curves:
    """What a report draws of a comparison: by step, and by held-out window in the series' own units."""

    expected_losses: np.ndarray
    obtained_losses: np.ndarray
    loss_drift: np.ndarray
    ensemble_loss_drift: np.ndarray
    loss_tolerance: np.ndarray
    truth: np.ndarray
    expected_predictions: np.ndarray
    obtained_predictions: np.ndarray


@dataclass(frozen=True)
class RatioMap:
    """Error / tolerance of the trajectory: `ratios` (tensors, columns), the largest between two of `steps`."""

    tensors: tuple[str, ...]
    steps: np.ndarray
    ratios: np.ndarray


@dataclass(frozen=True)
class Gates:
    """Each side's gates in the first layer over one window, the mean over the units: (time,) by gate and by side."""

    activations: Mapping[str, Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class ClassResults:
    """What a report draws of classes: how often each was taken for each, and the accuracy at each timestep.

    By side: `confusion` (classes, classes), rows are the truth; `by_timestep` (time,) where there is a label for each.
    """

    labels: tuple[str, ...]
    confusion: Mapping[str, np.ndarray]
    by_timestep: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class TensorErrors:
    """How far each side was from the reference in one tensor, at the step with the largest error / tolerance.

    `sides` maps a side to (step, error, tolerance), both in ulps of the working precision.
    """

    phase: Phase
    tensor: str
    sides: dict[str, tuple[int, float, float]]

    def update(self, side: str, step: int, error: float, tolerance: float) -> None:
        """Keep a side's error at a step if its error / tolerance is the largest so far."""
        _, largest_error, its_tolerance = self.sides.get(side, (step, -1.0, 1.0))
        if tolerance_ratio(error, tolerance) > tolerance_ratio(largest_error, its_tolerance):
            self.sides[side] = (step, error, tolerance)

    @property
    def tolerance_ratio(self) -> float:
        """The largest error / tolerance of any side."""
        return max(tolerance_ratio(error, tolerance) for _, error, tolerance in self.sides.values())

    def as_json(self) -> dict[str, Any]:
        """The form in which `verdict.json` has it."""
        sides = {
            side: {"step": step, "error_ulps": _finite(error), "tolerance_ulps": _finite(tolerance)}
            for side, (step, error, tolerance) in self.sides.items()
        }
        return {"phase": self.phase, "tensor": self.tensor, "sides": sides}


@dataclass(frozen=True)
class Cause:
    """Why a comparison differs or failed: a name that others rely on, a message, and what to do about it.

    `confirmed` where it was proved, by the errors at a location (step, phase, tensor) before and after the cause was
    taken away. `observation` says what was seen in this comparison, `proof` how the cause is proved, `figures` what was
    estimated.
    """

    name: str
    confirmed: bool
    message: str
    fix: str
    error_before: float | None = None
    error_after: float | None = None
    step: int | None = None
    phase: str | None = None
    tensor: str | None = None
    observation: str = ""
    proof: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)
    source: Mapping[str, Any] | None = None

    def as_json(self) -> dict[str, Any]:
        """The form in which `verdict.json` has it."""
        errors = {"error_before": _finite(self.error_before), "error_after": _finite(self.error_after)}
        return {**asdict(self), **errors}


@dataclass(frozen=True)
class Comparison:
    """One Keras runner against native PyTorch on one case."""

    case: str
    runner: str
    reference: str
    dtype: str
    status: Literal["agrees", "differs", "failed", "undecidable"]
    error: str | None = None
    log: str | None = None
    internal_error: bool = False  # of this project's own, not of a runner
    checks: int = 0
    steps: int = 0
    max_relative_loss_difference: float | None = None
    max_prediction_difference: float | None = None
    trajectory_tolerance_ratio: float | None = None
    step_tolerance_ratio: float | None = None
    tensor_errors: Sequence[TensorErrors] = ()
    metrics: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    differences: Sequence[Difference] = ()
    samples: Mapping[str, str] = field(default_factory=dict)
    causes: Sequence[Cause] = ()
    expected: bool = False
    notes: Sequence[str] = ()
    unexplained: bool = False
    data_notes: Sequence[str] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    epoch_losses: Mapping[str, Sequence[float | None]] = field(default_factory=dict)
    curves: Curves | None = None
    ratio_map: RatioMap | None = None
    gates: Gates | None = None
    classes: ClassResults | None = None

    @property
    def first_difference(self) -> Difference | None:
        """The first difference in the order of computation."""
        return min(self.differences, key=lambda difference: difference.order, default=None)

    def as_json(self) -> dict[str, Any]:
        """The form in which `verdict.json` has it."""
        first = self.first_difference
        return {
            "case": self.case,
            "runner": self.runner,
            "reference": self.reference,
            "dtype": self.dtype,
            "agree": self.status == "agrees",
            "status": self.status,
            "error": self.error,
            "checks": self.checks,
            "steps": self.steps,
            "max_relative_loss_difference": _finite(self.max_relative_loss_difference),
            "max_prediction_difference": _finite(self.max_prediction_difference),
            "largest_share_of_allowed": _finite(self.trajectory_tolerance_ratio),
            "largest_step_share": _finite(self.step_tolerance_ratio),
            "tensor_errors": [tensor.as_json() for tensor in self.tensor_errors],
            "metrics": {side: dict(figures) for side, figures in self.metrics.items()},
            "first_difference": None if first is None else first.as_json(),
            "causes": [cause.as_json() for cause in self.causes],
            "expected": self.expected,
            "samples": dict(self.samples),
            "notes": list(self.notes),
            "unexplained": self.unexplained,
            "data_notes": list(self.data_notes),
            "epoch_losses": {side: list(losses) for side, losses in self.epoch_losses.items()},
            "confusion_matrix": self._confusion_as_json(),
            "versions": dict(self.versions),
        }

    def _confusion_as_json(self) -> dict[str, Any] | None:
        if self.classes is None or not self.classes.confusion:
            return None
        return {
            "labels": list(self.classes.labels),
            **{side: counts.tolist() for side, counts in self.classes.confusion.items()},
        }


@dataclass(frozen=True)
class FoldFigures:
    """One metric of one side: a value for each fold, None where the fold has none."""

    values: tuple[float | None, ...]

    @property
    def mean(self) -> float | None:
        """The mean over all folds; None where one has no value."""
        return None if None in self.values else float(np.mean(np.array(self.values, np.float64)))

    @property
    def standard_deviation(self) -> float | None:
        """The sample standard deviation over all folds; None where one has no value, and of a single fold."""
        if None in self.values or len(self.values) < 2:
            return None
        return float(np.std(np.array(self.values, np.float64), ddof=1))


@dataclass(frozen=True)
class FoldSummary:
    """One side's metrics over the folds of a case."""

    case: str
    side: str
    folds: int
    metrics: Mapping[str, FoldFigures]

    def as_json(self) -> dict[str, Any]:
        """The form in which `verdict.json` has it."""
        metrics = {
            name: {
                "values": list(figures.values),
                "mean": figures.mean,
                "standard_deviation": figures.standard_deviation,
            }
            for name, figures in self.metrics.items()
        }
        return {"case": self.case, "side": self.side, "folds": self.folds, "metrics": metrics}


@dataclass(frozen=True)
class Verdict:
    """All comparisons of a run, and the figures over the folds of those cases that have any."""

    comparisons: Sequence[Comparison]
    folds: Sequence[FoldSummary] = ()

    @property
    def agree(self) -> bool:
        """Whether there was a comparison and every one agrees, or shows the framework's defect that is expected."""
        return bool(self.comparisons) and all(
            comparison.status == "agrees" or comparison.expected for comparison in self.comparisons
        )

    @property
    def exit_code(self) -> int:
        """0 all agree, 1 something differs, 3 a runner could not do its work or nothing can be decided.

        An internal error, 70, goes before a difference, and that before a runner's failure.
        """
        if any(comparison.internal_error for comparison in self.comparisons):
            return 70
        if any(comparison.status == "differs" and not comparison.expected for comparison in self.comparisons):
            return 1
        return 0 if self.agree else 3

    def as_json(self) -> dict[str, Any]:
        """The content of `verdict.json`."""
        return {
            "agree": self.agree,
            "schema": SCHEMA,
            "comparisons": [comparison.as_json() for comparison in self.comparisons],
            "folds": [summary.as_json() for summary in self.folds],
        }


def _finite(value: float | str | None) -> float | str | None:
    """JSON has no NaN and no infinity: null stands for both."""
    return value if value is None or isinstance(value, str) or math.isfinite(value) else None
