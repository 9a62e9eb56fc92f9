"""Causes that show in the loss while the layers agree."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from compare.explain.causes.between import Between, recognise
from compare.explain.causes.candidates import Candidate, Context

LOGITS = ("CrossEntropyLoss", "BCEWithLogitsLoss", "cross_entropy", "binary_cross_entropy_with_logits")
PROBABILITIES = ("sigmoid", "softmax")

# Keras's name for what each PyTorch loss computes.
SAME_LOSS = {
    "MSELoss": "mean_squared_error", "mse_loss": "mean_squared_error", "L1Loss": "mean_absolute_error",
    "l1_loss": "mean_absolute_error", "HuberLoss": "huber", "huber_loss": "huber", "BCELoss": "binary_crossentropy",
    "SmoothL1Loss": "huber",
}  # fmt: skip
CLASSES = {
    "binary_crossentropy": "BinaryCrossentropy", "categorical_crossentropy": "CategoricalCrossentropy",
    "sparse_categorical_crossentropy": "SparseCategoricalCrossentropy",
}  # fmt: skip
MODULES = {
    "mean_squared_error": "nn.MSELoss()", "mean_absolute_error": "nn.L1Loss()", "huber": "nn.HuberLoss()",
    "binary_crossentropy": "nn.BCEWithLogitsLoss()", "categorical_crossentropy": "nn.CrossEntropyLoss()",
    "sparse_categorical_crossentropy": "nn.CrossEntropyLoss()",
}  # fmt: skip


def propose(context: Context) -> Iterator[Candidate]:
    """Propose what may make the loss differ."""
    keras, torch = context.keras, context.torch
    yield from _target(context)
    yield from _output(context)
    name = str(keras["loss"]["name"])
    if torch["loss"].get("weights"):
        for weight in torch["loss"]["weights"]:
            yield Candidate(
                "class-weights",
                f"nn.{torch['loss']['name']}()  # without {weight}, or class_weight in Keras too",
                torch=({"change": "loss_attribute", "name": weight, "value": None},),
                priority=1,
            )
    yield from _reduction(context)
    yield from penalties(context)
    same = SAME_LOSS.get(str(torch["loss"]["name"]))
    if name in MODULES and name != same:
        final = _final(context, context.keras_run, "keras")
        change: list[dict[str, Any]] = [
            {"change": "loss", "function": name, "arguments": keras["loss"]["arguments"]},
        ]
        if final is not None:
            change.append(_rewired_output(context, final))
        yield Candidate(
            "loss-function",
            MODULES[name],
            torch=tuple(change),
            priority=6,
            group="loss",
            figures={"keras": name, "torch": torch["loss"]["name"]},
            message=f"Keras has {name}, PyTorch {torch['loss']['name']}.",
        )
    elif name in MODULES and name == "huber":
        delta = keras["loss"]["arguments"].get("delta", 1.0)
        yield Candidate(
            "loss-function",
            f"nn.HuberLoss(delta={delta:g})",
            torch=({"change": "loss", "function": name, "arguments": keras["loss"]["arguments"]},),
            priority=4,
            group="loss",
        )


def _target(context: Context) -> Iterator[Candidate]:
    torch = context.torch
    predicted, wanted = torch["prediction_shape"], torch["target_shape"]
    if predicted and wanted and predicted != wanted and np.prod(predicted) == np.prod(wanted):
        yield Candidate(
            "loss-broadcast",
            "loss(prediction.squeeze(-1), y)" if len(predicted) > len(wanted) else "loss(prediction, y.squeeze(-1))",
            torch=({"change": "target_like_prediction"},),
            priority=1,
            figures={"prediction": predicted, "target": wanted},
            message=f"PyTorch's loss gets a prediction of shape {_shape(predicted)} and a target of {_shape(wanted)}.",
        )
    orders: list[Any] = [context.record(context.torch_run, name) for name in ("order", "target_order")]
    if not np.array_equal(*orders):
        yield Candidate(
            "batch-order",
            "loss(prediction, y)  # y in the order of x" if orders[0] is None else
            "prediction[order.argsort()]  # where x[order] is computed, or loss(prediction, y[order])",
            torch=({"change": "restore_order"}, {"change": "own_target"}),
            priority=1,
            message="PyTorch's loss gets the batch's "
            + ("predictions in another order than the targets." if orders[1] is None else "targets in another order."),
        )  # fmt: skip
    target = context.record(context.torch_run, "loss_target")
    if target is not None and target.size == context.targets.size:
        used = target.reshape(context.targets.shape)
        wanted = context.targets if orders[1] is None else context.targets[orders[1]]
        if not np.allclose(used, wanted, rtol=1e-6, atol=1e-7):
            fitted = recognise(wanted.astype(np.float64), used.astype(np.float64))
            scaled = fitted is not None and fitted.function == "affine" and used.dtype.kind == "f"
            yield Candidate(
                "scaling" if scaled else "target-shift",
                "scale in data(), once for both sides" if scaled else "loss(prediction, y)  # y as data() gives it",
                torch=({"change": "own_target"},),
                priority=1,
                message=f"PyTorch's targets are {fitted.description} of Keras's." if scaled and fitted else
                "PyTorch's loss gets other targets than data() gave.",
            )  # fmt: skip


def _shape(sizes: Any) -> str:
    return "(" + ", ".join(map(str, sizes)) + ("," if len(sizes) == 1 else "") + ")"


def _last_group(context: Context) -> list[Any]:
    last = context.matches[-1]
    return [match for match in context.matches if match.group == last.group]


def _final(context: Context, run: Any, side: str) -> Between | None:
    """What stands between the last layer and the prediction."""
    after = context.record(run, "prediction")
    before = context.outputs(run, side, _last_group(context))
    if after is None or before is None:
        return None
    if after.size == before.size:
        after = after.reshape(before.shape)
    return recognise(before, after, len(_last_group(context)))


def _rewired_output(context: Context, between: Between) -> dict[str, Any]:
    sources = [match.torch["key"] for match in _last_group(context)]
    return {"change": "rewire", "key": "prediction", "sources": sources, **between.as_change()}


def _output(context: Context) -> Iterator[Candidate]:
    keras = _final(context, context.keras_run, "keras")
    torch = _final(context, context.torch_run, "torch")
    name = str(context.torch["loss"]["name"])
    loss = context.keras["loss"]
    if torch is not None and torch.function in PROBABILITIES and name in LOGITS:
        yield Candidate(
            "from-logits",
            f"return the logits from forward(); {name} applies the {torch.function} itself",
            torch=(_rewired_output(context, Between(torch.select, "identity")),),
            priority=1,
            message=f"PyTorch's {name} gets what has been through a {torch.function} already.",
        )
    if keras is not None and "crossentropy" in str(loss["name"]):
        logits = bool(loss["arguments"].get("from_logits", False))
        if logits == (keras.function in PROBABILITIES):
            yield Candidate(
                "from-logits",
                f"keras.losses.{CLASSES.get(str(loss['name']), '…')}(from_logits={not logits})",
                keras=({"change": "from_logits", "value": not logits},),
                priority=1,
                message=f"Keras's loss takes {'logits' if logits else 'probabilities'}, and gets the other.",
            )
    if keras is not None and torch is not None and keras != torch:
        cause = "activation" if keras.select == torch.select else "last-step"
        yield Candidate(
            cause,
            f"F.{keras.function}(x) at the end of forward()" if keras.function != "identity" else
            f"no {torch.function} at the end of forward()",
            torch=(_rewired_output(context, keras),),
            priority=3,
            figures={"keras": keras.description, "torch": torch.description},
            message=f"After the last layer Keras computes {keras.description}, PyTorch {torch.description}.",
        )  # fmt: skip


def _reduction(context: Context) -> Iterator[Candidate]:
    torch = context.torch
    message = f"PyTorch's loss is {context.finding.ratio:.4g} times Keras's." if context.finding.ratio else ""
    if torch["loss"].get("reduction") not in (None, "mean"):
        yield Candidate(
            "loss-reduction",
            f"nn.{torch['loss']['name']}(reduction='mean')",
            torch=({"change": "loss_attribute", "name": "reduction", "value": "mean"},),
            priority=1,
            message=message,
        )
        return
    x, y = context.inputs, context.targets
    sizes = {"batch": len(y), "elements": int(np.prod(torch["prediction_shape"] or [1]))}
    if x.ndim > 1:
        sizes["steps"] = x.shape[1]
    for by, size in sizes.items():
        if size > 1 and context.finding.ratio and np.isclose(context.finding.ratio, size, rtol=1e-3):
            yield Candidate(
                "loss-reduction",
                "loss.mean() instead of loss.sum()",
                torch=({"change": "loss_divisor", "by": by},),
                priority=2,
                group="reduction",
                message=message,
            )


def penalties(context: Context) -> Iterator[Candidate]:
    """Propose that one side penalises the weights."""
    coefficients = {}
    penalised: dict[str, float] = {}
    for match in context.matches:
        for name, penalty in match.keras["penalties"].items():
            if penalty["l2"] and not penalty["l1"]:
                coefficients[f"{match.torch['key']}/{name}"] = penalty["l2"]
                penalised.setdefault(match.torch["parameters"][name][0], penalty["l2"])
    if penalised:
        parameter, coefficient = next(iter(penalised.items()))
        message = f"Keras adds {coefficient:g}·Σw² to the loss; its gradient is {2 * coefficient:g}·w."
        decays, rule = context.torch["decays"], context.torch["rule"]
        coupled = rule is not None and rule["coupled_decay"]
        if coupled and all(np.isclose(decays.get(name, 0.0), 2 * by) for name, by in penalised.items()):
            message += f" weight_decay={2 * coefficient:g} makes the same updates: only the loss lacks it."
        yield Candidate(
            "l2-penalty",
            f"loss = loss + {coefficient:g} * module.{parameter}.square().sum()  # and no weight_decay",
            torch=({"change": "penalty", "coefficients": coefficients},),
            priority=2,
            figures={"l2": coefficient, "weight_decay": max(decays.values(), default=0.0)},
            message=message,
        )
