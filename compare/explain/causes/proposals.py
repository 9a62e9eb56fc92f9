"""Which causes are tried for a difference, by the phase that it is in."""

from compare.explain.causes import dropout, forward, loss, training
from compare.explain.causes.candidates import Candidate, Context


def propose(context: Context, with_dropout: bool) -> list[Candidate]:
    """List the causes that may make the first difference, the most exact first.

    `with_dropout` is where the two sides agree without dropout and differ with it.
    """
    phase = context.stage.phase
    if with_dropout:
        candidates = list(dropout.propose(context))
    elif phase == "start":
        candidates = [*training.one_sided(context), *training.other_layout(context)]
    elif phase in ("forward", "evaluation"):
        candidates = list(forward.propose(context))
    elif phase == "loss":
        candidates = list(loss.propose(context))
        if context.step > 0:  # a loss whose step was not recorded
            candidates += training.propose_update(context)
    elif phase == "gradient":
        candidates = list(training.propose_gradient(context))
    elif phase == "clip":
        candidates = list(training.propose_clip(context))
    else:
        candidates = list(training.propose_update(context))
    if phase != "update" and context.stage.phase != "evaluation":
        candidates += training.own_step(context)
    return sorted(candidates, key=lambda candidate: candidate.priority)
