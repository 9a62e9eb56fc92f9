"""Causes that show only with dropout at work; both sides then draw the same masks."""

from collections.abc import Iterator, Sequence
from typing import Any

from compare.explain.causes.candidates import Candidate, Context


def propose(context: Context) -> Iterator[Candidate]:
    """Propose why the two sides differ with dropout where they agree without."""
    keras, torch = context.keras["dropout_calls"], context.torch["dropout_calls"]
    active = [call for call in torch if call["active"]]
    if context.stage.phase == "evaluation":
        yield Candidate(
            "dropout-active",
            "F.dropout(x, p, training=self.training)  # or nn.Dropout, which knows",
            torch=({"change": "no_dropout_in_evaluation"},),
            priority=1,
            message="PyTorch drops in predictions too.",
        )
    if keras and not active:
        message = "PyTorch's dropout is not active while it trains."
        yield Candidate(
            "dropout-active",
            "module.train()  # before every training step",
            torch=({"change": "always_training"},),
            priority=1,
            message=message,
        )
        yield Candidate(
            "dropout-active",
            "F.dropout(x, p, training=self.training)",
            torch=tuple(_rates(keras, torch)),
            priority=2,
            message=message,
        )
    calls = zip(keras, torch, strict=True) if len(keras) == len(torch) else ()
    other = next(((ours["rate"], theirs["rate"]) for ours, theirs in calls if ours["rate"] != theirs["rate"]), None)
    if other is not None:
        yield Candidate(
            "dropout-rate",
            f"nn.Dropout({other[0]:g})",
            torch=tuple(_rates(keras, torch)),
            priority=1,
            figures={"keras": other[0], "torch": other[1]},
            message=f"Keras drops {other[0]:g}, PyTorch {other[1]:g}.",
        )
    if keras or active:
        ours, theirs = _locations(keras, context, "keras"), _locations(active, context, "torch")
        yield Candidate(
            "dropout-placement",
            _placement_fix(context),
            keras=({"change": "dropout_off"},),
            torch=({"change": "dropout_off"},),
            priority=3,
            figures={"keras": ours, "torch": theirs},
            message=f"Keras drops {ours}; PyTorch {theirs}.",
        )


def _rates(keras: Sequence[Any], torch: Sequence[Any]) -> list[dict[str, Any]]:
    return [
        {"change": "dropout_rate", "call": number, "rate": call["rate"]}
        for number, (call, _) in enumerate(zip(keras, torch, strict=False))
    ]


def _locations(calls: Sequence[Any], context: Context, side: str) -> str:
    names = {getattr(match, side)["key"]: match.name for match in context.matches}
    locations = []
    for call in calls:
        location = names.get(call["after"], "the inputs") if call["after"] else "the inputs"
        locations.append(f"{call['rate']:g} of {'×'.join(map(str, call['shape'][1:]))} at or after {location}")
    shown = list(dict.fromkeys(locations))
    return "; ".join(shown[:3]) if shown else "nowhere"


def _placement_fix(context: Context) -> str:
    inside = [m for m in context.matches if m.recurrent and (m.keras["dropout"] or m.keras["recurrent_dropout"])]
    if inside:
        rate = inside[0].keras["dropout"] or inside[0].keras["recurrent_dropout"]
        return f"keras.layers.Dropout({rate:g}) between the layers, instead of dropout= inside one, as nn.Dropout does"
    return "an nn.Dropout where Keras's Dropout layer stands, and nowhere else"
