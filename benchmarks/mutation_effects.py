"""What a mutation does to the figures of a training, by a rule: the judge is held against it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from compare.experiment.experiment import Experiment
from compare.judge.phases import PHASES
from compare.trace.trace import Trace


@dataclass(frozen=True)
class Effect:
    """What a mutation does to its side's figures: the largest change, and the first step and phase beyond rounding."""

    size: float
    step: int | None = None
    phase: str | None = None


def effect_of(original: Trace, mutated: Trace, experiment: Experiment, limit: float) -> Effect:
    """Hold a mutated trace against the original: the largest change, and the first step and phase with one beyond."""
    changes: list[tuple[int, int, float]] = []
    columns = [PHASES.index(_phase_of_column(name)) for name in original.columns]
    if original.rows.shape == mutated.rows.shape and original.columns == mutated.columns:
        scale = np.sqrt(np.mean(np.square(original.rows), axis=0))
        for step, row in enumerate(_relative(original.rows, mutated.rows, scale)):
            changes += [(step, phase, float(change)) for phase, change in zip(columns, row, strict=True)]
    else:
        changes.append((min(len(original.rows), len(mutated.rows)), PHASES.index("loss"), np.inf))
    for step in experiment.recorded_steps:
        if mutated.single_step(step) is None:  # nothing of the step could be taken, as with slots of another rule
            changes.append((step, PHASES.index("update"), np.inf))
            continue
        changes += [
            (step, PHASES.index(_phase_of_tensor(name)), change)
            for name, change in _changes(original.single_step(step), mutated.single_step(step))
        ]
    for epoch, tensors in original.checkpoints.items():
        step = epoch * experiment.steps_per_epoch
        changes += [(step, PHASES.index("update"), c) for _, c in _changes(tensors, mutated.checkpoints.get(epoch))]
    predictions = ({} if trace.predictions is None else {"": trace.predictions} for trace in (original, mutated))
    evaluated = PHASES.index("evaluation")
    changes += [(experiment.steps, evaluated, change) for _, change in _changes(*predictions)]
    size = max(change for *_, change in changes)
    beyond = min(((step, phase) for step, phase, change in changes if not change <= limit), default=None)
    return Effect(size) if beyond is None else Effect(size, beyond[0], PHASES[beyond[1]])


def _changes(original: Mapping[str, Any] | None, mutated: Mapping[str, Any] | None) -> Iterator[tuple[str, float]]:
    for name, tensor in (original or {}).items():
        other = (mutated or {}).get(name)
        if other is None or other.shape != tensor.shape:
            yield name, np.inf
        elif tensor.size:
            scale = np.sqrt(np.mean(np.square(tensor, dtype=np.float64)))
            yield name, float(np.max(_relative(tensor, other, scale)))


def _relative(original: np.ndarray, mutated: np.ndarray, scale: Any) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        difference = np.abs(np.asarray(mutated, np.float64) - np.asarray(original, np.float64))
        ratio = np.where(difference == 0, 0.0, difference / np.where(scale == 0, 1.0, scale))
    return np.nan_to_num(ratio, nan=np.inf)


def _phase_of_tensor(name: str) -> str:
    kind = name.partition("/")[0]
    if kind in ("loss", "gradient", "clip"):
        return kind
    return "update" if kind in ("update", "slot", "non_trainable", "learning_rate") else "forward"


def _phase_of_column(name: str) -> str:
    if name.startswith("loss"):
        return "loss"
    return next((kind for kind in ("gradient", "update") if kind in name), "forward")
