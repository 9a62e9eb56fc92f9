"""Where both sides drop, and what: every dropout of one side has its counterpart on the other, or is told."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from compare.explain.alignment import arrangement, trivial
from compare.explain.torch_observer.checked_steps import Setup, Training

NEAR = 1e-4


def compare(investigation: Any) -> Iterator[dict[str, Any]]:
    """What is dropped on one side alone, with its cause."""
    work = investigation.work
    training = Training(work, Setup(flags=investigation.setup.flags))
    training.step(0)
    torch = training.current.recorder.dropouts
    # A step that ends otherwise than it began, or a validation within it, shows in the second.
    last = training.current.recorder.dropouts
    keras = work.trace["dropouts"]
    if len(work.steps) > 1:
        for number in range(1, len(work.steps)):
            training.step(number)
        last = training.current.recorder.dropouts
    yield from _matched(investigation, training, keras, torch, last)


def _matched(
    investigation: Any, training: Training, keras: Sequence[Any], torch: Sequence[Any], last: Sequence[Any]
) -> Iterator[dict[str, Any]]:
    active = [call for call in torch if call.active and call.rate > 0]
    source = lambda call: None if training.source(call.site) is None else training.source(call.site).as_json("torch")  # noqa: E731
    told = {"tensor": "dropout", "before": max(len(keras), len(torch)), "source": source(torch[0]) if torch else None}
    if keras and torch and (not active or not any(call.active for call in last)):
        yield {
            **told, "cause": "dropout-active", "code": "module.train()  # before every training step",
            "message": "PyTorch's dropout is not active while it trains.",
        }  # fmt: skip
        return
    left = list(active)
    unmatched = []
    for call in keras:
        if call["rate"] <= 0:
            continue
        partner = _partner(call, left)
        if partner is None:
            unmatched.append(call)
        else:
            left.remove(partner)
    if (
        unmatched
        and len(unmatched) == len(left)
        and all(_shape(a["shape"]) == _shape(b.shape) for a, b in zip(unmatched, left, strict=True))
    ):
        a, b = unmatched[0], left[0]
        if any(a["rate"] != b.rate for a, b in zip(unmatched, left, strict=True)):
            yield {
                **told, "cause": "dropout-rate", "code": f"nn.Dropout({a['rate']:g})", "source": source(b),
                "message": f"Keras drops {a['rate']:g}, PyTorch {b.rate:g}.",
            }  # fmt: skip
            return
    if unmatched or left:
        yield {
            **told, "cause": "dropout-placement", "code": _fix(unmatched), "source": source(left[0]) if left else told["source"],
            "message": f"Keras drops {_keras_words(unmatched)}; PyTorch {_torch_words(left)}.",
        }  # fmt: skip
    if not investigation.work.trace["evaluation"].get("dropouts") and _in_evaluation(training):
        yield {
            **told, "cause": "dropout-active", "code": "F.dropout(x, p, training=self.training)  # or nn.Dropout, which knows",
            "message": "PyTorch drops in predictions too.",
        }  # fmt: skip


def _in_evaluation(training: Training) -> bool:
    keras = training.work.trace["evaluation"]
    if not keras:
        return False
    try:
        recorder = training.evaluate(keras["weights"])
    except Exception:
        return False
    return any(call.active and call.rate > 0 for call in recorder.dropouts)


def _shape(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(sorted(n for n in shape if n != 1))


def _partner(call: Any, left: Sequence[Any]) -> Any:
    alike = [
        other for other in left
        if abs(other.rate - call["rate"]) < 1e-9 and "alpha" not in other.kind and _shape(other.shape) == _shape(call["shape"])
    ]  # fmt: skip
    if call["value"] is None or not alike:
        return alike[0] if alike else None
    if trivial(np.asarray(call["value"])):  # inside a cell: a mask is drawn for nothing but ones
        return None
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


def _fix(unmatched: Sequence[Any]) -> str:
    if unmatched and unmatched[0]["value"] is not None and trivial(np.asarray(unmatched[0]["value"])):
        rate = unmatched[0]["rate"]
        return (
            f"keras.layers.Dropout({rate:g}) between the layers, instead of dropout= or recurrent_dropout= inside one; "
            "nn.LSTM has none"
        )
    spatial = [
        call
        for call in unmatched
        if call["value"] is not None and tuple(call["shape"]) != tuple(np.shape(call["value"]))
    ]
    if spatial:
        return f"F.dropout1d(x.transpose(1, 2), {spatial[0]['rate']:g}, self.training).transpose(1, 2)  # whole features, as SpatialDropout1D"
    if unmatched:
        return f"nn.Dropout({unmatched[0]['rate']:g}) where Keras's Dropout layer stands, and nowhere else"
    return "no dropout there: Keras has none"


def _keras_words(calls: Sequence[Any]) -> str:
    return (
        "; ".join(dict.fromkeys(f"{c['rate']:g} of {'×'.join(map(str, c['shape'][1:]))}" for c in calls[:4]))
        or "nothing more"
    )


def _torch_words(calls: Sequence[Any]) -> str:
    return (
        "; ".join(dict.fromkeys(f"{c.rate:g} of {'×'.join(map(str, c.shape[1:]))}" for c in calls[:4]))
        or "nothing more"
    )
