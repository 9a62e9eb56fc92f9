"""Causes that show in what the layers give: recurrent layers, what is between layers, normalisation, dropout."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from compare.explain.causes.between import Between, of_windows, recognise
from compare.explain.causes.candidates import Candidate, Context

BATCH_AND_TIME = 2

# How each framework is told to compute products of float32 in float32.
TF32_FIXES = {
    "torch": 'torch.set_float32_matmul_precision("highest"); torch.backends.cudnn.allow_tf32 = False',
    "tensorflow": "tf.config.experimental.enable_tensor_float_32_execution(False)",
    "jax": 'jax.config.update("jax_default_matmul_precision", "highest")',
}


def propose(context: Context) -> Iterator[Candidate]:
    """Propose what may make a layer's inputs or outputs differ."""
    finding = context.finding
    index = next(i for i, match in enumerate(context.matches) if match is finding.match)
    nearby = [finding.match, *context.group_before(index)]
    for match in [match for match in nearby if match.recurrent]:
        yield from _recurrent(context, match)
    if finding.what == "in":
        yield from _between(context, index)
    if finding.match.kind.endswith("normalization"):
        yield from _normalisation(context, finding.match)
    yield from exchanged_layers(context)
    yield from _modes(context)
    yield from _numerics(context, finding.match)


def _recurrent(context: Context, match: Any) -> Iterator[Candidate]:
    keras, torch = match.keras, match.torch
    path = torch["path"]
    module = f"module.{path}"
    if torch["batch_first"] is not None:
        wanted = not torch["batch_first"]
        yield Candidate(
            "batch-first",
            f"{_constructor(torch)}(…, batch_first={wanted})  # {module}",
            torch=({"change": "batch_first", "path": path, "value": wanted},),
            priority=2,
            group=f"axes {path}",
            figures={"batch_first": torch["batch_first"]},
        )
    if path in context.torch["nonzero_states"]:
        yield Candidate(
            "initial-state",
            f"{path}(x)  # without a state: both frameworks then start from zeros",
            torch=({"change": "zero_state", "path": path},),
            priority=3 if context.step == 0 else 4,
        )
    if context.step > 0 or context.stage.phase == "evaluation":
        yield Candidate(
            "stateful-reset",
            "self.hidden = None  # at the start of every batch, or stateful=True in the Keras layer",
            torch=({"change": "reset_state"},),
            keras=({"change": "reset_state"},) if keras["stateful"] else (),
            priority=2,
        )
    if not torch["cell"] or keras["activation"] != torch["activation"]:
        yield from _activations(keras, torch, match)
    if match.kind == "gru" and not keras["reset_after"] and not torch["cell"]:
        yield Candidate(
            "gru-reset-after",
            "keras.layers.GRU(…, reset_after=True)  # the only form that nn.GRU has",
            torch=({"change": "reset_before", "path": path},),
            priority=2,
        )
    if match.keras["key"] in context.keras["masks"]:
        yield from _masks(context, match)


def _constructor(torch: Any) -> str:
    return {"simple_rnn": "nn.RNN", "lstm": "nn.LSTM", "gru": "nn.GRU"}[torch["kind"]]


def _activations(keras: Any, torch: Any, match: Any) -> Iterator[Candidate]:
    if keras["activation"] != torch["activation"]:
        yield Candidate(
            "activation",
            f"keras.layers.{match.keras['key']}: activation={torch['activation']!r}  # what PyTorch's layer computes",
            keras=(
                {"change": "activation", "key": keras["key"], "attribute": "activation", "name": torch["activation"]},
            ),
            priority=1,
            figures={"keras": keras["activation"], "torch": torch["activation"]},
            message=f"Keras's layer has {keras['activation']}, PyTorch's {torch['activation']}.",
        )
    if keras["recurrent_activation"] not in (None, "sigmoid"):
        yield Candidate(
            "recurrent-activation",
            f"keras.layers.{match.keras['key']}: recurrent_activation='sigmoid'  # PyTorch's gates have no other",
            keras=(
                {"change": "activation", "key": keras["key"], "attribute": "recurrent_activation", "name": "sigmoid"},
            ),
            priority=1,
            figures={"keras": keras["recurrent_activation"], "torch": "sigmoid"},
            message=f"Keras's gates have {keras['recurrent_activation']}, PyTorch's sigmoid.",
        )


def _masks(context: Context, match: Any) -> Iterator[Candidate]:
    path = match.torch["path"]
    last = () if match.keras["return_sequences"] else ({"change": "return_last", "path": path},)
    mask = context.record(context.keras_run, f"mask/{match.keras['key']}")
    left_padded = mask is not None and mask.ndim == BATCH_AND_TIME and bool((~mask.astype(bool)[:, 0]).any())
    if path in context.torch["packed"]:
        yield Candidate(
            "padding-side",
            "x = keras.utils.pad_sequences(x, padding='post')  # packed sequences take the padding at the end alone",
            torch=({"change": "masked", "path": path}, *last),
            priority=1,
            message="Keras's mask leaves out padding at the start." if left_padded else "",
        )
    else:
        yield Candidate(
            "missing-mask",
            "x = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)"
            f"  # before {path}; and take the last state, not the last output",
            torch=({"change": "masked", "path": path}, *last),
            priority=1,
        )


def _between(context: Context, index: int) -> Iterator[Candidate]:
    match = context.matches[index]
    group = context.group_before(index)
    theirs, ours = (
        context.record(run, f"in/{side['key']}")
        for run, side in ((context.torch_run, match.torch), (context.keras_run, match.keras))
    )
    if theirs is None or ours is None:
        return
    if not group:
        yield from _before_first(context, match, ours, theirs)
        return
    for before in {each.torch["path"]: each for each in group if each.recurrent and not each.torch["cell"]}.values():
        if not before.keras["return_sequences"]:
            two = len(group) == 2
            yield Candidate(
                "backward-last-state" if two else "last-step",
                _last_fix(two),
                torch=({"change": "return_last", "path": before.torch["path"]},),
                priority=6,
                group=f"between {index}",
            )
    keras = _recognised(context, context.keras_run, "keras", group, ours)
    torch = _recognised(context, context.torch_run, "torch", group, theirs)
    if keras is None or torch is None or keras == torch:
        return
    yield from _exchanged(context, index, keras, torch)
    cause = _cause_between(keras, torch)
    yield Candidate(
        cause,
        _fix_between(cause, keras, match),
        torch=(_rewire(match.torch["key"], group, keras),),
        priority=1,
        group=f"between {index}",
        figures={"keras": f"{keras.select}: {keras.description}", "torch": f"{torch.select}: {torch.description}"},
        message=_message_between(keras, torch),
    )


def _exchanged(context: Context, index: int, keras: Between, torch: Between) -> Iterator[Candidate]:
    """Propose that an activation stands before a layer on one side and behind it on the other."""
    here = context.matches[index]
    following = next((i for i, match in enumerate(context.matches) if i > index and match.group != here.group), None)
    if following is None:
        return
    target = context.matches[following]
    group = context.group_before(following)
    afters = [
        context.record(run, f"in/{side['key']}")
        for run, side in ((context.keras_run, target.keras), (context.torch_run, target.torch))
    ]
    if afters[0] is None or afters[1] is None:
        return
    ours = _recognised(context, context.keras_run, "keras", group, afters[0])
    theirs = _recognised(context, context.torch_run, "torch", group, afters[1])
    if ours is None or theirs is None:
        return
    if (keras.function, ours.function) == (theirs.function, torch.function):
        before, sources = context.group_before(index), group
        yield Candidate(
            "layer-order",
            f"in forward(): module.{here.torch['path']} {'after' if torch.function == 'identity' else 'before'} "
            f"{torch.description if keras.function == 'identity' else keras.description}",
            torch=(_rewire(here.torch["key"], before, keras), _rewire(target.torch["key"], sources, ours)),
            priority=0,
            group=f"between {index}",
            message=f"Keras computes {keras.description} before {here.name} and {ours.description} behind it, "
            f"PyTorch {torch.description} and {theirs.description}.",
        )


def exchanged_layers(context: Context) -> Iterator[Candidate]:
    """Propose that two layers are called in the other order."""
    order = {part["key"]: number for number, part in enumerate(context.torch["parts"])}
    flat = [match for match in context.matches if not match.recurrent]
    for first, second in itertools.pairwise(flat):
        if order[first.torch["key"]] > order[second.torch["key"]]:
            paths = [first.torch["path"], second.torch["path"]]
            yield Candidate(
                "layer-order",
                f"in forward(): module.{paths[0]} before module.{paths[1]}",
                torch=({"change": "exchange", "paths": paths},),
                priority=0,
            )


def _recognised(context: Context, run: Any, side: str, group: Any, after: np.ndarray) -> Between | None:
    before = context.outputs(run, side, group)
    return None if before is None else recognise(before, after, len(group))


def _rewire(key: str, group: Any, between: Between) -> dict[str, Any]:
    sources = [match.torch["key"] for match in group] if group else ["inputs"]
    return {"change": "rewire", "key": key, "sources": sources, **between.as_change()}


def _cause_between(keras: Between, torch: Between) -> str:
    if keras.select == torch.select:
        return "activation"
    merges = ("swapped", "summed", "averaged", "multiplied")
    merge = [next((word for word in merges if word in between.select), "") for between in (keras, torch)]
    if merge[0] != merge[1] or ("state" in torch.select and keras.select.startswith("last states")):
        return "bidirectional-merge"
    if keras.select.startswith("last states") and torch.select in ("last", f"last outputs {merge[0]}"):
        return "backward-last-state"
    return "last-step"


def _last_fix(two: bool) -> str:
    if two:
        return "torch.cat([h_n[-2], h_n[-1]], dim=1)  # the last states, instead of out[:, -1]"
    return "out[:, -1]  # with batch_first=True; h_n[-1] is the same"


def _fix_between(cause: str, keras: Between, match: Any) -> str:
    if cause == "activation":
        name = {"leaky_relu": f"leaky_relu(x, {keras.arguments.get('slope', 0.2):g})", "identity": "x"}
        written = name.get(keras.function, f"{keras.function}(x)")
        return f"F.{written}  # before module.{match.torch['path']}" if written != "x" else "no activation there"
    if cause == "bidirectional-merge":
        joined = {
            "summed": "h_n[-2] + h_n[-1]", "averaged": "(h_n[-2] + h_n[-1]) / 2", "multiplied": "h_n[-2] * h_n[-1]",
        }  # fmt: skip
        return next(
            (text for word, text in joined.items() if word in keras.select), "torch.cat([h_n[-2], h_n[-1]], dim=1)"
        )
    return _last_fix(cause == "backward-last-state")


def _message_between(keras: Between, torch: Between) -> str:
    if keras.select != torch.select:
        return f"Keras passes on {keras.select!r} of the timesteps and directions, PyTorch {torch.select!r}."
    return f"Between the layers Keras computes {keras.description}, PyTorch {torch.description}."


def _before_first(context: Context, match: Any, ours: np.ndarray, theirs: np.ndarray) -> Iterator[Candidate]:
    change = _rewire(match.torch["key"], [], Between("all", "identity"))
    windows = of_windows(ours, theirs)
    if windows is not None:
        yield Candidate(
            "window-offset",
            "the same window on both sides: leave x as data() gives it",
            torch=(change,),
            priority=1,
            group="inputs",
            figures={"torch": windows},
            message=f"PyTorch's first layer gets the window {windows}.",
        )
    known = {row.tobytes() for row in context.all_inputs.astype(theirs.dtype)}
    if len(theirs) and all(row.tobytes() in known for row in theirs):
        yield Candidate(
            "batch-order",
            "module(x) and loss(prediction, y) in torch_step(), with the x and y that it is given",
            torch=(change, {"change": "own_target"}),
            priority=1,
            group="inputs",
            message="PyTorch's first layer gets other windows of data() than this batch's.",
        )
    if ours.shape == theirs.shape:
        fitted = recognise(ours, theirs)
        per_feature = _per_feature(ours, theirs)
        if (fitted is not None and fitted.function == "affine") or per_feature:
            message = (
                f"PyTorch's first layer gets {fitted.description} of Keras's x." if fitted is not None else per_feature
            )
            yield Candidate(
                "scaling",
                "scale in data(), once for both sides",
                torch=(change,),
                priority=1,
                group="inputs",
                figures={} if fitted is None else fitted.arguments,
                message=message,
            )


def _per_feature(ours: np.ndarray, theirs: np.ndarray) -> str:
    fits = [recognise(ours[..., i], theirs[..., i]) for i in range(ours.shape[-1])]
    if all(fit is not None and fit.function in ("affine", "identity") for fit in fits):
        return "PyTorch's first layer gets every feature scaled and moved."
    means = [recognise(a, b) for a, b in zip(ours, theirs, strict=True)]
    if all(fit is not None and fit.function in ("affine", "identity") for fit in means):
        return "PyTorch's first layer gets every window scaled and moved by itself."
    return ""


def _normalisation(context: Context, match: Any) -> Iterator[Candidate]:
    keras, torch = match.keras, match.torch
    if not np.isclose(keras["epsilon"], torch["epsilon"], rtol=1e-3):
        name = "nn.LayerNorm" if match.kind.startswith("layer") else "nn.BatchNorm1d"
        yield Candidate(
            "normalization-epsilon",
            f"{name}(…, eps={keras['epsilon']:g})  # module.{torch['path']}",
            torch=({"change": "epsilon", "path": torch["path"], "value": keras["epsilon"]},),
            priority=1,
            figures={"keras": keras["epsilon"], "torch": torch["epsilon"]},
            message=f"epsilon is {keras['epsilon']:g} in Keras and {torch['epsilon']:g} in PyTorch.",
        )
    yield from normalisation_momentum(match)


def normalisation_momentum(match: Any) -> Iterator[Candidate]:
    """Propose that running statistics are kept otherwise."""
    keras, torch = match.keras, match.torch
    if match.kind == "batch_normalization" and torch["momentum"] is not None:
        old = 1 - torch["momentum"]
        yield Candidate(
            "normalization-momentum",
            f"nn.BatchNorm1d(…, momentum={1 - keras['momentum']:g})  # module.{torch['path']}",
            torch=({"change": "running_statistics", "path": torch["path"], "momentum": keras["momentum"]},),
            priority=1,
            figures={"keras": keras["momentum"], "torch": round(old, 6)},
            message=f"Keras keeps {keras['momentum']:g} of the old statistics, PyTorch {old:g}; "
            "besides, PyTorch's running variance is the unbiased one.",
        )


def _modes(context: Context) -> Iterator[Candidate]:
    normalised = any(match.kind == "batch_normalization" for match in context.matches)
    has_dropout = bool(context.torch["dropout_calls"] or context.keras["dropout_calls"])
    if normalised or has_dropout:
        yield Candidate(
            "train-eval-mode" if normalised else "dropout-active",
            "module.train()  # before every training step",
            torch=({"change": "always_training"},),
            priority=1,
        )


def _numerics(context: Context, match: Any) -> Iterator[Candidate]:
    if context.torch.get("autocast"):
        yield Candidate(
            "reduced-precision",
            "no torch.autocast, or keras.mixed_precision.set_global_policy('mixed_bfloat16') in Keras too",
            torch=({"change": "no_autocast"},),
            priority=2,
        )
    if context.torch["tf32"] or context.keras["tf32"]:
        # On whichever side the flags are: exact products are the same on both.
        yield Candidate(
            "tf32",
            TF32_FIXES["torch" if context.torch["tf32"] else context.keras["backend"]],
            torch=({"change": "no_tf32"},) if context.torch["tf32"] else (),
            keras=({"change": "no_tf32"},) if context.keras["tf32"] else (),
            priority=2,
        )
    if match.recurrent and not match.torch["cell"]:
        yield Candidate(
            "kernel-fallback",
            "torch.backends.cudnn.enabled = False  # or report the kernel as a bug",
            torch=({"change": "step_by_step", "path": match.torch["path"]},),
            priority=9,
        )
