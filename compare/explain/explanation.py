"""What `explain` finds, as a comparison: the first difference, the causes with their proofs, and what stays unnamed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from compare.explain.comparing import ULP, Finding, Stage
from compare.explain.investigation import Investigation
from compare.explain.search import Proof, first_differing, search
from compare.judge.verdict import Cause, Comparison, Difference
from compare.known.catalogue import catalogue
from compare.workers.backends import REFERENCE_RUNNER

# What must agree for a phase's difference to begin in it.
BEFORE = {"loss": "forward", "gradient": "loss", "clip": "gradient", "update": "clip"}
AGREES = {
    "forward": "The layers' outputs agree",
    "loss": "The losses agree",
    "gradient": "The gradients agree",
    "clip": "The clipped gradients agree",
}


@dataclass(frozen=True)
class Explanation:
    """A comparison, with the stages it was made from and what no cause explains."""

    comparison: Comparison
    proofs: tuple[Proof, ...]
    stages: tuple[Stage, ...]
    unexplained: Stage | None


def explain(investigation: Investigation) -> Explanation:
    """Compare both sides of a pair file, and where they differ find out why."""
    mode = investigation.dropout
    stages = investigation.stages([], mode, [])
    first = first_differing(stages)
    proofs: tuple[Proof, ...] = ()
    unexplained: Stage | None = None
    if first is not None:
        result = search(investigation)
        proofs, unexplained = result.proofs, result.unexplained
    keras, torch = investigation.keras_run([], mode), investigation.torch_run([], mode)
    ratios = [each.error / each.tolerance for stage in stages for each in stage.findings if each.tolerance]
    comparison = Comparison(
        case=investigation.pair.name,
        runner=investigation.sides.keras_runner,
        reference=REFERENCE_RUNNER,
        dtype="float32",
        status="agrees" if first is None else "differs",
        checks=sum(len(stage.findings) for stage in stages),
        steps=len(investigation.batches),
        max_relative_loss_difference=_loss_difference(keras["losses"], torch["losses"]),
        max_prediction_difference=_prediction_difference(investigation, stages),
        trajectory_tolerance_ratio=max(ratios, default=None),
        differences=[_difference(stage, stages) for stage in stages if stage.differing],
        notes=_notes(investigation, unexplained),
        versions={**investigation.torch["versions"], **investigation.keras["versions"]},
        causes=[_cause(proof) for proof in proofs],
    )
    return Explanation(comparison, proofs, tuple(stages), unexplained)


def _loss_difference(keras: np.ndarray, torch: np.ndarray) -> float | None:
    scale = np.abs(keras)
    if not np.isfinite(keras).all() or not np.isfinite(torch).all() or not scale.all():
        return None
    return float(np.max(np.abs(keras - torch) / scale))


def _prediction_difference(investigation: Investigation, stages: Sequence[Stage]) -> float | None:
    last = investigation.matches[-1].name
    errors = [finding.error for finding in stages[-1].findings if finding.location == f"{last} output"]
    return errors[0] if errors and math.isfinite(errors[0]) else None


def _difference(stage: Stage, stages: Sequence[Stage]) -> Difference:
    finding = stage.shown
    relative = finding.relative_error if math.isfinite(finding.relative_error) else None
    tolerance = finding.relative_tolerance if math.isfinite(finding.relative_tolerance) else None
    message = _message(finding, stages)
    return Difference("differs", stage.step, stage.phase, message, finding.location, relative, tolerance)


def _message(finding: Finding, stages: Sequence[Stage]) -> str:
    """Say what agrees before a difference, and how the two sides stand to each other in it."""
    sentences = []
    before = BEFORE.get(finding.phase)
    if before is not None:
        same = [stage for stage in stages if (stage.step, stage.phase) == (finding.step, before)]
        earlier = [stage for stage in stages if (stage.step, stage.phase) == (finding.step, "gradient")]
        findings = [each for stage in same for each in stage.findings]
        if before == "clip" and [each.error for each in findings] == [
            each.error for stage in earlier for each in stage.findings
        ]:
            before = "gradient"  # nothing is clipped
        if findings and not any(stage.differing for stage in same):
            sentences.append(f"{AGREES[before]} ({max(each.ulps for each in findings):.2g} ulps).")
    elif finding.step:
        sentences.append(f"Steps 0 to {finding.step - 1} agree.")
    if finding.message:
        sentences.append(f"{finding.message[0].upper()}{finding.message[1:]}.")
    elif finding.ratio is not None and abs(finding.ratio - 1) > 0.005:
        moved = finding.phase == "update"
        times = f"{finding.ratio:.2f}" if 0.01 < abs(finding.ratio) < 1000 else f"{finding.ratio:.3g}"
        sentences.append(
            f"PyTorch moved this tensor {times} times as far." if moved else f"PyTorch's is {times} times Keras's."
        )
    else:
        sentences.append("The two sides differ by more than rounding.")
    return " ".join(sentences)


def _cause(proof: Proof) -> Cause:
    known = catalogue()[proof.candidate.cause]
    return Cause(
        name=known.name,
        confirmed=True,
        message=known.message,
        fix=proof.candidate.fix,
        error_before=proof.error_before,
        error_after=proof.error_after,
        step=proof.location.step,
        phase=proof.location.phase,
        tensor=proof.location.location,
        observation=proof.candidate.message,
        proof=known.proof,
        figures={name: _plain(value) for name, value in proof.candidate.figures.items()},
    )


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return {key: _plain(item) for key, item in value.items()} if isinstance(value, dict) else value


def _notes(investigation: Investigation, unexplained: Stage | None) -> list[str]:
    count, epochs = len(investigation.batches), -(-len(investigation.inputs) // investigation.batch_size)
    notes = [f"{count} steps were trained, {count / epochs:.1f} epochs of {epochs} batches; an ulp is 2⁻²⁴ ({ULP:.0e})"]
    unused = dict.fromkeys(str(part["path"]) for part in investigation.torch["unused"])
    if unused:
        notes.append(f"the module's {', '.join(unused)} is never called")
    if unexplained is not None:
        finding = unexplained.differing[0]
        error = f"relative error {finding.relative_error:.1e}, tolerance {finding.relative_tolerance:.1e}"
        notes.append(
            f"no known cause explains step {unexplained.step}, {unexplained.phase}, {finding.location}"
            f" ({finding.message or error})"
        )
    return notes
