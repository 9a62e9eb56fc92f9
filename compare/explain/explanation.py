"""What `explain` finds, as a comparison: the first difference, the causes with their proofs, and what stays unnamed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from compare.explain.comparing import UNIT, Finding, Stage
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
    """A pair's comparison, with the stages it was made from and what no cause explains."""

    comparison: Comparison
    proofs: tuple[Proof, ...]
    stages: tuple[Stage, ...]
    unexplained: Stage | None


def explain(investigation: Investigation) -> Explanation:
    """Compare both sides of a pair, and where they differ find out why."""
    mode = investigation.dropout
    stages = investigation.stages([], mode, [])
    first = first_differing(stages)
    proofs: tuple[Proof, ...] = ()
    unexplained: Stage | None = None
    if first is not None:
        found = search(investigation)
        proofs, unexplained = found.proofs, found.unexplained
    keras, torch = investigation.keras_run([], mode), investigation.torch_run([], mode)
    shares = [one.error / one.tolerance for stage in stages for one in stage.findings if one.tolerance]
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
        trajectory_tolerance_ratio=max(shares, default=None),
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
    found = [one for one in stages[-1].findings if one.location == f"{last} output"]
    return found[0].error if found and math.isfinite(found[0].error) else None


def _difference(stage: Stage, stages: Sequence[Stage]) -> Difference:
    finding = shown(stage)
    relative = finding.relative_error if math.isfinite(finding.relative_error) else None
    tolerance = finding.relative_tolerance if math.isfinite(finding.relative_tolerance) else None
    words = difference_words(finding, stages)
    return Difference("differs", stage.step, stage.phase, words, finding.location, relative, tolerance)


def shown(stage: Stage) -> Finding:
    """The tensor to show of a stage: the first computed, or of tensors side by side the one most off."""
    if stage.phase in ("gradient", "clip", "update"):
        return max(stage.differing, key=lambda one: one.relative_error)
    return stage.differing[0]


def difference_words(finding: Finding, stages: Sequence[Stage]) -> str:
    """Say what agrees before a difference, and how the two sides stand to each other in it."""
    said = []
    before = BEFORE.get(finding.phase)
    if before is not None:
        same = [stage for stage in stages if (stage.step, stage.phase) == (finding.step, before)]
        earlier = [stage for stage in stages if (stage.step, stage.phase) == (finding.step, "gradient")]
        if before == "clip" and [one.error for s in same for one in s.findings] == [
            one.error for s in earlier for one in s.findings
        ]:
            before = "gradient"  # nothing is clipped
        findings = [one for stage in same for one in stage.findings]
        if findings and not any(stage.differing for stage in same):
            said.append(f"{AGREES[before]} ({max(one.units for one in findings):.2g} units).")
    elif finding.step:
        said.append(f"Steps 0 to {finding.step - 1} agree.")
    if finding.message:
        said.append(f"{finding.message[0].upper()}{finding.message[1:]}.")
    elif finding.ratio is not None and abs(finding.ratio - 1) > 0.005:
        moved = finding.phase == "update"
        times = f"{finding.ratio:.2f}" if 0.01 < abs(finding.ratio) < 1000 else f"{finding.ratio:.3g}"
        said.append(
            f"PyTorch moved this tensor {times} times as far." if moved else f"PyTorch's is {times} times Keras's."
        )
    else:
        said.append("The two sides differ by more than rounding.")
    return " ".join(said)


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
        return [_plain(one) for one in value]
    return {key: _plain(one) for key, one in value.items()} if isinstance(value, dict) else value


def _notes(investigation: Investigation, unexplained: Stage | None) -> list[str]:
    found = []
    count, epochs = len(investigation.batches), -(-len(investigation.inputs) // investigation.batch_size)
    found.append(
        f"{count} steps were trained, {count / epochs:.1f} epochs of {epochs} batches; a unit is 2⁻²⁴ ({UNIT:.0e})"
    )
    unused = [str(part["path"]) for part in investigation.torch["unused"]]
    if unused:
        found.append(f"the module's {', '.join(dict.fromkeys(unused))} is never called")
    if unexplained is not None:
        location = unexplained.differing[0]
        found.append(
            f"no known cause explains step {unexplained.step}, {unexplained.phase}, {location.location}"
            f" ({location.message or f'relative error {location.relative_error:.1e}, allowed {location.relative_tolerance:.1e}'})"
        )
    return found
