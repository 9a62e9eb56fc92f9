"""Mutations of Python source by its syntax tree: faults, and changes that keep the meaning."""

import ast
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

# Names of which another means another part of a model.
SWAPPED = (
    ("input", "forget", "candidate", "output"),
    ("update", "reset", "candidate"),
    ("kernel", "recurrent_kernel"),
    ("h", "c"),
    ("momentum", "velocity"),
    ("forward", "backward"),
)
AXES = ("axis", "dim", "axes", "dims")
# What is called for what it does to its one argument.
UNARY = ("sigmoid", "tanh", "sqrt", "square", "abs", "relu", "exp", "flip", "detach", "transpose", "cast", "zeros_like")
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.Pow: ast.Mult,
    ast.MatMult: ast.Mult,
}
# What is no part of what a program computes.
SKIPPED_FIELDS = ("annotation", "returns", "decorator_list", "type_params")
SKIPPED_NODES = (ast.Raise, ast.Assert, ast.JoinedStr, ast.Import, ast.ImportFrom)

Put = Callable[[ast.AST], None]


@dataclass(frozen=True)
class Mutation:
    """One change of a file: its kind, the line where it is, and what changes the tree in place, with random choices."""

    kind: str
    line: int
    change: Callable[[random.Random], None]


def mutations(tree: ast.AST, *, preserving: bool) -> list[Mutation]:
    """List what can be changed in a tree, always in the same order."""
    of_node = _preserving if preserving else _faults
    return [mutation for node, put in _walk(tree) for mutation in of_node(node, put)]


def _walk(node: ast.AST) -> Iterator[tuple[Any, Put]]:
    """Yield every node below one, with what puts another in its place."""
    for field, value in ast.iter_fields(node):
        if field in SKIPPED_FIELDS:
            continue
        children = list(enumerate(value)) if isinstance(value, list) else [(None, value)]
        for index, child in children:
            if isinstance(child, ast.keyword) and child.arg == "strict":
                continue
            docstring = isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)
            if not isinstance(child, ast.AST) or isinstance(child, SKIPPED_NODES) or docstring:
                continue

            def put(new: ast.AST, field: str = field, index: int | None = index, value: Any = value) -> None:
                if index is None:
                    setattr(node, field, new)
                else:
                    value[index] = new

            yield child, put
            yield from _walk(child)


def _faults(node: Any, put: Put) -> Iterator[Mutation]:
    line = getattr(node, "lineno", 0)

    def mutation(kind: str, change: Callable[[random.Random], None]) -> Mutation:
        return Mutation(kind, line, change)

    match node:
        case ast.Constant(value=bool()):
            return
        case ast.Constant(value=int() | float()):
            factors = (1.01, 1.5, 10.0, 0.9)
            yield mutation("constant", lambda draw: put(ast.Constant(_other_number(node.value, draw.choice(factors)))))
        case ast.Constant(value=str()):
            others = sorted({name for group in SWAPPED if node.value in group for name in group} - {node.value})
            if others:
                yield mutation("name", lambda draw: put(ast.Constant(draw.choice(others))))
        case ast.BinOp() if type(node.op) in OPERATORS and not _is_text(node.left):
            yield mutation("operator", lambda _: setattr(node, "op", OPERATORS[type(node.op)]()))
        case ast.UnaryOp(op=ast.USub()) if not isinstance(node.operand, ast.Constant):
            yield mutation("operator", lambda _: put(node.operand))
        case ast.Subscript(slice=ast.Constant(value=int())):
            yield mutation("index", lambda _: setattr(node, "slice", ast.Constant(node.slice.value + 1)))
        case ast.Slice():
            for bound in ("lower", "upper"):
                if isinstance(end := getattr(node, bound), ast.Constant) and isinstance(end.value, int):
                    new = ast.Constant(end.value + 1)
                    yield mutation("index", lambda _, bound=bound, new=new: setattr(node, bound, new))
        case ast.keyword(arg=name, value=ast.Constant(value=int())) if name in AXES:
            yield Mutation("axis", node.value.lineno, lambda _: setattr(node, "value", _other_axis(node.value.value)))
        case ast.Call():
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called.removesuffix("_") in UNARY and (node.args or isinstance(node.func, ast.Attribute)):
                kept = node.args[0] if node.args else node.func.value
                yield mutation("missing call", lambda _: put(kept))
        case ast.Expr(value=ast.Call()):
            yield mutation("missing call", lambda _: put(ast.Pass()))


def _preserving(node: Any, put: Put) -> Iterator[Mutation]:
    line = getattr(node, "lineno", 0)

    def mutation(kind: str, change: Callable[[], None]) -> Mutation:
        return Mutation(kind, line, lambda _: change())

    def swap(new_op: ast.operator) -> None:
        node.left, node.op, node.right = node.right, new_op, node.left

    match node:
        case ast.BinOp(op=ast.Add(), left=ast.BinOp(op=ast.Add()) as left) if not _is_text(node.right):
            new = ast.BinOp(left.left, ast.Add(), ast.BinOp(left.right, ast.Add(), node.right))
            yield mutation("sum in another order", lambda: put(new))
        case ast.BinOp(op=ast.Add() | ast.Mult()) if not (_is_text(node.left) or _is_text(node.right)):
            yield mutation("operands exchanged", lambda: swap(node.op))
        case ast.BinOp(op=ast.Sub()):
            negative = ast.UnaryOp(ast.USub(), node.right)
            yield mutation("difference as a sum", lambda: put(ast.BinOp(node.left, ast.Add(), negative)))
        case ast.BinOp(op=ast.Div(), right=ast.Name() | ast.Attribute()):
            inverse = ast.BinOp(ast.Constant(1.0), ast.Div(), node.right)
            yield mutation("quotient as a product", lambda: put(ast.BinOp(node.left, ast.Mult(), inverse)))
        case ast.BinOp(op=ast.Pow(), right=ast.Constant(value=2), left=ast.Name() | ast.Attribute()):
            yield mutation("square as a product", lambda: put(ast.BinOp(node.left, ast.Mult(), node.left)))
        case ast.Compare(ops=[ast.Lt()], comparators=[right]):
            yield mutation("comparison turned", lambda: put(ast.Compare(right, [ast.Gt()], [node.left])))
        case ast.IfExp():
            turned = ast.IfExp(ast.UnaryOp(ast.Not(), node.test), node.orelse, node.body)
            yield mutation("condition turned", lambda: put(turned))
        case ast.If(orelse=[_, *_]):
            turned = ast.If(ast.UnaryOp(ast.Not(), node.test), node.orelse, node.body)
            yield mutation("condition turned", lambda: put(turned))
        case ast.Return(value=ast.BinOp() | ast.Call() | ast.IfExp()):
            named = [ast.Assign([ast.Name("outcome_", ast.Store())], node.value, lineno=node.lineno)]
            block = ast.If(ast.Constant(True), [*named, ast.Return(ast.Name("outcome_", ast.Load()))], [])
            yield mutation("result named first", lambda: put(block))
        case ast.FunctionDef():
            for name in _own_names(node):
                # The line of its first use: a function's own is reached where it is only made.
                yield Mutation("renamed", node.body[-1].lineno, lambda _, name=name: _rename(node, name))
        case ast.Call(keywords=[_, _, *_]) if all(keyword.arg for keyword in node.keywords):
            yield mutation("keywords in another order", lambda: node.keywords.reverse())


def _own_names(function: ast.FunctionDef) -> list[str]:
    """Name the local variables of a function that no argument, nor anything outside of it, has the name of."""
    nodes = list(ast.walk(function))
    taken = {node.arg for node in nodes if isinstance(node, ast.arg)}
    taken |= {name for node in nodes if isinstance(node, ast.Global | ast.Nonlocal) for name in node.names}
    taken |= {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
    stored = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return sorted(stored - taken)


def _rename(function: ast.FunctionDef, name: str) -> None:
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and node.id == name:
            node.id = f"{name}_renamed"


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.JoinedStr | ast.List | ast.Tuple | ast.ListComp | ast.Dict | ast.Set) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def _other_number(value: float, factor: float) -> float:
    return value * factor if isinstance(value, float) and value else value + 1


def _other_axis(axis: int) -> ast.expr:
    return ast.Constant({0: 1, 1: 0}.get(axis, 0))
