"""Edits of the loss: another function, another reduction, logits or probabilities, penalties."""

import ast
import re
from collections.abc import Iterator

from compare.explain.fixes.expression_edits import expression_edits
from compare.explain.fixes.pair_source import Edit, PairSource, called
from compare.explain.fixes.request import Request

LOSS_MODULES = (
    "MSELoss",
    "L1Loss",
    "SmoothL1Loss",
    "HuberLoss",
    "CrossEntropyLoss",
    "NLLLoss",
    "KLDivLoss",
    "BCEWithLogitsLoss",
    "BCELoss",
    "PoissonNLLLoss",
)
LOSS_FUNCTIONS = (
    "mse_loss",
    "l1_loss",
    "smooth_l1_loss",
    "huber_loss",
    "cross_entropy",
    "nll_loss",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
)
SQUASHING = ("softmax", "log_softmax", "sigmoid", "logsigmoid")
SQUASHING_MODULES = ("Softmax", "LogSoftmax", "Sigmoid")
KERAS_LOSSES = {
    "sparse_categorical_crossentropy": "SparseCategoricalCrossentropy",
    "categorical_crossentropy": "CategoricalCrossentropy",
    "binary_crossentropy": "BinaryCrossentropy",
}


def loss_edits(request: Request) -> Iterator[Edit | None]:
    """What is computed of prediction and target."""
    code, source = request.code, request.source
    option = re.fullmatch(r"(\w+)='?(\w+)'?", code)
    made = source.calls(LOSS_MODULES)
    if option and option[1] == "reduction":
        for call in made or source.calls(LOSS_FUNCTIONS):
            yield request.edit(code, *source.with_keyword(call, "reduction", f'"{option[2]}"'))
    elif re.fullmatch(r"(torch\.)?nn\.\w+\(.*\)", code):
        if len(made) == 1:
            yield request.edit(f"{source.plain(made[0])} → {code}", source.replaced(made[0], code))
        returned = source.returned()
        if returned is not None:
            yield request.edit(f"the loss is {code}", source.replaced(returned.loss, code))
    elif scale := re.fullmatch(r"loss ([/*]) (\d+)", code):
        told = f"the loss {'divided by' if scale[1] == '/' else 'multiplied by'} {scale[2]}"
        yield request.wrapped_loss(f"loss(prediction, target, *rest) {scale[1]} {scale[2]}", told)
    elif "instead of" in code:
        yield from _reductions(request)
    yield from expression_edits(request)
    size = re.search(r"loss\.mean\(\) instead of loss\.sum\(\)", code)
    if size:
        yield request.wrapped_loss("loss(prediction, target, *rest) / len(target)", "the loss divided by the batch")


def _reductions(request: Request) -> Iterator[Edit]:
    """`.sum()` for `.mean()` or the other way round, and `reduction=`."""
    found = re.search(r"loss\.(\w+)\(\) instead of loss\.(\w+)\(\)", request.code)
    if not found:
        return
    source = request.source
    for call in source.calls((found[2],)):
        if isinstance(call.func, ast.Attribute):
            end = source.span(call.func)[1]
            change = (end - len(found[2].encode()), end, found[1])
            yield request.edit(f"line {call.lineno}: .{found[1]}() for .{found[2]}()", change)
    for call in source.calls((*LOSS_MODULES, *LOSS_FUNCTIONS)):
        if any(keyword.arg == "reduction" for keyword in call.keywords):
            yield request.edit(f'reduction="{found[1]}"', *source.with_keyword(call, "reduction", f'"{found[1]}"'))


def broadcast_edits(request: Request) -> Iterator[Edit | None]:
    """Prediction and target in one shape."""
    source = request.source
    for node in source.at(request.line, request.expression):
        if isinstance(node, ast.BinOp):
            new = f"{source.text_of(node.right)}.reshape({source.text_of(node.left)}.shape)"
            yield request.edit(f"line {node.lineno}: {new}", source.replaced(node.right, new))
    body = "loss(prediction, target.reshape(prediction.shape), *rest)"
    yield request.wrapped_loss(body, "the loss takes the targets in the prediction's shape")


def logits_edits(request: Request) -> Iterator[Edit | None]:
    """One softmax or sigmoid too many or too few, on either side."""
    source, code = request.source, request.code
    if "in Keras's loss" in code:
        yield from _keras_logits(request, "True" in code)
        return
    if "return the logits" in code:
        for call in source.calls(SQUASHING, ("torch_side",)):
            inner = _inner(call)
            if inner is not None:
                yield request.edit(f"{source.plain(call)} → {source.plain(inner)}", _left(source, call, inner))
        for call in source.calls(SQUASHING_MODULES, ("torch_side",)):
            yield request.edit(
                f"{source.plain(call)} → nn.Identity()", source.replaced(call, source.name_in_scope("nn.Identity()"))
            )
    if "NLLLoss" in code or "CrossEntropyLoss applies" in code:
        for call in source.calls(("CrossEntropyLoss", "NLLLoss")):
            name = source.plain(call.func).removesuffix(called(call)) + "NLLLoss()"
            edit = request.wrapped_loss(
                "loss(torch.log(prediction.clamp(min=1e-7)), target, *rest)", "nn.NLLLoss() on the probabilities' log"
            )
            if edit is None:
                continue
            start, end = source.span(call)
            inside = [change for change in edit.changes if change[0] <= start and end <= change[1]]
            if inside:  # the call stands in the return that is replaced
                text = source.text_of(call)
                yield Edit(edit.message, tuple((a, b, new.replace(text, name)) for a, b, new in edit.changes))
            elif all(text not in new for text in [source.text_of(call)] for _, _, new in edit.changes):
                yield Edit(edit.message, (*edit.changes, source.replaced(call, name)))
    if re.fullmatch(r"(torch\.)?nn\.\w+\(.*\)", code):
        yield from loss_edits(request)


def _inner(call: ast.Call) -> ast.expr | None:
    """What a function is applied to: its first argument, or what it is a method of."""
    if call.args and not isinstance(call.args[0], ast.Constant | ast.UnaryOp):
        return call.args[0]
    return call.func.value if isinstance(call.func, ast.Attribute) else None


def _left(source: PairSource, call: ast.Call, inner: ast.expr) -> tuple[int, int, str]:
    return source.replaced(call, source.text_of(inner))


def _keras_logits(request: Request, logits: bool) -> Iterator[Edit]:
    source = request.source
    for call in source.calls(("compile",), ("keras_side",)):
        for value in [*call.args, *(keyword.value for keyword in call.keywords)]:
            if isinstance(value, ast.Constant) and value.value in KERAS_LOSSES and logits:
                new = f"keras.losses.{KERAS_LOSSES[value.value]}(from_logits=True)"
                changes = [source.replaced(value, new)]
                if "import keras" not in source.text_of(source.function("keras_side") or source.tree.body[0]):
                    new = f"__import__('keras').losses.{KERAS_LOSSES[value.value]}(from_logits=True)"
                    changes = [source.replaced(value, new)]
                yield request.edit(f"in keras_side(): {new}", *changes)
    for call in source.calls(tuple(KERAS_LOSSES.values()), ("keras_side",)):
        yield request.edit(
            f"in keras_side(): from_logits={logits}", *source.with_keyword(call, "from_logits", str(logits))
        )


def weight_edits(request: Request) -> Iterator[Edit | None]:
    """The loss without class weights."""
    source = request.source
    for call in source.calls((*LOSS_MODULES, *LOSS_FUNCTIONS)):
        changes = [c for name in ("weight", "pos_weight") for c in source.without_keyword(call, name)]
        if changes:
            yield request.edit("the loss without weights", *changes)


def penalty_edits(request: Request) -> Iterator[Edit | None]:
    """Keras's penalties added to the loss, and no weight decay."""
    source, returned = request.source, request.source.returned()
    found = re.fullmatch(r"loss = loss \+ (.+)", request.code)
    if found is None or returned is None:
        return
    module = source.text_of(returned.module)
    if not module.isidentifier():
        return
    sum_text = found[1].replace("module.", f"{module}.")
    edit = request.wrapped_loss(f"loss(prediction, target, *rest) + {sum_text}", f"the loss with {sum_text} added")
    if edit is None:
        return
    decays = []
    function = source.function("torch_side")
    assert function is not None  # it has the return
    for node in ast.walk(function):
        if isinstance(node, ast.keyword) and node.arg == "weight_decay":
            decays.append(source.replaced(node.value, "0.0"))
        elif isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == "weight_decay":
                    decays.append(source.replaced(value, "0.0"))
    yield Edit(edit.message + (", weight_decay=0.0" if decays else ""), (*edit.changes, *decays))
