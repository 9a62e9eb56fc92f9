"""Edits of states, masks, padding and the order of rows."""

import ast
import re
from collections.abc import Iterator

from compare.explain.fixes.expression_edits import expression_edits
from compare.explain.fixes.pair_source import Change, Edit, PairSource, called
from compare.explain.fixes.request import Request

DRAWS = ("randn", "rand", "ones", "full", "empty", "randint", "normal", "randn_like", "rand_like", "ones_like")
PADDED = '''_data = data


def data():
    """The same with the padding behind, where packed sequences have it."""
    x, *rest = _data()
    order = np.argsort(x == 0, axis=1, kind="stable")
    return (np.take_along_axis(x, order, 1), *rest)
'''


def state_edits(request: Request) -> Iterator[Edit | None]:
    """Initial states that are zero, in their order, or kept from batch to batch."""
    source, code = request.source, request.code
    for node in source.at(request.line, request.expression):
        if not isinstance(node, ast.Call):
            continue
        if code.startswith("torch.zeros("):
            name = called(node)
            calls = source.calls((name,), ("torch_side",)) if name in DRAWS else []
            if calls:
                new = f"torch.zeros{'_like' if name.endswith('_like') else ''}"
                changes = [source.replaced(call.func, new) for call in calls]
                yield request.edit(f"{new} in place of every {source.plain(node.func)}", *changes)
            elif name.endswith("_"):
                new = source.name_in_scope("nn.init.zeros_")
                yield request.edit(f"line {node.lineno}: {new}", source.replaced(node.func, new))
        elif order := re.match(r"\((\w), (\w)\) for \(h, c\) as the initial state", code):
            yield from _ordered(request, node, ["hc".index(order[1]), "hc".index(order[2])])
        elif code.startswith(("no initial state", "self.hidden = None")):
            if len(node.args) == 2:
                start, end = source.span(node.args[0])[1], source.span(node.args[1])[1]
                yield request.edit(f"line {node.lineno}: no initial state, which is zeros", (start, end, ""))
        elif code.startswith("self.state = "):
            yield from _kept(request, node)
    yield from expression_edits(request)


def _ordered(request: Request, call: ast.Call, order: list[int]) -> Iterator[Edit]:
    """Other states as the initial ones: of a tuple its parts, of a variable its items."""
    source = request.source
    if len(call.args) != 2:
        return
    states = call.args[1]
    parts = (
        [source.text_of(part) for part in states.elts]
        if isinstance(states, ast.Tuple) and len(states.elts) == 2
        else [f"{source.text_of(states)}[{i}]" for i in range(2)]
    )
    new = f"({parts[order[0]]}, {parts[order[1]]})"
    yield request.edit(f"line {call.lineno}: {source.plain(states)} → {new}", source.replaced(states, new))


def _kept(request: Request, call: ast.Call) -> Iterator[Edit]:
    """The states of a batch given to the next: kept behind the statement that makes them."""
    source, made = request.source, request.source.constructor(call)
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.Assign) or node.value is not call or len(call.args) != 1:
            continue
        target = node.targets[0]
        if not isinstance(target, ast.Tuple) or len(target.elts) != 2:
            continue
        states = source.text_of(target.elts[1])
        kept = f"{states}.detach()"
        if made is not None and called(made) == "LSTM":
            kept = f"tuple(state.detach() for state in {states})"
        end = source.span(call)[1] - 1
        line = node.end_lineno or node.lineno
        indent = " " * node.col_offset
        after = source.starts[line]
        changes: list[Change] = [
            (end, end, ', getattr(self, "kept_state", None)'),
            (after, after, f"{indent}self.kept_state = {kept}\n"),
        ]
        yield request.edit(f"line {node.lineno}: the states go on from batch to batch", *changes)


def mask_edits(request: Request) -> Iterator[Edit]:
    """A layer that is given packed sequences, or other lengths of them: zeros behind are no timesteps."""
    source = request.source
    for node in source.at(request.line, request.expression):
        function = enclosing(source, node)
        if not isinstance(node, ast.Call) or not node.args or function is None or len(function.args.args) < 2:
            continue
        given, x = source.text_of(node.args[0]), function.args.args[1].arg
        for count in (f"({x} != 0).sum(1)", f"({x} != 0).any(-1).sum(1)"):
            if request.code.startswith("lengths = "):
                yield request.edit(f"line {node.lineno}: {count}", source.replaced(node, count))
                continue
            packed = (
                f"torch.nn.utils.rnn.pack_padded_sequence({given}, {count}.clamp(min=1).cpu(), "
                "batch_first=True, enforce_sorted=False)"
            )
            changes = [source.replaced(node.args[0], packed)]
            for statement in ast.walk(function):
                if isinstance(statement, ast.Assign) and statement.value is node:
                    changes += _unpacked(source, statement)
            yield request.edit(f"line {node.lineno}: the layer is given packed sequences, of {count}", *changes)


def _unpacked(source: PairSource, statement: ast.Assign) -> list[Change]:
    """What a layer gives at all timesteps unpacked again, where it is used."""
    target = statement.targets[0]
    if not isinstance(target, ast.Tuple) or source.text_of(target.elts[0]).startswith("_"):
        return []
    name = source.text_of(target.elts[0])
    after = source.starts[statement.end_lineno or statement.lineno]
    line = f"{name} = torch.nn.utils.rnn.pad_packed_sequence({name}, batch_first=True)[0]\n"
    return [(after, after, " " * statement.col_offset + line)]


def padding_edits(request: Request) -> Iterator[Edit]:
    """Windows of whole numbers with the padding behind, for both sides."""
    if "padding='post'" in request.code and request.source.function("data") is not None:
        yield request.edit("data() with the padding behind", request.source.appended(PADDED))


def order_edits(request: Request) -> Iterator[Edit | None]:
    """The predictions of rows that were sorted, in the order of the targets."""
    source = request.source
    if "argsort()" not in request.code:
        return
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.Subscript) or not isinstance(node.slice, ast.Name):
            continue
        function = enclosing(source, node)
        for statement in ast.walk(function) if function is not None else ():
            if isinstance(statement, ast.Return) and statement.value is not None:
                new = f"({source.text_of(statement.value)})[{node.slice.id}.argsort()]"
                told = f"line {statement.lineno}: what is returned is in the order of the targets again"
                yield request.edit(told, source.replaced(statement.value, new))


def precision_edits(request: Request) -> Iterator[Edit]:
    """No half precision."""
    for call in request.source.calls(("autocast",)):
        yield request.edit("autocast(…, enabled=False)", *request.source.with_keyword(call, "enabled", "False"))


def body_edits(request: Request) -> Iterator[Edit]:
    """A function of one tensor that computes by hand what has a name: its whole body."""
    source = request.source
    for node in source.at(request.line, request.expression):
        function = enclosing(source, node)
        if function is None or len(function.args.args) != 1 or function.args.args[0].arg not in request.code:
            continue
        start, end = source.span(function.body[0])[0], source.span(function.body[-1])[1]
        yield request.edit(f"{function.name}() returns {request.code}", (start, end, f"return {request.code}"))


def enclosing(source: PairSource, node: ast.expr) -> ast.FunctionDef | None:
    """The innermost function that holds an expression."""
    functions = [
        f
        for f in ast.walk(source.tree)
        if isinstance(f, ast.FunctionDef) and f.lineno <= node.lineno <= (f.end_lineno or f.lineno)
    ]
    return max(functions, key=lambda f: f.lineno, default=None)
