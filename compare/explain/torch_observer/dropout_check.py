"""Where both sides drop, and what: every dropout of one side has its counterpart on the other, or is told."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from compare.explain.alignment import arrangement, trivial
from compare.explain.source import Site, Source, argument_of, source_of
from compare.explain.torch_observer.checked_steps import Training, Work
from compare.explain.torch_observer.recorder import DropoutCall
from compare.explain.torch_observer.setup import Setup

# What both sides drop is the same tensor within so much of its largest number.
NEAR = 1e-4
MADE = (nn.modules.dropout._DropoutNd, nn.RNNBase)
FEATURES = ("dropout1d", "feature_dropout")
MOST_TOLD = 4


@dataclass(frozen=True)
class DropoutDifference:
    """What is dropped on one side alone: its cause, the code to write, the user's line, and the number of calls."""

    cause: str
    code: str
    message: str
    source: dict[str, Any] | None
    calls: int


def compare(work: Work, setup: Setup) -> Iterator[DropoutDifference]:
    """What is dropped on one side alone; a step that ends otherwise than it began shows in the last one."""
    training = Training(work, Setup(flags=setup.flags))
    steps = [training.step(number) for number in range(len(work.steps))]
    first, last = steps[0].recording.dropouts, steps[-1].recording.dropouts
    keras = work.trace["dropouts"]
    calls = max(len(keras), len(first))

    def difference(cause: str, code: str, message: str, call: DropoutCall | Site | None) -> DropoutDifference:
        line = None if call is None else _line(training, call, ("p", "dropout") if cause == "dropout-rate" else ())
        return DropoutDifference(cause, code, message, None if line is None else line.as_json("torch"), calls)

    active = [call for call in first if call.active and call.rate > 0]
    if keras and first and (not active or not any(call.active for call in last)):
        message = "PyTorch's dropout is not active while it trains."
        yield difference("dropout-active", "module.train()  # before every training step", message, first[0])
        return
    keras_alone, torch_alone = _unmatched(keras, active)
    if keras_alone and [_shape(a["shape"]) for a in keras_alone] == [_shape(b.shape) for b in torch_alone]:
        wanted, call = keras_alone[0]["rate"], torch_alone[0]
        message = f"Keras drops {wanted:g}, PyTorch {call.rate:g}."
        yield difference("dropout-rate", f"nn.Dropout({wanted:g})", message, call)
        return
    if keras_alone or torch_alone:
        ours = _listed([(call["rate"], call["shape"]) for call in keras_alone])
        theirs = _listed([(call.rate, call.shape) for call in torch_alone])
        message = f"Keras drops {ours}; PyTorch {theirs}."
        place = next(iter(torch_alone), None) or _lacking(work, setup, keras_alone, first)
        yield difference("dropout-placement", _fix(keras_alone, work.trace["layers"]), message, place)
    if not work.trace["evaluation"].get("dropouts") and _in_evaluation(training):
        code = "F.dropout(x, p, training=self.training)  # or nn.Dropout, which knows"
        yield difference("dropout-active", code, "PyTorch drops in predictions too.", next(iter(first), None))


def _line(training: Training, call: DropoutCall | Site, argument: Collection[str]) -> Source | None:
    """The line of a dropout, where an argument is asked for or the call is a library's that which makes its module."""
    if not isinstance(call, DropoutCall):
        return source_of(call)
    module = call.where[1] if call.where else None
    made = training.made_at.get(id(module)) if isinstance(module, MADE) else None
    if made is not None and (argument or call.site is None or isinstance(module, nn.RNNBase)):
        return argument_of(made, argument, 0 if argument and not isinstance(module, nn.RNNBase) else None)
    return training.source(call.site)


def _lacking(work: Work, setup: Setup, keras_alone: Sequence[Any], first: Sequence[DropoutCall]) -> Any:
    """Where a dropout of Keras's is lacking: a module that is never called, layers without one, what is not dropped."""
    training = Training(work, Setup(flags=setup.flags, patches=setup.patches))
    operations = training.forward(0).recording.operations
    called = {call.where[0] for call in first if call.where}
    modules = dict(training.module.named_modules())
    for name, module in modules.items():
        if isinstance(module, nn.modules.dropout._DropoutNd) and name not in called:
            return training.made_at.get(id(module))
    for call in keras_alone:
        if call["value"] is None:
            continue
        wanted = np.asarray(call["value"], float)
        near = NEAR * (float(np.max(np.abs(wanted), initial=0.0)) or 1.0)
        for operation in reversed(operations):
            if operation.site is None or operation.outputs[0].size != wanted.size:
                continue
            if arrangement(operation.outputs[0].astype(float), wanted, near) not in (None, "scrambled"):
                return operation.site
    for module in modules.values():
        if isinstance(module, nn.RNNBase) and module.num_layers > 1 and not module.dropout:
            return training.made_at.get(id(module))
    return next(iter(first), None)


def _unmatched(keras: Sequence[Any], active: Sequence[DropoutCall]) -> tuple[list[Any], list[DropoutCall]]:
    """The calls of each side that have no counterpart."""
    left, alone = list(active), []
    for call in keras:
        if call["rate"] <= 0:
            continue
        partner = _partner(call, left)
        if partner is None:
            alone.append(call)
        else:
            left.remove(partner)
    return alone, left


def _in_evaluation(training: Training) -> bool:
    keras = training.work.trace["evaluation"]
    if not keras:
        return False
    try:
        recorder = training.evaluate(keras["weights"])
    except Exception:  # whatever the user's module raises that was never evaluated
        return False
    return any(call.active and call.rate > 0 for call in recorder.dropouts)


def _shape(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(sorted(n for n in shape if n != 1))


def _partner(call: Any, left: Sequence[Any]) -> Any:
    alike = [
        other
        for other in left
        if abs(other.rate - call["rate"]) < 1e-9
        and "alpha" not in other.kind
        and _shape(other.shape) == _shape(call["shape"])
    ]
    if call["value"] is None or not alike:
        return alike[0] if alike else None
    if trivial(np.asarray(call["value"])):  # inside a cell: a mask is drawn for nothing but ones, for all timesteps
        return next((other for other in alike if other.kind in FEATURES and other.shape[-1] == 1), None)
    for other in alike:
        if other.value is None:
            continue
        scale = float(np.max(np.abs(other.value), initial=0.0)) or 1.0
        if other.value.size == call["value"].size and arrangement(
            other.value.astype(float), call["value"].astype(float), NEAR * scale
        ) not in (None, "scrambled"):
            return other
    # Where the forward pass goes wrong before, values do not tell; the shape and the rate do.
    return alike[0]


def _fix(unmatched: Sequence[Any], layers: Sequence[Mapping[str, Any]]) -> str:
    if unmatched and unmatched[0]["value"] is not None and trivial(np.asarray(unmatched[0]["value"])):
        rate = unmatched[0]["rate"]
        code = f"F.dropout1d(x.transpose(1, 2), {rate:g}, self.training).transpose(1, 2)"
        told = "of what the layer is given, (batch, time, features): one mask for all timesteps, as dropout= has it"
        if any(layer.get("recurrent_dropout") for layer in layers):
            told += "; recurrent_dropout= has no counterpart in PyTorch's layers: leave it out"
        return f"{code}  # {told}"
    spatial = [
        call
        for call in unmatched
        if call["value"] is not None and tuple(call["shape"]) != tuple(np.shape(call["value"]))
    ]
    if spatial:
        rate = spatial[0]["rate"]
        code = f"F.dropout1d(x.transpose(1, 2), {rate:g}, self.training).transpose(1, 2)"
        return f"{code}  # whole features, as SpatialDropout1D"
    if unmatched:
        return f"nn.Dropout({unmatched[0]['rate']:g}) where Keras's Dropout layer stands, and nowhere else"
    return "no dropout there: Keras has none"


def _listed(calls: Sequence[tuple[float, Sequence[int]]]) -> str:
    told = [f"{rate:g} of {'×'.join(map(str, shape[1:]))}" for rate, shape in calls[:MOST_TOLD]]
    return "; ".join(dict.fromkeys(told)) or "nothing more"
