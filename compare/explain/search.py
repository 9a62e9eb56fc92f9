"""The search for causes: at the first difference each that could make it is taken away, and the step repeated."""

from collections.abc import Sequence
from dataclasses import dataclass

from compare.explain.causes.candidates import Candidate
from compare.explain.causes.proposals import propose
from compare.explain.comparing import Finding, Stage
from compare.explain.investigation import Investigation
from compare.explain.processes import SideError

# A pair with more mistakes than this is not explained to its end.
MOST_CAUSES = 10


@dataclass(frozen=True)
class Proof:
    """A cause that is confirmed: with all others mended the difference is there, with this one mended too it is not."""

    candidate: Candidate
    location: Finding
    error_before: float
    error_after: float
    order: tuple[int, int, int]


@dataclass(frozen=True)
class Search:
    """What came of a search: the confirmed causes, and what differs when all of them are taken away."""

    proofs: tuple[Proof, ...]
    unexplained: Stage | None


def first_differing(stages: Sequence[Stage]) -> Stage | None:
    """The first stage in which something differs."""
    return next((stage for stage in stages if stage.differing), None)


def search(investigation: Investigation) -> Search:
    """Find the causes: those that show without dropout, then those that need it."""
    accepted, rest = _explain(investigation, [], "off")
    mode = "off"
    if rest is None and investigation.dropout != "off":
        mode = investigation.dropout
        accepted, rest = _explain(investigation, accepted, mode)
    needed = _needed(investigation, accepted, mode)
    stages = investigation.stages(needed, mode, needed)
    proofs = [_prove(investigation, candidate, needed, stages, mode) for candidate in needed]
    found = [proof for proof in proofs if proof is not None]
    found.sort(key=lambda proof: (proof.order, proof.candidate.priority, -proof.error_before))
    return Search(tuple(found), first_differing(stages))


def _explain(
    investigation: Investigation, accepted: list[Candidate], dropout: str
) -> tuple[list[Candidate], Stage | None]:
    """Take causes away until nothing differs; what differs then is returned too."""
    accepted = list(accepted)
    while True:
        first = first_differing(investigation.stages(accepted, dropout, accepted))
        if first is None or len(accepted) >= MOST_CAUSES:
            return accepted, first
        context = investigation.context(first, accepted, dropout)
        candidates = [one for one in propose(context, dropout != "off") if not _taken(one, accepted)]
        chosen = _solve(investigation, first, candidates, accepted, dropout)
        if not chosen:
            return accepted, first
        accepted += chosen


def _taken(candidate: Candidate, accepted: Sequence[Candidate]) -> bool:
    return any(
        (one.torch, one.keras, one.excluded) == (candidate.torch, candidate.keras, candidate.excluded)
        for one in accepted
    )


@dataclass(frozen=True)
class _Outcome:
    candidate: Candidate
    solved: bool
    left: int
    reached: tuple[int, int]


def _solve(
    investigation: Investigation,
    first: Stage,
    candidates: Sequence[Candidate],
    accepted: Sequence[Candidate],
    dropout: str,
) -> list[Candidate]:
    """Choose what takes the difference away: one cause, else the fewest of several together, else a part of it."""
    outcomes = []
    for candidate in candidates:
        outcome = _try(investigation, first, [candidate], accepted, dropout)
        if outcome is not None:
            outcomes.append(outcome)
    solved = [outcome for outcome in outcomes if outcome.solved]
    if solved:
        best = min(solved, key=lambda outcome: (_negative(outcome.reached), outcome.candidate.priority))
        return [best.candidate]
    together = _one_of_each_group(candidates)
    if len(together) > 1:
        outcome = _try(investigation, first, together, accepted, dropout)
        if outcome is not None and outcome.solved:
            return _fewest(investigation, first, together, accepted, dropout)
    for index, one in enumerate(candidates):
        for other in candidates[index + 1 :]:
            if one.group and one.group == other.group:
                continue
            outcome = _try(investigation, first, [one, other], accepted, dropout)
            if outcome is not None and outcome.solved:
                return [one, other]
    parts = [outcome for outcome in outcomes if outcome.left < len(first.differing)]
    if parts:
        return [min(parts, key=lambda outcome: (outcome.left, outcome.candidate.priority)).candidate]
    return []


def _negative(order: tuple[int, int]) -> tuple[int, int]:
    return -order[0], -order[1]


def _one_of_each_group(candidates: Sequence[Candidate]) -> list[Candidate]:
    found: dict[str, Candidate] = {}
    for number, candidate in enumerate(candidates):
        found.setdefault(candidate.group or f"alone {number}", candidate)
    return list(found.values())


def _fewest(
    investigation: Investigation,
    first: Stage,
    together: Sequence[Candidate],
    accepted: Sequence[Candidate],
    dropout: str,
) -> list[Candidate]:
    """Leave out every cause without which the difference is taken away too, the least exact first."""
    kept = list(together)
    for candidate in sorted(together, key=lambda one: -one.priority):
        without = [one for one in kept if one is not candidate]
        outcome = _try(investigation, first, without, accepted, dropout)
        if without and outcome is not None and outcome.solved:
            kept = without
    return kept


def _try(
    investigation: Investigation, first: Stage, tried: Sequence[Candidate], accepted: Sequence[Candidate], dropout: str
) -> _Outcome | None:
    """Take causes away and say what is left of a difference; None where it cannot be done, or spoils what agreed."""
    try:
        stages = investigation.stages([*accepted, *tried], dropout, accepted)
    except SideError as error:
        if error.died:
            raise
        return None
    now = first_differing(stages)
    if now is None:
        last = stages[-1].order
        return _Outcome(tried[0], True, 0, (last[0] + 1, last[1]))
    if now.order < first.order:
        return None
    if now.order > first.order:
        return _Outcome(tried[0], True, 0, now.order)
    before, after = {one.location for one in first.differing}, {one.location for one in now.differing}
    if not after <= before:
        before, after = {_tensor(one) for one in first.differing}, {_tensor(one) for one in now.differing}
    return _Outcome(tried[0], False, len(after) if after < before else len(first.differing), now.order)


def _tensor(finding: Finding) -> str:
    return f"{finding.match.name if finding.match else ''} {finding.what}"


def _needed(investigation: Investigation, accepted: Sequence[Candidate], dropout: str) -> list[Candidate]:
    """Leave out every cause without which the two sides agree as far."""
    kept = list(accepted)
    for candidate in list(accepted):
        whole = first_differing(investigation.stages(kept, dropout, kept))
        without = [one for one in kept if one is not candidate]
        rest = first_differing(investigation.stages(without, dropout, without))
        if rest is None or (
            whole is not None and rest.order == whole.order and len(rest.differing) <= len(whole.differing)
        ):
            kept = without
    return kept


def _prove(
    investigation: Investigation,
    candidate: Candidate,
    needed: Sequence[Candidate],
    stages: Sequence[Stage],
    dropout: str,
) -> Proof | None:
    """With all else mended, how large is the difference without and with this cause taken away, and where."""
    without = [one for one in needed if one is not candidate]
    rest = first_differing(investigation.stages(without, dropout, without))
    if rest is None:
        return None
    # As a report shows it: the first tensor, or of tensors side by side the one most off.
    ordered = rest.differing
    location = (
        ordered[0]
        if rest.phase in ("start", "forward", "loss", "evaluation")
        else max(ordered, key=lambda one: one.relative_error)
    )
    same = [one for stage in stages if stage.order == rest.order for one in stage.findings]
    after = next((one for one in same if one.location == location.location), None)
    if after is None:
        after = next((one for one in same if _tensor(one) == _tensor(location)), None)
    position = (
        [one.location for one in rest.findings].index(location.location)
        if rest.phase in ("forward", "evaluation")
        else 0
    )
    error_after = 0.0 if after is None else after.relative_error
    return Proof(candidate, location, location.relative_error, error_after, (*rest.order, position))
