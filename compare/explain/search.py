"""The search for causes: at the first difference each that could make it is taken away, and the step repeated."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from compare.explain.causes.candidates import Candidate
from compare.explain.causes.proposals import propose
from compare.explain.comparing import Finding, Stage
from compare.explain.investigation import Investigation
from compare.explain.processes import SideError

# A port with more mistakes than this is not explained to its end.
MOST_CAUSES = 10


@dataclass(frozen=True)
class Proof:
    """A cause that is confirmed: with all others fixed the difference is there, with this one fixed too it is not."""

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
    confirmed = [proof for proof in proofs if proof is not None]
    confirmed.sort(key=lambda proof: (proof.order, proof.candidate.priority, -proof.error_before))
    return Search(tuple(confirmed), first_differing(stages))


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
        candidates = [each for each in propose(context, dropout != "off") if not _taken(each, accepted)]
        chosen = _solve(investigation, first, candidates, accepted, dropout)
        if not chosen:
            return accepted, first
        accepted += chosen


def _taken(candidate: Candidate, accepted: Sequence[Candidate]) -> bool:
    return any(
        (taken.torch, taken.keras, taken.excluded) == (candidate.torch, candidate.keras, candidate.excluded)
        for taken in accepted
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
    for pair in itertools.combinations(candidates, 2):
        if pair[0].group and pair[0].group == pair[1].group:
            continue
        outcome = _try(investigation, first, pair, accepted, dropout)
        if outcome is not None and outcome.solved:
            return list(pair)
    parts = [outcome for outcome in outcomes if outcome.left < len(first.differing)]
    if parts:
        return [min(parts, key=lambda outcome: (outcome.left, outcome.candidate.priority)).candidate]
    return []


def _negative(order: tuple[int, int]) -> tuple[int, int]:
    return -order[0], -order[1]


def _one_of_each_group(candidates: Sequence[Candidate]) -> list[Candidate]:
    first: dict[str, Candidate] = {}
    for number, candidate in enumerate(candidates):
        first.setdefault(candidate.group or f"alone {number}", candidate)
    return list(first.values())


def _fewest(
    investigation: Investigation,
    first: Stage,
    together: Sequence[Candidate],
    accepted: Sequence[Candidate],
    dropout: str,
) -> list[Candidate]:
    """Leave out every cause without which the difference is taken away too, the least exact first."""
    fewest = list(together)
    for candidate in sorted(together, key=lambda candidate: -candidate.priority):
        without = _without(fewest, candidate)
        outcome = _try(investigation, first, without, accepted, dropout)
        if without and outcome is not None and outcome.solved:
            fewest = without
    return fewest


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
    before, after = ({finding.location for finding in stage.differing} for stage in (first, now))
    if not after <= before:
        before, after = ({finding.tensor for finding in stage.differing} for stage in (first, now))
    return _Outcome(tried[0], False, len(after) if after < before else len(first.differing), now.order)


def _needed(investigation: Investigation, accepted: Sequence[Candidate], dropout: str) -> list[Candidate]:
    """Leave out every cause without which the two sides agree as far."""
    needed = list(accepted)
    for candidate in accepted:
        whole = first_differing(investigation.stages(needed, dropout, needed))
        without = _without(needed, candidate)
        rest = first_differing(investigation.stages(without, dropout, without))
        if rest is None or (
            whole is not None and rest.order == whole.order and len(rest.differing) <= len(whole.differing)
        ):
            needed = without
    return needed


def _without(candidates: Sequence[Candidate], candidate: Candidate) -> list[Candidate]:
    return [other for other in candidates if other is not candidate]


def _prove(
    investigation: Investigation,
    candidate: Candidate,
    needed: Sequence[Candidate],
    stages: Sequence[Stage],
    dropout: str,
) -> Proof | None:
    """With all else fixed, how large is the difference without and with this cause taken away, and where."""
    without = _without(needed, candidate)
    rest = first_differing(investigation.stages(without, dropout, without))
    if rest is None:
        return None
    location = rest.shown
    same = [finding for stage in stages if stage.order == rest.order for finding in stage.findings]
    after = next((finding for finding in same if finding.location == location.location), None)
    if after is None:
        after = next((finding for finding in same if finding.tensor == location.tensor), None)
    in_order = rest.phase in ("forward", "evaluation")
    position = [finding.location for finding in rest.findings].index(location.location) if in_order else 0
    error_after = 0.0 if after is None else after.relative_error
    return Proof(candidate, location, location.relative_error, error_after, (*rest.order, position))
