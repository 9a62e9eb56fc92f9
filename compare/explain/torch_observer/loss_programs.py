"""What may have been meant in the loss: targets, reduction, function, logits or probabilities, weights."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from compare.explain.torch_observer.programs import Context, Program, nth, repeated, simple, with_tensor
from compare.explain.torch_observer.recorder import Argument, Operation, Recorder

EPSILON = 1e-7  # keras.config.epsilon(), to which its losses clip probabilities
LOSSES: dict[str, Any] = {
    "mse_loss": F.mse_loss,
    "l1_loss": F.l1_loss,
    "smooth_l1_loss": F.smooth_l1_loss,
    "huber_loss": F.huber_loss,
    "cross_entropy": F.cross_entropy,
    "cross_entropy_loss": F.cross_entropy,
    "nll_loss": F.nll_loss,
    "binary_cross_entropy_with_logits": F.binary_cross_entropy_with_logits,
    "binary_cross_entropy": F.binary_cross_entropy,
    "kl_div": F.kl_div,
    "soft_margin_loss": F.soft_margin_loss,
    "poisson_nll_loss": F.poisson_nll_loss,
}
MODULES = {
    "mse_loss": "nn.MSELoss()",
    "l1_loss": "nn.L1Loss()",
    "smooth_l1_loss": "nn.SmoothL1Loss()",
    "huber_loss": "nn.HuberLoss()",
    "cross_entropy": "nn.CrossEntropyLoss()",
    "nll_loss": "nn.NLLLoss()",
    "kl_div": "nn.KLDivLoss()",
    "binary_cross_entropy_with_logits": "nn.BCEWithLogitsLoss()",
    "binary_cross_entropy": "nn.BCELoss()",
}


def in_loss(operations: Any, operation: Operation) -> bool:
    """Whether an operation is computed from the targets."""
    seen: set[Any] = set()
    waiting = list(operation.inputs)
    while waiting:
        key = waiting.pop()
        if key in seen:
            continue
        seen.add(key)
        if isinstance(key[0], str) and (key[0] == "y" or key[0].startswith("y[")):
            return True
        if isinstance(key[0], int):
            waiting += operations[key[0]].inputs
    return False


def propose(context: Context) -> Iterator[Program]:
    """Everything that may have been meant at an operation of the loss."""
    operation = context.operation
    if operation.name in LOSSES and len(context.tensors) >= 2:
        yield from _targets(context)
        yield from _options(context)
        yield from _functions(context)
        yield from _orders(context)
    if operation.outputs[0].size == 1 or operation.name in LOSSES:
        yield from _sizes(context)
    yield from _given(context)
    yield from _broadcast(context)


def _targets(context: Context) -> Iterator[Program]:
    predicted, wanted = context.tensors[0].shape, context.tensors[1].shape
    if predicted != wanted and np.prod(predicted) == np.prod(wanted):
        code = "loss(prediction.squeeze(-1), y)" if len(predicted) > len(wanted) else "loss(prediction, y.squeeze(-1))"
        yield context.put(
            "loss-broadcast",
            code,
            simple(lambda o, a, k, r: o.function(a[0], a[1].reshape(a[0].shape), *a[2:], **k)),
            cost=0,
        )


def _orders(context: Context) -> Iterator[Program]:
    """The targets in an order of rows that is made in the step."""
    count = context.tensors[1].shape[0] if context.tensors[1].shape else 0
    for operation in context.operations:
        for output, value in enumerate(operation.outputs):
            if (
                value.dtype.kind == "i"
                and value.shape == (count,)
                and count > 1
                and np.array_equal(np.sort(value), np.arange(count))
            ):

                def ordered(
                    recorder: Recorder,
                    o: Operation,
                    args: Any,
                    options: Any,
                    result: Any,
                    key: Any = (operation.number, output),
                ) -> Any:
                    return o.function(args[0], args[1][recorder.live[key]], *args[2:], **options)

                code = "prediction[order.argsort()]  # where x[order] is computed, or loss(prediction, y[order])"
                yield context.put("batch-order", code, ordered, cost=0)


def _broadcast(context: Context) -> Iterator[Program]:
    """A difference of prediction and target by hand that broadcasts."""
    tensors = context.tensors
    if (
        context.operation.name in ("sub", "__sub__", "mul", "__mul__")
        and len(tensors) == 2
        and tensors[0].shape != tensors[1].shape
        and np.prod(tensors[0].shape) == np.prod(tensors[1].shape)
    ):
        yield context.put(
            "loss-broadcast",
            "(prediction - y.view_as(prediction))",
            simple(lambda o, a, k, r: o.function(a[0], a[1].reshape(a[0].shape))),
            onward=True,
        )


def _options(context: Context) -> Iterator[Program]:
    operation = context.operation
    for reduction in ("mean", "sum"):
        code = f"reduction={reduction!r}"
        yield context.put(
            "loss-reduction",
            code,
            simple(lambda o, a, k, r, w=reduction: LOSSES[o.name](*a[:2], **{**_options_of(k), "reduction": w})),
        )
    if (
        operation.options.get("weight") is not None
        or operation.options.get("pos_weight") is not None
        or len(context.tensors) > 2
    ):
        for reduction in ("mean", "sum"):
            yield context.put(
                "class-weights",
                "the loss without weights, or class_weight in Keras too",
                simple(lambda o, a, k, r, w=reduction: LOSSES[o.name](*a[:2], reduction=w)),
                cost=0,
            )
    delta = (context.keras["loss"]["arguments"] or {}).get("delta")
    if delta is not None or operation.name in ("huber_loss", "smooth_l1_loss"):
        value = 1.0 if delta is None else float(delta)
        yield context.put(
            "loss-function",
            f"nn.HuberLoss(delta={value:g})",
            simple(lambda o, a, k, r, d=value: F.huber_loss(a[0], a[1], delta=d)),
        )
    if operation.options.get("label_smoothing"):
        yield context.put(
            "loss-function",
            "nn.CrossEntropyLoss()  # without label_smoothing",
            simple(lambda o, a, k, r: o.function(*a[:2], **{**k, "label_smoothing": 0.0})),
        )


def _options_of(options: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in options.items()
        if name in ("weight", "pos_weight", "beta", "delta", "ignore_index", "label_smoothing") and value is not None
    }


def _functions(context: Context) -> Iterator[Program]:
    operation = context.operation
    for name, function in LOSSES.items():
        if name in MODULES and name != operation.name:
            cause, code = "loss-function", MODULES[name]
            if (operation.name, name) == ("binary_cross_entropy_with_logits", "binary_cross_entropy"):
                cause, code = (
                    "from-logits",
                    "return the logits from forward(); BCEWithLogitsLoss applies the sigmoid itself",
                )
            if (operation.name, name) == ("binary_cross_entropy", "binary_cross_entropy_with_logits"):
                cause = "from-logits"
            yield context.put(cause, code, simple(lambda o, a, k, r, f=function: f(a[0], a[1])), cost=2)
    if operation.name in ("cross_entropy", "cross_entropy_loss"):
        code = "return the logits from forward(); CrossEntropyLoss applies the softmax itself"
        yield context.put(
            "from-logits", code, simple(lambda o, a, k, r: F.nll_loss(torch.log(a[0].clamp(min=EPSILON)), a[1])), cost=1
        )
    code = "nn.NLLLoss() on torch.log of the probabilities, or CrossEntropyLoss on the logits"
    yield context.put("from-logits", code, simple(lambda o, a, k, r: F.nll_loss(torch.log(a[0]), a[1])), cost=2)
    for keras, function in (
        ("False", _softmax_loss),
        ("True", _probability_loss),
        ("True", _probability_loss_on_tensorflow),
    ):
        code = f"from_logits={keras} in Keras's loss"
        yield context.put("from-logits", code, simple(lambda o, a, k, r, f=function: f(a[0], a[1])), cost=3)


def _softmax_loss(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(torch.softmax(prediction, 1), target)


def _probability_loss(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """What Keras computes of numbers that it takes for probabilities."""
    if prediction.shape == target.shape:
        p = prediction.clamp(EPSILON, 1 - EPSILON)
        return F.binary_cross_entropy(p, target)
    p = prediction / prediction.sum(1, keepdim=True)
    return F.nll_loss(torch.log(p.clamp(EPSILON, 1 - EPSILON)), target)


def _probability_loss_on_tensorflow(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """There numbers that are no probabilities are clipped first, and made to sum to one afterwards."""
    return F.cross_entropy(torch.log(prediction.clamp(EPSILON, 1 - EPSILON)), target)


class AtTheLoss:
    """Multiplies the loss as a whole; where the user's loss has several operations it stands behind the last."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def __call__(self, recorder: Recorder, operation: Any, args: Any, options: Any, result: Any) -> Any:
        return result * self.factor


def _sizes(context: Context) -> Iterator[Program]:
    """The loss divided by the size of an axis, or multiplied with it: a sum for a mean."""
    sizes: dict[int, str] = {}
    for key, tensor in context.training.current.recorder.live.items():
        if isinstance(key[0], str) and key[0][:1] in "xy" and (len(key[0]) == 1 or key[0][1] == "["):
            for axis, length in enumerate(tensor.shape):
                if length > 1:
                    sizes.setdefault(int(length), "batch" if axis == 0 else "timesteps" if axis == 1 else "features")
            sizes.setdefault(int(tensor.numel()), "elements")
            if tensor.dim() > 1:
                sizes.setdefault(int(tensor.shape[0] * tensor.shape[1]), "batch and timesteps")
    for size, word in sizes.items():
        if size > 1:
            patches: dict[Any, Any] = {"loss": AtTheLoss(1 / size)}
            code = "loss.mean() instead of loss.sum()" if word in ("batch", "elements") else f"loss / {size}"
            yield Program(
                "loss-reduction",
                f"{code}  # the number of {word}",
                patches,
                3,
                operation=context.operation,
                onward=True,
            )
            yield Program(
                "loss-reduction",
                f"loss * {size}  # the number of {word}",
                {"loss": AtTheLoss(float(size))},
                3,
                operation=context.operation,
                onward=True,
            )


def _given(context: Context) -> Iterator[Program]:
    """Another target or input than data() gave: what is given in its place."""
    drawn: dict[Any, Any] = {}
    own = {key: tensor for key, tensor in context.training.current.recorder.live.items() if key[0] in ("x", "y")}
    foreign: set[int] = set()
    for operation in context.operations:
        if all(key[0] is None or key[0] in foreign for key in operation.inputs):
            foreign.add(operation.number)
            for key, tensor in own.items():
                if tuple(tensor.shape) == operation.outputs[0].shape:
                    drawn.setdefault(operation.number, _Given(key))
    if drawn and context.operation.number in foreign:
        code = "module(x) and loss(prediction, y) in torch_step(), with the x and y that it is given"
        yield Program("batch-order", code, drawn, 0, operation=context.operation, onward=True)
    for place, value in enumerate(context.tensors):
        if value.key[0] is not None and not isinstance(value.key[0], int):
            continue
        for key, tensor in context.training.current.recorder.live.items():
            if not (isinstance(key[0], str) and (key[0] in ("x", "y") or key[0][:2] in ("x[", "y["))):
                continue
            if (
                tensor.numel() != int(np.prod(value.shape))
                or tensor.is_floating_point() != value.dtype.is_floating_point
            ):
                continue
            cause = _data_cause(context, value, tensor, key[0][0])
            yield context.put(cause, f"{key[0]} as data() gives it", _Leaf(place, key), cost=2)


class _Given:
    """Puts a batch's own tensor in the place of a result."""

    def __init__(self, key: Any) -> None:
        self.key = key

    def __call__(self, recorder: Recorder, operation: Operation, args: Any, options: Any, result: Any) -> Any:
        return recorder.live[self.key].to(result.dtype)


class _Leaf:
    """Puts a batch's own tensor in the place of an argument."""

    def __init__(self, place: int, key: Any) -> None:
        self.place, self.key = place, key

    def __call__(self, recorder: Recorder, operation: Operation, args: Any, options: Any, result: Any) -> Any:
        old = nth(args, options, self.place)
        new = recorder.live[self.key].reshape(old.shape).to(old.dtype)
        return repeated(operation, *with_tensor(args, options, self.place, new))


def _data_cause(context: Context, value: Argument, tensor: torch.Tensor, leaf: str) -> str:
    """What is done to the data where PyTorch's differ: another order of rows, a scale, a shift."""
    maker = context.maker(value.key)
    obtained = maker.outputs[value.key[1]] if maker is not None else None
    own = tensor.detach().numpy()
    if obtained is None:
        return "batch-order"
    rows = {row.tobytes() for row in own.astype(obtained.dtype)}
    if obtained.shape == own.shape and all(row.tobytes() in rows for row in obtained):
        return "batch-order"
    if obtained.shape == own.shape and obtained.dtype.kind == "f" and _affine(own, obtained):
        return "scaling"
    return "target-shift" if leaf == "y" else "window-offset"


def _affine(own: np.ndarray, obtained: np.ndarray) -> bool:
    """Whether every feature is scaled and moved."""
    a, b = own.reshape(-1, own.shape[-1]).astype(float), obtained.reshape(-1, own.shape[-1]).astype(float)
    for x, y in zip(a.T, b.T, strict=True):
        if np.ptp(x) == 0:
            continue
        slope, shift = np.polyfit(x, y, 1)
        if np.abs(slope * x + shift - y).max() > 1e-4 * max(np.abs(y).max(), 1e-6):
            return False
    return True
