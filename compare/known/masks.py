"""A mask that does not reach a layer, proved by the reference of the same step without it."""

from collections.abc import Iterator
from dataclasses import replace

from compare.judge.single_step import OFF_REFERENCE
from compare.judge.step_reference import StepReference
from compare.judge.verdict import Cause, Comparison, Difference
from compare.known.evidence import Evidence


def with_missing_mask(comparison: Comparison, evidence: Evidence) -> Comparison:
    """Name the cause where one side is what the reference is whose layers do not see the mask."""
    first = comparison.first_difference
    if first is None or first.kind != OFF_REFERENCE or first.phase not in ("forward", "loss"):
        return comparison
    masked = [reference for reference in evidence.references if "mask" in reference.inputs]
    for reference in masked:
        if reference.step == first.step:
            cause = _cause(first, reference, evidence)
            return comparison if cause is None else replace(comparison, causes=(*comparison.causes, cause))
    return comparison


def _cause(first: Difference, reference: StepReference, evidence: Evidence) -> Cause | None:
    side, model = first.off_side, reference.experiment.case.model
    for lost in _candidates(model.layers, heeded_by_loss=model.head == "every_output"):

        def without(expected: StepReference, lost: frozenset[int] = lost) -> StepReference:
            return expected.without_mask(lost)

        if evidence.explains_step(side, first.step, without):
            after = [
                error
                for error in evidence.errors(side, first.step, without)
                if (error.phase, error.tensor or None) == (first.phase, first.tensor)
            ]
            parts = [*(f"layer{index}" for index in range(model.layers)), "the loss"]
            names = " and ".join(parts[index] for index in sorted(lost))
            return Cause(
                "missing-mask",
                True,
                f"The mask does not reach {names} of {side}, which computes the padding like what counts",
                f"pass the mask to {names} by hand; layers of {side} in this version may not hand it on",
                error_before=first.relative_error,
                error_after=max((error.error for error in after), default=None),
                step=first.step,
                phase=first.phase,
                tensor=first.tensor,
                observation=f"{side} is off from {first.tensor} on, in a batch with padding",
                proof=f"the reference without the mask in {names} is what {side} computes",
            )
    return None


def _candidates(layers: int, *, heeded_by_loss: bool) -> Iterator[frozenset[int]]:
    """Which layers may have lost the mask: each alone, all from one on, and the loss, which stands after the last."""
    ends = (layers, layers + 1) if heeded_by_loss else (layers,)
    alone = [frozenset((index,)) for index in range(layers)]
    yield from dict.fromkeys([*alone, *(frozenset(range(first, end)) for end in ends for first in range(end))])
