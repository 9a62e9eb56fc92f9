"""Named causes in gradients, clipping and updates: each a way to run the steps with one thing as in Keras."""

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
    causes_of_choices,
    choices_message,
    rule_fix,
    same_choice,
)


@dataclass
class Candidate:
    """One possible cause, and the setup that takes it away."""

    cause: str
    code: str
    setup: Setup
    message: str = ""
    priority: int = 2
    site: Site | None = None


def propose(seen: Seen) -> list[Candidate]:
    """Everything that may make gradients and updates deviate, the most exact first."""
    candidates = [*_biases(seen), *_frozen(seen), *_accumulated(seen), *_momentum(seen)]
    if seen.phase("loss") or seen.phase("gradient"):
        candidates += [*_penalties(seen), *_detached(seen)]
    if seen.phase("clip") or seen.phase("update"):
        candidates += [*_clipping(seen)]
    if seen.phase("update"):
        candidates += [*_rates(seen), *_rule(seen)]
    return sorted(candidates, key=lambda candidate: candidate.priority)


def _biases(seen: Seen) -> Iterator[Candidate]:
    parameters = dict(seen.training.module.named_parameters())
    maps = seen.work.transfer.maps
    second = [
        name
        for name, weight_map in maps.items()
        if weight_map.extra and name in parameters and parameters[name].requires_grad
    ]
    held = {id(p) for group in seen.training.optimizer.param_groups for p in group["params"]}
    second = [name for name in second if id(parameters[name]) in held]
    if second:
        code = "; ".join(f"module.{name}.requires_grad_(False)" for name in second)
        yield Candidate(
            "two-biases", code, Setup(freeze=tuple(second)), "PyTorch trains two biases where Keras has one.", 1
        )
    alone = [name for name in seen.work.transfer.alone if name in parameters and parameters[name].requires_grad]
    if alone:
        yield Candidate(
            "missing-bias",
            "bias=False, or use_bias=True in Keras: " + ", ".join(alone),
            Setup(freeze=tuple(alone)),
            "",
            1,
        )


def _frozen(seen: Seen) -> Iterator[Candidate]:
    maps, trainable = seen.work.transfer.maps, set(seen.work.trace["trainable"])
    named = dict(seen.training.module.named_parameters())
    held = {id(p) for group in seen.training.optimizer.param_groups for p in group["params"]}
    mapped = {name: weight_map for name, weight_map in maps.items() if name in named and not weight_map.extra}
    trained = [name for name, weight_map in mapped.items() if set(weight_map.paths) & trainable]  # in Keras
    frozen = [name for name in trained if not named[name].requires_grad]
    if frozen:
        yield Candidate(
            "frozen-parameter",
            "; ".join(f"module.{n}.requires_grad_(True)" for n in frozen),
            Setup(train=tuple(frozen)),
            "",
            1,
        )
    apart = [name for name in trained if named[name].requires_grad and id(named[name]) not in held]
    if apart:
        name = type(seen.training.optimizer).__name__
        code = f"torch.optim.{name}(module.parameters(), …)  # it holds only some of them"
        yield Candidate(
            "frozen-parameter",
            code,
            Setup(train=tuple(apart)),
            f"The optimizer does not hold {', '.join(apart[:3])}.",
            1,
        )
    still = [name for name in mapped if name not in trained and named[name].requires_grad]
    if still:
        yield Candidate(
            "frozen-parameter",
            "; ".join(f"module.{n}.requires_grad_(False)" for n in still),
            Setup(freeze=tuple(still)),
            "Keras's layer has trainable=False.",
            1,
        )


def _accumulated(seen: Seen) -> Iterator[Candidate]:
    sites = seen.training.step_sites
    site = sites[0] if sites else seen.training.backward_site
    piled = any(
        own is not None and held is not None and not np.array_equal(own, held)
        for step in seen.steps
        for own, held in zip(step.own.values(), step.held.values(), strict=True)
    )
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
        yield Candidate(cause, code, Setup(flags=frozenset({"plain_step"})), message, 2, site)


def _momentum(seen: Seen) -> Iterator[Candidate]:
    layers = {path: layer for layer in seen.work.trace["layers"] for path in layer["variables"]}
    for name, weight_map in seen.work.transfer.maps.items():
        module, _, last = name.rpartition(".")
        if last != "running_mean":
            continue
        layer, norm = layers.get(weight_map.paths[0], {}), seen.training.module.get_submodule(module)
        momentum = layer.get("momentum")
        if momentum is None or norm.momentum is None or abs((1 - norm.momentum) - momentum) < 1e-9:
            continue
        yield Candidate(
            "normalization-momentum",
            f"nn.BatchNorm1d(…, momentum={1 - momentum:.6g})  # module.{module}",
            Setup(momentum={module: 1 - momentum}),
            f"Keras keeps {momentum:g} of the old statistics, PyTorch {1 - norm.momentum:g}.",
            1,
            seen.training.made_at.get(id(norm)),
        )


def _penalties(seen: Seen) -> Iterator[Candidate]:
    penalties = seen.work.trace["penalties"]
    coefficients = {
        name: penalties[path]["l2"]
        for name, weight_map in seen.work.transfer.maps.items()
        if not weight_map.extra
        for path in weight_map.paths
        if penalties.get(path, {}).get("l2") and not penalties[path].get("l1")
    }
    if not coefficients:
        return
    coefficient = next(iter(coefficients.values()))
    penalty = " + ".join(f"{each:g} * module.{name}.square().sum()" for name, each in coefficients.items())
    message = f"Keras adds {coefficient:g}·Σw² to the loss; its gradient is {2 * coefficient:g}·w."
    decay = max(float(group.get("weight_decay", 0.0)) for group in seen.training.optimizer.param_groups)
    rule = rule_of(seen.training.optimizer)
    if rule is not None and rule["coupled_decay"] and np.isclose(decay, 2 * coefficient):
        message += f" weight_decay={2 * coefficient:g} makes the same updates: only the loss lacks it."
    yield Candidate(
        "l2-penalty",
        f"loss = loss + {penalty}  # and no weight_decay",
        Setup(penalties=coefficients),
        message,
        2,
    )


def _detached(seen: Seen) -> Iterator[Candidate]:
    yield Candidate(
        "detached-gradient",
        "no .detach(), .data or torch.no_grad() between the layers and the loss",
        Setup(flags=frozenset({"keep_gradient"})),
        "",
        3,
    )


def _clipping(seen: Seen) -> Iterator[Candidate]:
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
        calls[0]["site"] if calls else None,
    )


def _rates(seen: Seen) -> Iterator[Candidate]:
    ours = np.array([step["learning_rate"] for step in seen.work.steps])
    theirs = np.array(seen.training.rates)
    count = min(len(ours), len(theirs))
    if not count or np.allclose(ours[:count], theirs[:count], rtol=1e-5, atol=0.0):
        return
    constant = np.ptp(ours[:count]) <= 1e-6 * ours.max() and np.ptp(theirs[:count]) <= 1e-6 * theirs.max()
    first = float(f"{ours[0]:.6g}")
    place = int(np.argmax(~np.isclose(ours[:count], theirs[:count], rtol=1e-5)))
    yield Candidate(
        "learning-rate" if constant else "learning-rate-schedule",
        f"torch.optim.{type(seen.training.optimizer).__name__}(module.parameters(), lr={first:g})"
        if constant
        else "scheduler.step() after every batch, with the rates of Keras's schedule",
        Setup(rule={"learning_rates": [float(f"{rate:.9g}") for rate in ours]}),
        f"The learning rate of step {place} is {ours[place]:.6g} in Keras and {theirs[place]:.6g} in PyTorch.",
        1,
    )


def _rule(seen: Seen) -> Iterator[Candidate]:
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
        )
