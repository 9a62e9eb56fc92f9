"""Named causes between the gradients and the weights: accumulation, clipping, learning rates, update rules."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from compare.explain.source import Site
from compare.explain.torch_observer.setup import Setup
from compare.explain.torch_observer.step_judge import Seen
from compare.explain.torch_observer.update_rule import rule_of
from compare.explain.update_rules import (
    CLASSES,
    INHERENT,
    WRITTEN,
    causes_of_choices,
    choices_message,
    rule_fix,
    same_choice,
)


@dataclass
class Candidate:
    """One possible cause, and the setup that takes it away; `site` is the user's call that has it.

    `argument` are names of the argument of that call which is to be named, `position` is its place without a name.
    """

    cause: str
    code: str
    setup: Setup
    message: str = ""
    priority: int = 2
    site: Site | None = None
    argument: tuple[str, ...] = ()
    position: int | None = None


def made_at(seen: Seen) -> Site | None:
    """Where the optimizer is made."""
    return seen.training.made_at.get(id(seen.training.optimizer))


def accumulated(seen: Seen) -> Iterator[Candidate]:
    """Gradients of earlier steps that are still there, or steps without an update."""
    sites = seen.training.step_sites
    site = sites[0] if sites else seen.training.backward_site
    count = seen.work.accumulate
    piled = any(
        own is not None and held is not None and not np.array_equal(own, held)
        for step in seen.steps
        if step.number % count == 0
        for own, held in zip(step.own.values(), step.held.values(), strict=True)
    )
    if count > 1:
        yield _other_accumulation(seen, piled)
        return
    missed = [step.number for step in seen.steps if not step.updates]
    missed = missed if len(missed) < len(seen.steps) else missed[:1]
    if piled or missed:
        message = (
            f"PyTorch makes no optimizer step at steps {missed[:6]}, Keras at every one."
            if missed
            else ("The gradients of earlier steps are still there: optimizer.zero_grad() is missing.")
        )
        partial = len(seen.work.steps[missed[0]]["batch"]) < len(seen.work.steps[0]["batch"]) if missed else False
        cause = "last-partial-batch" if partial and not piled else "gradient-accumulation"
        code = "optimizer.zero_grad(); loss.backward(); optimizer.step()  # for every batch, as fit does"
        # What else the user's loop does stays; where that is not enough, the loop of `fit` takes its place.
        flags = {"plain_gradients", *(["every_step"] if missed else [])}
        yield Candidate(cause, code, Setup(flags=frozenset(flags)), message, 2, site)
        yield Candidate(cause, code, Setup(flags=frozenset({"plain_step"})), message, 4, site)


def _other_accumulation(seen: Seen, piled: bool) -> Candidate:
    """Gradients of several batches added up otherwise than Keras does it."""
    count, sites = seen.work.accumulate, seen.training.step_sites
    site = sites[0] if sites else seen.training.backward_site
    other = [step.number for step in seen.steps if bool(step.updates) != ((step.number + 1) % count == 0)]
    if other:
        when = [step.number for step in seen.steps if step.updates]
        message = f"Keras makes an optimizer step after every {count} batches, PyTorch at steps {when[:6]}."
    elif seen.work.loss_scale == 1.0:
        site = seen.training.backward_site
        message = f"Keras takes the mean gradient of {count} batches, PyTorch their sum: the loss is not divided."
    else:
        message = "The gradients of earlier steps are still there." if piled else ""
    code = f"(loss / {count}).backward()  # for every batch; after {count} optimizer.step(); optimizer.zero_grad()"
    return Candidate("gradient-accumulation", code, Setup(flags=frozenset({"plain_step"})), message, 2, site)


def clipping(seen: Seen) -> Iterator[Candidate]:
    """Another clipping, or none."""
    keras, calls = seen.work.trace["clip"], seen.training.clip_calls
    if keras["kind"] == "none" and not calls:
        return
    ours = "nothing" if keras["kind"] == "none" else f"{keras['kind'].replace('_', ' ')} {keras['limit']:g}"
    theirs = f"{calls[0]['function']}(…, {calls[0]['limit']:g})" if calls else "nothing it is known by"
    code = {
        "global_norm": "torch.nn.utils.clip_grad_norm_(module.parameters(), {limit:g})  # before optimizer.step()",
        "norm": "for p in module.parameters(): torch.nn.utils.clip_grad_norm_(p, {limit:g})",
        "value": "torch.nn.utils.clip_grad_value_(module.parameters(), {limit:g})",
        "none": f"optimizer=keras.optimizers.…(…, global_clipnorm={calls[0]['limit']:g})" if calls else "no clipping",
    }[keras["kind"]].format(limit=keras["limit"] or 0.0)
    yield Candidate(
        "gradient-clipping",
        code,
        Setup(clip=keras),
        f"Keras clips by {ours}, PyTorch by {theirs}.",
        2,
        calls[0]["site"] if calls else next(iter(seen.training.step_sites), made_at(seen)),
        ("max_norm", "clip_value"),
        1,
    )


def rates(seen: Seen) -> Iterator[Candidate]:
    """Another learning rate, or another schedule of it."""
    ours = np.array([step["learning_rate"] for step in seen.work.steps])
    theirs = np.array(seen.training.rates)
    count = min(len(ours), len(theirs))
    if not count or np.allclose(ours[:count], theirs[:count], rtol=1e-5, atol=0.0):
        return
    # The same schedule from another rate differs by one factor.
    constant = bool(np.allclose(ours[:count] * theirs[0], theirs[:count] * ours[0], rtol=1e-5, atol=0.0))
    first = float(f"{ours[0]:.6g}")
    scheduled = None if constant else seen.training.made_at.get(id(seen.training.scheduler))
    place = int(np.argmax(~np.isclose(ours[:count], theirs[:count], rtol=1e-5)))
    yield Candidate(
        "learning-rate" if constant else "learning-rate-schedule",
        f"torch.optim.{type(seen.training.optimizer).__name__}(module.parameters(), lr={first:g})"
        if constant
        else "scheduler.step() after every batch, with the rates of Keras's schedule",
        Setup(rule={"learning_rates": [float(f"{rate:.9g}") for rate in ours]}),
        f"The learning rate of step {place} is {ours[place]:.6g} in Keras and {theirs[place]:.6g} in PyTorch.",
        1,
        scheduled or made_at(seen),
        () if scheduled else ("lr",),
        None if scheduled else 1,
    )


def rule(seen: Seen) -> Iterator[Candidate]:
    """Another update rule, or other choices in it."""
    keras, torch = seen.work.trace["rule"], rule_of(seen.training.optimizer)
    if keras is None:
        return
    name = type(seen.training.optimizer).__name__
    keras = {**keras, "learning_rate": float(f"{seen.work.steps[0]['learning_rate']:.7g}")}
    if torch is None or keras["rule"] != torch["rule"]:
        code = f"torch.optim.{CLASSES.get(keras['rule'], '…')}(module.parameters(), lr={keras['learning_rate']:g})"
        choices = {key: value for key, value in keras.items() if key != "learning_rate"}
        yield Candidate(
            "optimizer-rule",
            code,
            Setup(rule=choices),
            f"Keras trains with {seen.work.trace['optimizer']}, PyTorch with {name}.",
            3,
            made_at(seen),
        )
        return
    differing = {
        k: keras[k]
        for k in keras
        if k in torch and not same_choice(keras[k], torch[k]) and k not in ("rule", "learning_rate")
    }
    for cause, names in causes_of_choices(keras["rule"]).items():
        choices = {k: differing[k] for k in names if k in differing}
        if not choices or (cause == "momentum-rule" and not (keras.get("momentum") or torch.get("momentum"))):
            continue
        yield Candidate(
            cause,
            rule_fix(cause, name, choices, keras),
            Setup(rule=choices),
            choices_message(choices, torch),
            4 if cause in INHERENT else 2,
            made_at(seen),
            tuple(WRITTEN.get(choice, choice) for choice in choices),
        )
