"""Edits of what is done at every step: clipping, gradients set to zero, the module's mode."""

import ast
from collections.abc import Iterator

from compare.explain.fixes.pair_source import Edit, called
from compare.explain.fixes.request import Request

# What a hook returns takes the place of the step's arguments: it must return None.
HOOK = ["", "def clip_as_in_keras(optimizer, args, kwargs):", "    {code}", ""]
HOOK_IT = "OPTIMIZER.register_step_pre_hook(clip_as_in_keras)"
CLIPPING = {
    "norm": "[torch.nn.utils.clip_grad_norm_(p, {limit:g}) for p in MODULE.parameters()]",
    "value": "torch.nn.utils.clip_grad_value_(MODULE.parameters(), {limit:g})",
    "global_norm": "torch.nn.utils.clip_grad_norm_(MODULE.parameters(), {limit:g})",
}


def clipping_edits(request: Request) -> Iterator[Edit | None]:
    """Clip as Keras clips: by the file's `clip_norm`, by the loop's own call, or before every update."""
    source, keras = request.source, request.trace["clip"]
    changes = []
    option = next(
        (
            node
            for node in source.tree.body
            if isinstance(node, ast.Assign) and any(source.plain(target) == "clip_norm" for target in node.targets)
        ),
        None,
    )
    calls = source.calls(("clip_grad_norm_", "clip_grad_value_"))
    statements = [node for node in ast.walk(source.tree) if isinstance(node, ast.Expr) and node.value in calls]
    if len(statements) != len(calls):
        return
    changes += [source.replaced(statement, "pass  # Keras does not clip here") for statement in statements]
    if keras["kind"] == "none":
        if option is not None:
            changes.append(source.removed(option))
        if changes:
            yield request.edit("no clipping, as in Keras", *changes)
        return
    limit = keras["limit"]
    if keras["kind"] == "global_norm" and source.function("torch_step") is None:
        if option is not None:
            changes.append(source.replaced(option.value, f"{limit:g}"))
        else:
            changes.append(source.appended(f"clip_norm = {limit:g}\n"))
        yield request.edit(f"clip_norm = {limit:g}", *changes)
        return
    if option is not None:
        changes.append(source.removed(option))
    code = CLIPPING[keras["kind"]].format(limit=limit)
    told = code.replace("MODULE", "module")
    lines = [*(line.format(code=code) for line in HOOK), HOOK_IT]
    yield request.before_return(lines, f"{told} before every update", *changes)


def step_edits(request: Request) -> Iterator[Edit | None]:
    """Gradients set to zero at the start of every step, or the loop of `fit` in the place of the user's."""
    function = request.source.function("torch_step")
    if function is None:
        return
    optimizer = function.args.args[2].arg if len(function.args.args) > 2 else "optimizer"
    if f"{optimizer}.zero_grad" not in request.source.text_of(function):
        line = f"{optimizer}.zero_grad()"
        yield request.edit(f"{line} at the start of torch_step()", request.source.before(_first(function), [line]))
    yield request.edit(
        "no torch_step(): the gradients are set to zero, computed and applied for every batch that is given",
        request.source.removed(function),
    )


def mode_edits(request: Request) -> Iterator[Edit | None]:
    """The module in training mode while it trains; a functional dropout that knows the mode."""
    source = request.source
    if "training=self.training" in request.code:
        for call in source.calls(("dropout", "dropout1d", "alpha_dropout", "feature_dropout")):
            changes = source.with_keyword(call, "training", "self.training", 2)
            yield request.edit("F.dropout(…, training=self.training)", *changes)
        for call in source.calls(("Dropout",)):
            yield from _made_in_forward(request, call)
        return
    inside = [call for call in source.calls(("eval",), ("torch_side",)) if isinstance(call.func, ast.Attribute)]
    for call in inside:
        assert isinstance(call.func, ast.Attribute)
        new = f"{source.text_of(call.func.value)}.train()"
        yield request.edit(f"{source.text_of(call)} → {new}", source.replaced(call, new))
    function = source.function("torch_step")
    if function is not None and function.args.args:
        line = f"{function.args.args[0].arg}.train()"
        yield request.edit(f"{line} at the start of torch_step()", source.before(_first(function), [line]))
        return
    yield request.before_return(["MODULE.train()"], "module.train() before it is returned")


def _made_in_forward(request: Request, call: ast.Call) -> Iterator[Edit]:
    """`nn.Dropout(p)(x)`, which is made anew, and therefore active, at every call."""
    for outer in ast.walk(request.source.tree):
        if isinstance(outer, ast.Call) and outer.func is call and outer.args and call.args:
            given, rate = request.source.text_of(outer.args[0]), request.source.text_of(call.args[0])
            new = f"torch.nn.functional.dropout({given}, {rate}, self.training)"
            yield request.edit(new, request.source.replaced(outer, new))


def gradient_edits(request: Request) -> Iterator[Edit | None]:
    """Every `.detach()`, `.data` and `no_grad` taken out, one alone first."""
    source = request.source
    single: list[tuple[ast.expr, str]] = []
    functions = [f for name in ("torch_side", "torch_step") if (f := source.function(name)) is not None]
    for node in (node for function in functions for node in ast.walk(function)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and not node.args:
            if node.func.attr == "detach":
                single.append((node, source.text_of(node.func.value)))
            elif called(node) in ("no_grad", "inference_mode"):
                single.append((node, f"{source.text_of(node.func.value)}.enable_grad()"))
        elif isinstance(node, ast.Attribute) and node.attr == "data" and isinstance(node.ctx, ast.Load):
            single.append((node, source.text_of(node.value)))
    for node, new in single:
        yield request.edit(f"line {node.lineno}: {source.plain(node)} → {new}", source.replaced(node, new))
    if len(single) > 1:
        yield request.edit("no .detach(), .data or no_grad", *(source.replaced(node, new) for node, new in single))


def _first(function: ast.FunctionDef) -> ast.stmt:
    """A function's first statement behind its docstring."""
    first = function.body[0]
    plain = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    return function.body[1] if plain and len(function.body) > 1 else first
