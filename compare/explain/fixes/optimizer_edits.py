"""Edits of PyTorch's optimizer, of what it holds, and of the learning rates."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from compare.explain.fixes.pair_source import Change, Edit, called
from compare.explain.fixes.request import Request
from compare.explain.update_rules import CLASSES

# The options of PyTorch's optimizers by what is chosen in an update rule.
OPTIONS = {
    "learning_rate": "lr",
    "epsilon": "eps",
    "rho": "alpha",
    "momentum": "momentum",
    "dampening": "dampening",
    "nesterov": "nesterov",
    "amsgrad": "amsgrad",
    "centered": "centered",
    "initial_accumulator": "initial_accumulator_value",
    "momentum_decay": "momentum_decay",
}
CHOICES_OF_CAUSE = {
    "learning-rate": ("learning_rate",),
    "adam-betas": ("betas",),
    "adam-epsilon": ("epsilon",),
    "momentum-rule": ("momentum", "dampening", "nesterov"),
    "initial-accumulator": ("initial_accumulator",),
    "optimizer-rule": ("rho", "centered", "amsgrad", "momentum_decay", "epsilon"),
}
# What PyTorch's optimizers take where nothing is said.
ZERO = ("0", "0.0", "False")
# So many rates are written out one by one.
MOST_RATES = 500

EPSILON_HOOK = [
    "",
    "def epsilon_as_in_keras(optimizer, args, kwargs, steps=[0]):",
    "    steps[0] += 1",
    "    for group in optimizer.param_groups:",
    '        group["eps"] = {epsilon:g} / (1 - {beta:g} ** steps[0]) ** 0.5',
    "",
    "OPTIMIZER.register_step_pre_hook(epsilon_as_in_keras)",
]
MOMENTUM_HOOK = [
    "",
    "def momentum_as_in_keras(optimizer, args, kwargs, rates={}):",
    "    for number, group in enumerate(optimizer.param_groups):",
    '        before, rates[number] = rates.get(number, group["lr"]), group["lr"]',
    '        for parameter in group["params"]:',
    '            buffer = optimizer.state[parameter].get("momentum_buffer")',
    "            if buffer is not None:",
    '                buffer.mul_(before / group["lr"])',
    "",
    "OPTIMIZER.register_step_pre_hook(momentum_as_in_keras)",
]
RMSPROP = '''class KerasRMSprop(torch.optim.RMSprop):
    """RMSprop with epsilon under the root, as Keras has it."""

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in (p for p in group["params"] if p.grad is not None):
                state, gradient, rho = self.state[parameter], parameter.grad, group["alpha"]
                square = state.setdefault("square", torch.zeros_like(parameter))
                square.mul_(rho).addcmul_(gradient, gradient, value=1 - rho)
                below = square
                if group["centered"]:
                    average = state.setdefault("average", torch.zeros_like(parameter))
                    average.mul_(rho).add_(gradient, alpha=1 - rho)
                    below = square - average * average
                change = group["lr"] * gradient / (below + group["eps"]).sqrt()
                if group["momentum"]:
                    change = state.setdefault("kept", torch.zeros_like(parameter)).mul_(group["momentum"]).add_(change)
                parameter.sub_(change)
'''


def option_edits(request: Request) -> Iterator[Edit]:
    """Another class, or other options, of the optimizer."""
    call, keras = request.source.optimizer(), request.trace["rule"]
    if call is None or keras is None:
        return
    keras = {**keras, "learning_rate": float(f"{request.trace['steps'][0]['learning_rate']:.7g}")}
    name, wanted = called(call), CLASSES.get(keras["rule"], "")
    if keras["rule"] == "adam" and keras.get("decoupled_decay"):
        wanted = "AdamW"
    cause = request.cause.name
    changes: list[Change] = []
    if cause == "optimizer-rule" and name != wanted:
        if not wanted or not call.args:
            return
        options = _options(keras, ["learning_rate", "betas", *CHOICES_OF_CAUSE["momentum-rule"], *_decays(keras)])
        options |= _options(keras, [*CHOICES_OF_CAUSE["optimizer-rule"], "initial_accumulator"])
        function = request.source.text_of(call.func)
        text = ", ".join(f"{key}={value}" for key, value in options.items())
        new = f"{function.removesuffix(name)}{wanted}({request.source.text_of(call.args[0])}, {text})"
        yield request.edit(f"{name} → {new}", request.source.replaced(call, new))
        return
    if cause == "weight-decay-coupling":
        options = _options(keras, _decays(keras)) or {"weight_decay": "0.0"}
        if wanted == "AdamW" and name == "Adam":
            end = request.source.span(call.func)[1]
            changes.append((end - len(name), end, wanted))
    else:
        options = _options(keras, CHOICES_OF_CAUSE[cause])
    written = {keyword.arg for keyword in call.keywords}
    options = {key: value for key, value in options.items() if value not in ZERO or key in written}
    for key, value in options.items():
        changes += request.source.with_keyword(call, key, value, 1 if key == "lr" else None)
    if changes:
        told = ", ".join(f"{key}={value}" for key, value in options.items())
        yield request.edit(f"the optimizer has {told}", *changes)


def _decays(keras: Mapping[str, Any]) -> list[str]:
    return ["weight_decay"] if keras.get("decoupled_decay") or keras.get("coupled_decay") else []


def _options(keras: Mapping[str, Any], choices: Any) -> dict[str, str]:
    """PyTorch's options for choices of Keras's rule, those that the rule has not left out."""
    options: dict[str, str] = {}
    for choice in choices:
        if choice == "betas" and keras.get("beta_1") is not None:
            options["betas"] = f"({keras['beta_1']:.6g}, {keras['beta_2']:.6g})"
        elif choice == "weight_decay":
            options[choice] = f"{keras.get('decoupled_decay') or keras['coupled_decay']:.7g}"
        elif keras.get(choice) is not None and choice in OPTIONS:
            if keras["rule"] != "sgd" and choice in ("dampening", "nesterov"):
                continue
            if keras["rule"] == "adadelta" and choice == "rho":
                options["rho"] = f"{keras[choice]:.7g}"
                continue
            value = keras[choice]
            if choice in ("amsgrad", "centered", "nesterov") and not value:
                if choice == "nesterov":
                    options[choice] = "False"
                continue
            if choice == "momentum_decay" and keras["rule"] != "nadam":
                continue
            options[OPTIONS[choice]] = repr(value) if isinstance(value, bool) else f"{value:.7g}"
    if "nesterov" in options and options["nesterov"] == "False":
        del options["nesterov"]
    return options


def epsilon_edits(request: Request) -> Iterator[Edit | None]:
    """Adam's epsilon where Keras adds it: before the bias is corrected."""
    keras = request.trace["rule"]
    lines = [line.replace("{epsilon:g}", f"{keras['epsilon']:g}") for line in EPSILON_HOOK]
    lines = [line.replace("{beta:g}", f"{keras['beta_2']:g}") for line in lines]
    yield request.before_return(lines, "eps of every step is Keras's 1e-7 / sqrt(1 - beta_2^t)")


def rmsprop_edits(request: Request) -> Iterator[Edit | None]:
    """An RMSprop that adds epsilon under the root."""
    call, returned, keras = request.source.optimizer(), request.source.returned(), request.trace["rule"]
    if call is None or returned is None or called(call) != "RMSprop":
        return
    changes = [request.source.replaced(call.func, "KerasRMSprop")]
    changes += request.source.with_keyword(call, "eps", f"{keras['epsilon']:g}")
    function = request.source.function("torch_side")
    assert function is not None  # it has the return
    statement = next(n for n in function.body if n.lineno <= call.lineno <= (n.end_lineno or 0))
    lines = ["", *RMSPROP.splitlines(), ""]
    if "import torch\n" not in request.source.text:
        lines = ["import torch", *lines]
    changes.append(request.source.before(statement, lines))
    yield request.edit("an RMSprop that adds epsilon under the root", *changes)


def momentum_edits(request: Request) -> Iterator[Edit | None]:
    """Momentum's options, or buffers that keep their step where the rate changes."""
    if "buffers" in request.code:
        yield request.before_return(MOMENTUM_HOOK, "momentum buffers are scaled where the learning rate changes")
    else:
        yield from option_edits(request)


def parameter_edits(request: Request) -> Iterator[Edit | None]:
    """What the optimizer trains: a bias too many, frozen or thawed parameters, all of the module."""
    call, returned = request.source.optimizer(), request.source.returned()
    if "requires_grad_" in request.code:
        lines = [part.strip() for part in request.code.split(";")]
        yield request.before_optimizer(lines, "; ".join(lines))
    elif request.cause.name == "frozen-parameter" and call is not None and call.args and returned is not None:
        new = f"{request.source.text_of(returned.module)}.parameters()"
        yield request.edit(f"the optimizer holds {new}", request.source.replaced(call.args[0], new))


def schedule_edits(request: Request) -> Iterator[Edit | None]:
    """A scheduler with the rates of Keras's schedule, in the place of the user's."""
    rates = np.array([step["learning_rate"] for step in request.trace["steps"]])
    if len(rates) > MOST_RATES:
        return
    changes: list[Change] = []
    own = request.source.function("scheduler")
    if own is not None:
        changes.append(request.source.removed(own))
    factor = _factor(rates)
    text = (
        "def scheduler(optimizer):\n    import torch\n\n"
        f"    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: {factor})\n"
    )
    changes.append(request.source.appended(text))
    call = request.source.optimizer()
    if call is not None:
        changes += request.source.with_keyword(call, "lr", f"{rates[0]:.7g}", 1)
    yield request.edit("a scheduler with the rates of Keras's schedule, stepped after every optimizer step", *changes)


def _factor(rates: np.ndarray) -> str:
    """The rate of a step by the first, as code."""
    factors = rates / rates[0]
    ratios = factors[1:] / factors[:-1]
    if len(ratios) and np.allclose(ratios, ratios[0], rtol=1e-5):
        length = len(factors) - 1
        return f"{float(factors[-1]) ** (1 / length):.9g} ** step"
    listed = ", ".join(f"{factor:.9g}" for factor in factors)
    return f"[{listed}][min(step, {len(factors) - 1})]"
