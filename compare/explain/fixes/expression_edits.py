"""Edits of the expression in which a forward pass goes wrong: the code of the fix in its place."""

import ast
import re
from collections.abc import Iterator, Sequence

from compare.explain.fixes.pair_source import Change, Edit, PairSource, called
from compare.explain.fixes.request import Request

MODULES = ("self", "torch", "F", "nn")
FUNCTIONS_OF_AXIS = 1  # torch.mean(x, 1)


def expression_edits(request: Request) -> Iterator[Edit | None]:
    """Every way to read the fix as code at the expression's place, the likeliest first."""
    code, source = request.code, request.source
    for node in source.at(request.line, request.expression):
        if pair := re.fullmatch(r"(.+?)(?:, of line \d+,)? in place of (.+)", code):
            yield from _in_place(request, node, pair[1], pair[2])
        elif axis := re.fullmatch(r"the same with dim=(-?\d+)", code):
            if isinstance(node, ast.Call):
                yield request.edit(f"line {node.lineno}: dim={axis[1]}", *_axis(source, node, axis[1]))
        elif order := re.fullmatch(r"the parts in the (?:other order|order \((.+)\))", code):
            yield from _reordered(request, node, order[1])
        elif code == "the operands exchanged" and isinstance(node, ast.BinOp):
            left, right = source.text_of(node.left), source.text_of(node.right)
            changes = (source.replaced(node.left, right), source.replaced(node.right, left))
            yield request.edit(f"line {node.lineno}: the operands exchanged", *changes)
        elif halves := re.fullmatch(r"the halves of (.+) exchanged", code):
            yield from _operand(request, node, halves[1], f"torch.cat({halves[1]}.chunk(2, -1)[::-1], -1)")
        elif given := re.fullmatch(r"([\w.]+\()(.+)'s input(.*)", code):
            yield from _operand(request, node, given[2], f"{given[1]}{given[2]}{given[3]}")
            if isinstance(node, ast.Call) and node.args:
                text = source.text_of(node.args[0])
                yield _at(request, node.args[0], f"{given[1]}{text}{given[3]}")
        elif code.endswith(" as data() gives it"):
            yield from _as_given(request, node)
        elif re.match(r"in forward\(\): ", code):
            yield from _exchanged(request, node)
        elif _is_expression(code):
            yield from _replacements(request, node)


def _replacements(request: Request, node: ast.expr) -> Iterator[Edit | None]:
    """The code in the place of the expression, or of its operand, whichever it is written of."""
    code, source = request.code, request.source
    loose = _without_batch(code)
    operands = _operands(node)
    whole = [_at(request, node, text) for text in dict.fromkeys((loose, code))]
    inner = [
        _at(request, operand, text)
        for operand in operands
        for text in dict.fromkeys((loose, code))
        if source.plain(operand) in code and source.plain(operand) != code
    ]
    # What is done to the result at once may be a part of what the code replaces.
    wider = [_at(request, outer, code) for outer in _around(source, node)]
    makes_module = isinstance(node, ast.Call) and source.plain(node.func).startswith("self.")
    yield from [*inner, *whole, *wider] if makes_module and inner else [*whole, *inner, *wider]


def _as_given(request: Request, node: ast.expr) -> Iterator[Edit]:
    """A batch without what is done to it: the variable alone."""
    for part in [node, *_operands(node)]:
        inner: ast.expr | None = part
        while isinstance(inner, ast.Subscript | ast.Attribute | ast.BinOp | ast.Call):
            if isinstance(inner, ast.Call):
                inner = inner.func if isinstance(inner.func, ast.Attribute) else None
            else:
                inner = inner.left if isinstance(inner, ast.BinOp) else inner.value
        if isinstance(inner, ast.Name) and inner is not part and inner.id not in MODULES:
            yield _at(request, part, inner.id)


def _around(source: PairSource, node: ast.expr) -> Sequence[ast.expr]:
    """The sums, products and calls that an expression is an operand of, the nearest first."""
    outer = [
        n
        for n in ast.walk(source.tree)
        if isinstance(n, ast.BinOp | ast.Call) and any(part is node for part in ast.walk(n)) and n is not node
    ]
    return outer[::-1][:2]


def _without_batch(code: str) -> str:
    """A reshape that takes any batch: its first size, where it is a number, is left to PyTorch."""
    return re.sub(r"\.reshape\((\d+), ", ".reshape(-1, ", code)


def _at(request: Request, node: ast.expr, new: str) -> Edit:
    old = request.source.plain(node)
    return request.edit(f"line {node.lineno}: {old} → {new}", request.source.replaced(node, new))


def _operands(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, ast.Call):
        receiver = [node.func.value] if isinstance(node.func, ast.Attribute) else []
        receiver = [each for each in receiver if not (isinstance(each, ast.Name) and each.id in MODULES)]
        return [arg for arg in [*receiver, *node.args] if not isinstance(arg, ast.Constant | ast.UnaryOp)]
    if isinstance(node, ast.Subscript):
        return [node.value]
    return [node.left, node.right] if isinstance(node, ast.BinOp) else []


def _operand(request: Request, node: ast.expr, text: str, new: str) -> Iterator[Edit]:
    for inner in ast.walk(node):
        if isinstance(inner, ast.expr) and request.source.plain(inner) == text:
            yield _at(request, inner, new)
            return


def _in_place(request: Request, node: ast.expr, new: str, old: str) -> Iterator[Edit]:
    """Parts of the expression replaced: "h[-1], h[-2] in place of h[0], h[1]"."""
    source = request.source
    if "which is computed" in new or "of the round" in new or "of the same round" in new:
        return
    news, olds = _listed(new), _listed(old)
    if not news or len(news) != len(olds):
        news, olds = [new], [old]
    changes: list[Change] = []
    for wanted, text in zip(news, olds, strict=True):
        places = [n for n in ast.walk(node) if isinstance(n, ast.expr) and _same(source.plain(n), text)]
        if not places:
            return
        changes.append(source.replaced(places[0], wanted))
    yield request.edit(f"line {node.lineno}: {new} in place of {old}", *changes)


def _same(text: str, wanted: str) -> bool:
    """Whether two texts are the same expression: h[-1] and h[1] are not, spaces do not count."""
    return text.replace(" ", "") == wanted.replace(" ", "")


def _listed(text: str) -> list[str]:
    try:
        parsed = ast.parse(f"({text},)", mode="eval").body
    except SyntaxError:
        return []
    return [ast.unparse(part) for part in parsed.elts] if isinstance(parsed, ast.Tuple) else []


def _axis(source: PairSource, call: ast.Call, axis: str) -> list[Change]:
    names = {keyword.arg for keyword in call.keywords}
    name = "axis" if "axis" in names else "dim"
    method = isinstance(call.func, ast.Attribute) and source.plain(call.func.value) not in (
        "torch",
        "F",
        "torch.nn.functional",
        "nn.functional",
    )
    return source.with_keyword(call, name, axis, 0 if method else FUNCTIONS_OF_AXIS)


def _reordered(request: Request, node: ast.expr, order: str | None) -> Iterator[Edit]:
    """The parts of a `torch.cat` in another order."""
    if not isinstance(node, ast.Call) or not node.args or not isinstance(node.args[0], ast.List | ast.Tuple):
        return
    parts = node.args[0].elts
    turn = [int(n) for n in order.split(",") if n.strip()] if order else list(range(len(parts)))[::-1]
    if sorted(turn) != list(range(len(parts))):
        return
    source = request.source
    changes = [source.replaced(part, source.text_of(parts[i])) for part, i in zip(parts, turn, strict=True)]
    told = ", ".join(source.plain(parts[i]) for i in turn)
    yield request.edit(f"line {node.lineno}: joined in the order {told}", *changes)


def _exchanged(request: Request, node: ast.expr) -> Iterator[Edit]:
    """Two functions, one applied to the other's result, the other way round."""
    source = request.source
    calls = [
        n for n in ast.walk(source.tree) if isinstance(n, ast.Call) and n.lineno <= request.line <= (n.end_lineno or 0)
    ]
    for outer in calls:
        inner = outer.args[0] if outer.args else None
        if not isinstance(inner, ast.Call) or node not in (outer, inner):
            continue
        if len(outer.args) + len(outer.keywords) != 1 or len(inner.args) + len(inner.keywords) != 1:
            continue
        first, second = source.text_of(outer.func), source.text_of(inner.func)
        changes = (source.replaced(outer.func, second), source.replaced(inner.func, first))
        yield request.edit(f"line {outer.lineno}: {second} after {first}", *changes)


def _is_expression(code: str) -> bool:
    if "…" in code or "..." in code.replace("[...", "["):
        return False
    try:
        ast.parse(code, mode="eval")
    except SyntaxError:
        return False
    return True


__all__ = ["called", "expression_edits"]
