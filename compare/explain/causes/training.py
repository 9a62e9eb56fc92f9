"""Causes that show in gradients, clipping and updates while the loss agrees."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from compare.explain.causes.candidates import Candidate, Context
from compare.explain.causes.forward import normalisation_momentum
from compare.explain.causes.loss import penalties

ADAM = ("adam", "adamax", "nadam")

# What no option of PyTorch's optimizers fixes: named after what the user chose.
INHERENT = ("adam-epsilon-placement", "rmsprop-epsilon-placement")

CLASSES = {
    "adam": "Adam", "adamax": "Adamax", "nadam": "NAdam", "sgd": "SGD", "rmsprop": "RMSprop", "adagrad": "Adagrad",
    "adadelta": "Adadelta",
}  # fmt: skip


def propose_gradient(context: Context) -> Iterator[Candidate]:
    """Propose what may make gradients differ."""
    yield from _frozen(context)
    yield Candidate(
        "detached-gradient",
        "no .detach(), .data or torch.no_grad() between the layers and the loss",
        torch=({"change": "keep_gradient"},),
        priority=3,
    )
    yield from penalties(context)


def propose_clip(context: Context) -> Iterator[Candidate]:
    """Propose what may make clipped gradients differ."""
    yield from two_biases(context)
    keras, calls = context.keras["clip"], context.torch["clip_calls"]
    torch_clips = (
        ", ".join(f"{call['function']}(…, {call['limit']:g})" for call in calls[:2]) or "nothing it is known by"
    )
    keras_clips = "nothing" if keras["kind"] == "none" else f"{keras['kind'].replace('_', ' ')} {keras['limit']:g}"
    yield Candidate(
        "gradient-clipping",
        {
            "global_norm": "torch.nn.utils.clip_grad_norm_(module.parameters(), {limit:g})  # before optimizer.step()",
            "norm": "for p in module.parameters(): torch.nn.utils.clip_grad_norm_(p, {limit:g})",
            "value": "torch.nn.utils.clip_grad_value_(module.parameters(), {limit:g})",
            "none": "optimizer=keras.optimizers.…(…, global_clipnorm=" + f"{calls[0]['limit']:g})"
            if calls
            else "no clipping",
        }[keras["kind"]].format(limit=keras["limit"] or 0.0),
        torch=({"change": "clip", **keras},),
        priority=2,
        figures={"keras": keras, "torch": calls[:1]},
        message=f"Keras clips by {keras_clips}, PyTorch by {torch_clips}.",
    )


def propose_update(context: Context) -> Iterator[Candidate]:
    """Propose what may make updates differ."""
    yield from two_biases(context)
    yield from _not_held(context)
    for match in context.matches:
        if match.kind == "batch_normalization":
            yield from normalisation_momentum(match)
    yield from _rule(context)
    decays = [decay for decay in context.torch["decays"].values() if decay]
    if decays and context.torch["rule"] and context.torch["rule"]["coupled_decay"]:
        yield from penalties(context)
    yield from own_step(context)


def two_biases(context: Context) -> Iterator[Candidate]:
    """Propose that PyTorch trains a second bias that Keras does not have."""
    single = {
        name
        for match in context.matches
        for name in match.torch["parameters"].get("bias", [])[1:]
        if not (match.kind == "gru" and match.keras["reset_after"])
    }
    names = [name for name in context.torch["two_biases"] if name in single]
    if names:
        yield Candidate(
            "two-biases",
            "; ".join(f"module.{name}.requires_grad_(False)" for name in names),
            torch=({"change": "freeze", "parameters": names, "zero": True},),
            priority=1,
            figures={"parameters": names},
        )


def one_sided(context: Context) -> Iterator[Candidate]:
    """Propose what may make a tensor exist on one side only."""
    ours, theirs, excluded = [], [], set()
    first = None
    for match in context.matches:
        for name in match.tensors:
            if name not in match.torch["shapes"] and name in ("bias", "beta"):
                ours.append({"change": "zero", "key": match.keras["key"], "tensor": name})
            elif name not in match.keras["shapes"] and name in ("bias", "beta"):
                theirs += match.torch["parameters"][name]
            else:
                continue
            excluded.add(match.canonical(name))
            first = first or (match, name)
    if first is None:
        return
    match, _ = first
    yield Candidate(
        "missing-bias",
        f"bias=True in module.{match.torch['path']}" if ours else f"use_bias=True in Keras's {match.keras['key']}",
        torch=({"change": "freeze", "parameters": theirs, "zero": True},) if theirs else (),
        keras=tuple(ours),
        excluded=frozenset(excluded),
        priority=1,
    )


def other_layout(context: Context) -> Iterator[Candidate]:
    """Propose that the user's own conversion puts weights where Keras does not have them."""
    finding = context.finding
    match = finding.match
    own = [name for name in context.torch["own_parameters"] if name.rpartition(".")[0] == match.torch["path"]]
    if not own:
        return
    left = context.keras_run.get(f"{match.keras['key']}/{finding.what}")
    right = context.torch_run.get(f"start/weights/{match.torch['key']}/{finding.what}")
    cause = "transposed-kernel"
    if left is not None and right is not None and left.shape == right.shape:
        square = left.ndim == 2 and left.shape[0] == left.shape[1]
        gates = {"lstm": 4, "gru": 3}.get(match.kind, 1)
        blocks = [np.split(array, gates, axis=-1) for array in (left, right)]
        permuted = gates > 1 and all(any(np.array_equal(a, b) for b in blocks[0]) for a in blocks[1])
        transposed = (square and np.array_equal(left, right.T)) or _transposed_blocks(*blocks)
        if permuted or (gates > 1 and not transposed):
            cause = f"{match.kind}-gate-order"
    order = {"gru": "reset, update, candidate", "lstm": "input, forget, candidate, output"}.get(match.kind, "")
    fix = {
        "gru-gate-order": "z, r, n = np.split(kernel, 3, axis=1); weight = np.concatenate([r, z, n], axis=1).T",
        "lstm-gate-order": "i, f, c, o = np.split(kernel, 4, axis=1); weight = kernel.T  # the same order",
        "transposed-kernel": f"weight = kernel.T  # {match.torch['parameters'][finding.what][0]}",
    }[cause]
    yield Candidate(
        cause,
        fix,
        torch=({"change": "load", "path": match.torch["path"]},),
        priority=1,
        message=f"PyTorch's gates are {order}." if order and cause != "transposed-kernel" else "",
    )


def _transposed_blocks(left: list[np.ndarray], right: list[np.ndarray]) -> bool:
    return all(a.shape[0] == a.shape[1] and np.array_equal(a, b.T) for a, b in zip(left, right, strict=True))


def _frozen(context: Context) -> Iterator[Candidate]:
    seconds = set()
    for match in context.matches:
        if not (match.kind == "gru" and match.keras["reset_after"]):
            seconds |= set(match.torch["parameters"].get("bias", [])[1:])
    trained = [
        name
        for match in context.matches
        if match.keras["trainable"]
        for tensor, names in match.torch["parameters"].items()
        if tensor in match.keras["shapes"]
        for name in names
    ]
    frozen = [name for name in context.torch["frozen"] if name not in seconds and name in trained]
    if frozen:
        yield Candidate(
            "frozen-parameter",
            "; ".join(f"module.{name}.requires_grad_(True)" for name in frozen),
            torch=({"change": "train", "parameters": frozen},),
            priority=1,
            figures={"parameters": frozen},
        )
    still = [
        name
        for match in context.matches
        if not match.keras["trainable"]
        for names in match.torch["parameters"].values()
        for name in names
        if name not in context.torch["frozen"] and "running" not in name
    ]
    if still:
        yield Candidate(
            "frozen-parameter",
            "; ".join(f"module.{name}.requires_grad_(False)" for name in still),
            torch=({"change": "freeze", "parameters": still},),
            priority=1,
            figures={"parameters": still},
            message="Keras's layer has trainable=False.",
        )


def _not_held(context: Context) -> Iterator[Candidate]:
    names = [name for name in context.torch["not_held"] if name not in context.torch["frozen"]]
    if names:
        yield Candidate(
            "frozen-parameter",
            f"torch.optim.{context.torch['optimizer']}(module.parameters(), …)  # it holds only some of them",
            torch=({"change": "train", "parameters": names},),
            priority=1,
            figures={"parameters": names},
            message=f"The optimizer does not hold {', '.join(names[:3])}.",
        )


def own_step(context: Context) -> Iterator[Candidate]:
    """Propose that the user's own training step does something else with a smaller batch."""
    if not context.torch["own_step"]:
        return
    partial = len(context.targets) < context.batch_size
    if partial:
        yield Candidate(
            "last-partial-batch",
            "train on the last, smaller batch too: Keras's fit does",
            torch=({"change": "plain_step"},),
            priority=4,
            figures={"batch": len(context.targets), "batch_size": context.batch_size},
        )


def _rule(context: Context) -> Iterator[Candidate]:
    keras, torch = context.keras["rule"], context.torch["rule"]
    if keras is None:
        return
    keras = {**keras, "learning_rate": float(context.keras_run["learning_rates"][0])}
    yield from _rates(context)
    if torch is None or keras["rule"] != torch["rule"]:
        name = context.torch["optimizer"]
        yield Candidate(
            "optimizer-rule",
            f"torch.optim.{CLASSES.get(keras['rule'], '…')}(module.parameters(), lr={keras['learning_rate']:g})",
            torch=({"change": "update_rule", **{k: v for k, v in keras.items() if k != "learning_rate"}},),
            priority=3,
            group="rule",
            figures={"keras": context.keras["optimizer"], "torch": name},
            message=f"Keras trains with {context.keras['optimizer']}, PyTorch with {name}.",
        )
        return
    differing = {
        name: keras[name]
        for name in keras
        if name in torch and not same_choice(keras[name], torch[name]) and name != "rule"
    }
    for cause, names in causes_of_choices(keras["rule"]).items():
        choices = {name: differing[name] for name in names if name in differing}
        if cause == "momentum-rule" and not (keras.get("momentum") or torch.get("momentum")):
            continue
        if choices:
            yield Candidate(
                cause,
                rule_fix(cause, context.torch["optimizer"], choices, keras),
                torch=({"change": "update_rule", **choices},),
                priority=4 if cause in INHERENT else 2,
                figures={"keras": choices, "torch": {name: torch[name] for name in choices}},
                message=choices_message(choices, torch),
            )


def same_choice(left: Any, right: Any) -> bool:
    """Whether two choices of a rule are the same, numbers up to rounding."""
    if isinstance(left, float) and isinstance(right, float):
        return bool(np.isclose(left, right, rtol=1e-5, atol=0.0))
    return bool(left == right)


def causes_of_choices(rule: str) -> dict[str, tuple[str, ...]]:
    """Which choices of a rule belong to which cause; the learning rate is apart."""
    decay = {"weight-decay-coupling": ("coupled_decay", "decoupled_decay")}
    if rule == "adam":
        return {
            "adam-betas": ("beta_1", "beta_2"), "adam-epsilon": ("epsilon",),
            "adam-epsilon-placement": ("epsilon_placement",), "optimizer-rule": ("amsgrad",), **decay,
        }  # fmt: skip
    if rule in ADAM:
        rest = ("epsilon_placement", "momentum_decay")
        return {"adam-betas": ("beta_1", "beta_2"), "adam-epsilon": ("epsilon",), "optimizer-rule": rest, **decay}
    if rule == "rmsprop":
        return {
            "optimizer-rule": ("rho", "centered"), "rmsprop-epsilon-placement": ("epsilon", "epsilon_placement"),
            "momentum-rule": ("momentum", "momentum_form"), **decay,
        }  # fmt: skip
    if rule == "adagrad":
        return {
            "initial-accumulator": ("initial_accumulator",), "optimizer-rule": ("epsilon", "epsilon_placement"),
            **decay,
        }  # fmt: skip
    if rule == "adadelta":
        return {"optimizer-rule": ("rho", "epsilon"), **decay}
    return {"momentum-rule": ("momentum", "dampening", "nesterov", "momentum_form"), **decay}


def _rates(context: Context) -> Iterator[Candidate]:
    ours, theirs = context.keras_run["learning_rates"], context.torch_run["learning_rates"]
    known = np.isfinite(ours) & np.isfinite(theirs)
    if not known.any() or np.allclose(ours[known], theirs[known], rtol=1e-5, atol=0.0):
        return
    constant = np.ptp(ours[known]) <= 1e-6 * ours[known].max() and np.ptp(theirs[known]) <= 1e-6 * theirs[known].max()
    cause = "learning-rate" if constant else "learning-rate-schedule"
    first = float(f"{ours[0]:.6g}")
    yield Candidate(
        cause,
        f"torch.optim.{context.torch['optimizer']}(module.parameters(), lr={first:g})" if constant else
        "scheduler.step() after every batch, with the rates of Keras's schedule",
        torch=({"change": "update_rule", "learning_rates": [float(f"{rate:.9g}") for rate in ours]},),
        priority=1,
        figures={"keras": first, "torch": float(f"{theirs[0]:.6g}")},
        message=f"The learning rate of step {context.step} is {ours[context.step]:.6g} in Keras and "
        f"{theirs[context.step]:.6g} in PyTorch.",
    )  # fmt: skip


WRITTEN = {"beta_1": "betas", "beta_2": "betas", "epsilon": "eps", "rho": "alpha"}


def rule_fix(cause: str, optimizer: str, choices: Mapping[str, Any], keras: Mapping[str, Any]) -> str:
    """The code that makes a choice as Keras makes it."""
    if cause == "adam-epsilon-placement":
        epsilon, beta = keras["epsilon"], keras["beta_2"]
        return (
            f"for group in optimizer.param_groups: group['eps'] = {epsilon:g} / (1 - {beta:g}**t) ** 0.5"
            "  # before step t = 1, 2, …"
        )
    if cause == "rmsprop-epsilon-placement":
        return "an RMSprop that divides by (v + 1e-7).sqrt(); torch.optim.RMSprop(…, eps=1e-7) comes near"
    if cause == "weight-decay-coupling":
        decay = keras["decoupled_decay"]
        return (
            f"torch.optim.AdamW(module.parameters(), lr={keras['learning_rate']:g}, weight_decay={decay:g})"
            if keras["rule"] == "adam" else f"weight_decay={keras['coupled_decay']:g}"
            if not decay else f"weight_decay={keras['coupled_decay']:g}, decoupled {decay:g} by hand"
        )  # fmt: skip
    if cause == "initial-accumulator":
        return f"torch.optim.Adagrad(…, initial_accumulator_value={choices['initial_accumulator']:g})"
    if cause == "momentum-rule" and set(choices) == {"momentum_form"}:
        return "scale the momentum buffers by lr_before / lr_after where the learning rate changes"
    if "beta_1" in choices or "beta_2" in choices:
        return f"torch.optim.{optimizer}(…, betas=({keras['beta_1']:g}, {keras['beta_2']:g}))"
    options = ", ".join(
        f"{WRITTEN.get(name, name)}={value}" for name, value in choices.items() if name != "momentum_form"
    )
    return f"torch.optim.{optimizer}(module.parameters(), …, {options})"


def choices_message(choices: Mapping[str, Any], torch: Mapping[str, Any]) -> str:
    """The choices of both sides, in words."""
    sentences = [
        f"{name.replace('_', ' ')} is {value} in Keras and {torch[name]} in PyTorch" for name, value in choices.items()
    ]
    return "; ".join(sentences) + "."
