"""Named causes in parameters, gradients and penalties: each a way to run the steps with one thing as in Keras."""

from collections.abc import Iterator

import numpy as np

from compare.explain.source import Site
from compare.explain.torch_observer import update_causes
from compare.explain.torch_observer.checked_steps import Training
from compare.explain.torch_observer.setup import Setup
from compare.explain.torch_observer.step_judge import Seen
from compare.explain.torch_observer.update_causes import Candidate
from compare.explain.torch_observer.update_rule import rule_of


def propose(seen: Seen) -> list[Candidate]:
    """Everything that may make gradients and updates deviate, the most exact first."""
    candidates = [*_biases(seen), *_frozen(seen), *update_causes.accumulated(seen), *_momentum(seen)]
    if seen.phase("loss") or seen.phase("gradient"):
        candidates += [*_penalties(seen), *_detached(seen)]
    if seen.phase("clip") or seen.phase("update"):
        candidates += [*update_causes.clipping(seen)]
    if seen.phase("update"):
        candidates += [*update_causes.rates(seen), *update_causes.rule(seen)]
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
            "two-biases",
            code,
            Setup(freeze=tuple(second)),
            "PyTorch trains two biases where Keras has one.",
            1,
            _owner(seen, second[0]),
        )
    alone = [name for name in seen.work.transfer.alone if name in parameters and parameters[name].requires_grad]
    if alone:
        yield Candidate(
            "missing-bias",
            "bias=False, or use_bias=True in Keras: " + ", ".join(alone),
            Setup(freeze=tuple(alone)),
            "",
            1,
            _owner(seen, alone[0]),
            ("bias", "use_bias"),
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
            seen.training.made_at.get(id(named[frozen[0]])) or _owner(seen, frozen[0]),
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
            seen.training.made_at.get(id(seen.training.optimizer)),
            ("params",),
            0,
        )
    still = [name for name in mapped if name not in trained and named[name].requires_grad]
    if still:
        yield Candidate(
            "frozen-parameter",
            "; ".join(f"module.{n}.requires_grad_(False)" for n in still),
            Setup(freeze=tuple(still)),
            "Keras's layer has trainable=False.",
            1,
            _owner(seen, still[0]),
        )


def _owner(seen: Seen, name: str) -> Site | None:
    """Where the module is made that has a parameter."""
    return seen.training.made_at.get(id(seen.training.module.get_submodule(name.rpartition(".")[0])))


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
            ("momentum",),
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
        seen.training.made_at.get(id(seen.training.optimizer if decay else seen.training.loss))
        or seen.training.backward_site,
        ("weight_decay",),
    )


def _detached(seen: Seen) -> Iterator[Candidate]:
    """What keeps gradients from going back; nothing is proposed where nothing does."""
    setup = Setup(flags=frozenset({"keep_gradient"}))
    training = Training(seen.work, setup)
    training.step(0)
    for site in training.detached[:1]:
        code = "no .detach(), .data or torch.no_grad() between the layers and the loss"
        yield Candidate("detached-gradient", code, setup, "", 3, site)
