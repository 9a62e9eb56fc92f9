"""What an observation has found, as a comparison: every difference, its causes with their lines, and what is left."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from compare.explain.observing import Observation
from compare.judge.verdict import Cause, Comparison, Difference
from compare.known.catalogue import catalogue
from compare.workers.backends import REFERENCE_RUNNER

PHASES = ("start", "forward", "loss", "gradient", "clip", "update", "evaluation")

# What must agree for an update's difference to begin in it.
BEFORE_UPDATE = ("loss", "gradient", "clip")


def explanation(observation: Observation) -> Comparison:
    """Say what was found."""
    result, trace = observation.result, observation.trace
    causes = sorted(result["causes"], key=lambda cause: (cause["step"], PHASES.index(cause["phase"])))
    differences = [_difference(entry, result["differences"]) for entry in result["differences"]]
    placed = next((cause for cause in causes if cause["phase"] in ("forward", "loss") and cause["source"]), None)
    if placed is not None and differences:
        differences.insert(0, _placed(placed))
    notes = [f"{result['steps']} steps were compared, each from Keras's weights", *trace["notes"], *result["notes"]]
    notes += [f"not tried: {label} ({reason})" for label, reason in result["not_tried"].items()]
    if trace["failure"]:
        notes.append(f"Keras's training ended early: {trace['failure']}")
    return Comparison(
        case=observation.pair.name,
        runner=observation.sides.keras_runner,
        reference=REFERENCE_RUNNER,
        dtype="float32",
        status="differs" if differences else "agrees",
        checks=result["checks"],
        steps=result["steps"],
        max_relative_loss_difference=result["loss_difference"],
        trajectory_tolerance_ratio=result["largest"],
        differences=differences,
        notes=notes,
        versions={"keras": trace["version"], "torch": result["torch"]},
        causes=[_cause(cause) for cause in causes],
        unexplained=result["unexplained"] is not None,
    )


def _difference(entry: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> Difference:
    before = any(other["step"] == entry["step"] and other["phase"] in BEFORE_UPDATE for other in entries)
    message = entry["message"] or _ratio_message(entry, before)
    return Difference(
        "differs",
        entry["step"],
        entry["phase"],
        message,
        _tensor(entry["tensor"]),
        _finite(entry["error"]),
        _finite(entry["tolerance"]),
    )


def _placed(cause: Mapping[str, Any]) -> Difference:
    """The difference that a cause with a line is of."""
    error = _finite(cause["error_before"])
    source = cause["source"]
    return Difference(
        "differs", cause["step"], cause["phase"], cause["observation"], cause["tensor"], error, None, source=source
    )


def _tensor(name: str) -> str:
    """A tensor's name as reports have it: the module, a slash, what it is of it."""
    module, _, tensor = name.rpartition(".")
    return f"{module}/{tensor}" if module else tensor


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _ratio_message(entry: Mapping[str, Any], differed_before: bool) -> str:
    ratio = entry["ratio"]
    if ratio is None or abs(ratio - 1) <= 0.005:
        return "The two sides differ by more than rounding."
    if entry["phase"] != "update":
        return f"PyTorch's is {ratio:.3g} times Keras's."
    times = f"{ratio:.2f}" if 0.01 < abs(ratio) < 1000 else f"{ratio:.3g}"
    return f"{'' if differed_before else 'The gradients agree. '}PyTorch moved this tensor {times} times as far."


def _cause(cause: Mapping[str, Any]) -> Cause:
    known = catalogue()[cause["name"]]
    return Cause(
        name=cause["name"],
        confirmed=cause["confirmed"],
        message=known.message,
        fix=cause["fix"],
        error_before=_finite(cause["error_before"]),
        error_after=_finite(cause["error_after"]),
        step=cause["step"],
        phase=cause["phase"],
        tensor=_tensor(cause["tensor"]),
        observation=cause["observation"],
        proof=known.proof,
        source=cause["source"],
    )
