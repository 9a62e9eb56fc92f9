"""A pair file as text and syntax tree, and edits of it: what stands around an edit keeps its form."""

import ast
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

# From byte, to byte, the new text.
Change = tuple[int, int, str]

OPTIMIZERS = ("Adam", "AdamW", "Adamax", "NAdam", "RAdam", "SGD", "RMSprop", "Adagrad", "Adadelta", "KerasRMSprop")


@dataclass(frozen=True)
class Edit:
    """One fix as it can be made in the file: what the file's header says of it, and the changes of its bytes."""

    message: str
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class Returned:
    """What `torch_side` returns: the statement and the expressions of module, loss and optimizer."""

    statement: ast.Return
    module: ast.expr
    loss: ast.expr
    optimizer: ast.expr


class PairSource:
    """The text of a pair file with what can be found and changed in it."""

    def __init__(self, text: str) -> None:
        self.text, self.content, self.tree = text, text.encode(), ast.parse(text)
        self.starts = [0]
        for line in self.content.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))

    def edited(self, edits: Iterable[Edit]) -> str:
        """The text with edits made; raises ValueError where two of them change the same bytes."""
        changes = sorted(
            dict.fromkeys(change for edit in edits for change in edit.changes), key=lambda change: change[:2]
        )
        content, place = b"", 0
        for start, end, new in changes:
            if start < place:
                raise ValueError("two fixes change the same expression")
            content += self.content[place:start] + new.encode()
            place = end
        return (content + self.content[place:]).decode()

    def span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        """The bytes of a node."""
        assert node.end_lineno is not None  # of parsed source
        assert node.end_col_offset is not None
        return self.starts[node.lineno - 1] + node.col_offset, self.starts[node.end_lineno - 1] + node.end_col_offset

    def text_of(self, node: ast.expr | ast.stmt) -> str:
        """The text of a node."""
        start, end = self.span(node)
        return self.content[start:end].decode()

    def plain(self, node: ast.expr) -> str:
        """The text of a node with its white space folded, as sources have it."""
        return " ".join(self.text_of(node).split())

    def replaced(self, node: ast.expr | ast.stmt, new: str) -> Change:
        """A node's text replaced."""
        return (*self.span(node), new)

    def before(self, statement: ast.stmt, lines: Sequence[str]) -> Change:
        """Lines put before a statement; raises ValueError where something stands before it in its line."""
        start = self.starts[statement.lineno - 1]
        indent = self.content[start : self.span(statement)[0]].decode()
        if indent.strip():
            raise ValueError("the statement shares its line with another")
        return start, start, "".join(f"{indent}{line}\n" if line else "\n" for line in lines)

    def removed(self, statement: ast.stmt) -> Change:
        """A statement's lines removed."""
        assert statement.end_lineno is not None
        first = min([statement.lineno, *(node.lineno for node in getattr(statement, "decorator_list", []))])
        return self.starts[first - 1], self.starts[min(statement.end_lineno, len(self.starts) - 1)], ""

    def appended(self, text: str) -> Change:
        """Text put at the end of the file."""
        gap = "" if self.text.endswith("\n") else "\n"
        return len(self.content), len(self.content), f"{gap}\n\n{text}"

    def function(self, name: str) -> ast.FunctionDef | None:
        """A function that the file defines."""
        return next((n for n in self.tree.body if isinstance(n, ast.FunctionDef) and n.name == name), None)

    def returned(self) -> Returned | None:
        """The triple that `torch_side` returns; None where it returns it otherwise."""
        function = self.function("torch_side")
        for node in reversed(list(_own(function)) if function else []):
            if isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple) and len(node.value.elts) == 3:
                return Returned(node, *node.value.elts)
        return None

    def calls(self, names: Iterable[str], within: Sequence[str] = ("torch_side", "torch_step")) -> list[ast.Call]:
        """The calls in some functions of what has one of these names, or ends with a dot and one of them."""
        wanted = set(names)
        return [
            node
            for name in within
            if (function := self.function(name)) is not None
            for node in ast.walk(function)
            if isinstance(node, ast.Call) and called(node) in wanted
        ]

    def optimizer(self) -> ast.Call | None:
        """The call that makes PyTorch's optimizer; None where there is not one alone."""
        found = self.calls(OPTIMIZERS, ("torch_side",))
        return found[0] if len(found) == 1 else None

    def at(self, line: int, expression: str) -> list[ast.expr]:
        """The expressions of a line with a text, the widest first."""
        nodes = [
            node
            for node in ast.walk(self.tree)
            if isinstance(node, ast.expr) and node.lineno <= line <= (node.end_lineno or line)
        ]
        return [node for node in nodes if self.plain(node) == expression]

    def constructor(self, call: ast.expr) -> ast.Call | None:
        """The call that made the module which is called: `self.norm = nn.LayerNorm(…)` for `self.norm(x)`."""
        if not isinstance(call, ast.Call):
            return None
        name = self.plain(call.func)
        scopes = [n for n in ast.walk(self.tree) if isinstance(n, ast.ClassDef | ast.FunctionDef) and _holds(n, call)]
        for scope in reversed(scopes):  # the innermost last
            for node in ast.walk(scope):
                if (
                    isinstance(node, ast.Assign)
                    and isinstance(node.value, ast.Call)
                    and any(self.plain(target) == name for target in node.targets)
                ):
                    return node.value
        return None

    def with_keyword(self, call: ast.Call, name: str, value: str, position: int | None = None) -> list[Change]:
        """A keyword of a call set; where the argument stands at a position, replaced there."""
        if any(keyword.arg is None for keyword in call.keywords):
            raise ValueError("the call takes its options from a mapping")
        for keyword in call.keywords:
            if keyword.arg == name:
                return [self.replaced(keyword.value, value)]
        if position is not None and len(call.args) > position:
            return [self.replaced(call.args[position], value)]
        parts = [*call.args, *(keyword.value for keyword in call.keywords)]
        if parts:
            end = max(self.span(part)[1] for part in parts)
            return [(end, end, f", {name}={value}")]
        end = self.span(call)[1] - 1
        return [(end, end, f"{name}={value}")]

    def without_keyword(self, call: ast.Call, name: str) -> list[Change]:
        """A keyword of a call taken out, where it is there."""
        for number, keyword in enumerate(call.keywords):
            if keyword.arg != name:
                continue
            before = [*call.args, *(other.value for other in call.keywords[:number])]
            start = max((self.span(part)[1] for part in before), default=self.span(call.func)[1] + 1)
            end = self.span(keyword.value)[1]
            if not before and number + 1 < len(call.keywords):
                following = call.keywords[number + 1]
                end = self.starts[following.lineno - 1] + following.col_offset
            return [(start, end, "")]
        return []

    def name_in_scope(self, code: str) -> str:
        """Code with `F.` and `nn.` as this file can write them."""
        if "functional as F" not in self.text:
            code = _with_prefix(code, "F.", "torch.nn.functional.")
        if "import nn" not in self.text and "nn as nn" not in self.text:
            code = _with_prefix(code, "nn.", "torch.nn.")
        return code


def called(call: ast.Call) -> str:
    """The last part of the name of what is called."""
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _with_prefix(code: str, short: str, full: str) -> str:
    """Names that begin with a prefix written in full."""
    out, place = "", 0
    while (found := code.find(short, place)) >= 0:
        before = code[found - 1] if found else " "
        out += code[place:found] + (short if before.isalnum() or before in "._" else full)
        place = found + len(short)
    return out + code[place:]


def _own(function: ast.FunctionDef) -> Iterator[ast.stmt]:
    """A function's statements without those of functions and classes in it, in their order."""
    waiting: list[ast.stmt] = list(function.body)
    while waiting:
        node = waiting.pop(0)
        yield node
        if not isinstance(node, ast.FunctionDef | ast.ClassDef):
            waiting = [n for n in ast.iter_child_nodes(node) if isinstance(n, ast.stmt)] + waiting


def _holds(scope: ast.ClassDef | ast.FunctionDef, node: ast.expr) -> bool:
    return scope.lineno <= node.lineno <= (scope.end_lineno or scope.lineno)
