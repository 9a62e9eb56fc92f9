"""Where in the user's source something happened: file, line, text and the very expression."""

import ast
import linecache
import sys
import sysconfig
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from types import CodeType
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
LIBRARIES = tuple(
    {sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    | {str(PROJECT / name) for name in ("compare", "keras_models", "torch_models")}
)

Site = tuple[CodeType, int]


@dataclass(frozen=True)
class Source:
    """One expression of the user's: file, line (from 1), the line's text, the expression in it."""

    file: str
    line: int
    text: str
    expression: str

    def as_json(self, side: str) -> dict[str, Any]:
        """The form in which a difference or a cause has it."""
        return {
            "file": self.file,
            "line": self.line,
            "text": self.text,
            "expression": self.expression,
            "side": side,
        }


@cache
def is_users(file: str) -> bool:
    """Whether a file is the user's: none of Python's, of an installed library or of this project."""
    return not file.startswith((*LIBRARIES, "<"))


def users_site(depth: int = 1) -> Site | None:
    """The innermost frame of the user's that is at work now; None where there is none."""
    frame = sys._getframe(depth)
    while frame is not None:
        if is_users(frame.f_code.co_filename):
            return frame.f_code, frame.f_lasti
        frame = frame.f_back  # type: ignore[assignment]  # the outermost frame has None
    return None


@lru_cache(maxsize=4096)
def source_of(site: Site) -> Source:
    """Read the line and the expression of a call site from its code object's positions."""
    code, instruction = site
    line, end, column, end_column = list(code.co_positions())[instruction // 2]
    line = line or code.co_firstlineno
    lines = [linecache.getline(code.co_filename, number) for number in range(line, (end or line) + 1)]
    text = lines[0].strip()
    if column is None or end_column is None or not lines[0]:
        return Source(code.co_filename, line, text, text)
    encoded = [each.encode() for each in lines]
    encoded[-1] = encoded[-1][:end_column]
    encoded[0] = encoded[0][column:]
    return Source(code.co_filename, line, text, " ".join(b"".join(encoded).decode(errors="replace").split()))


def argument_of(site: Site, names: Collection[str], place: int | None = None) -> Source:
    """The argument of a call that has one of the names, or stands at a place; where it is not written the call."""
    whole = source_of(site)
    code, instruction = site
    span = list(code.co_positions())[instruction // 2]
    lines = linecache.getlines(code.co_filename)
    try:
        calls = [node for node in ast.walk(ast.parse("".join(lines))) if isinstance(node, ast.Call)]
    except SyntaxError:
        return whole
    for call in calls:
        if (call.lineno, call.end_lineno, call.col_offset, call.end_col_offset) != span:
            continue
        node: Any = next((keyword for keyword in call.keywords if keyword.arg in names), None)
        if node is None and place is not None and len(call.args) > place:
            node = call.args[place]
        if node is not None:
            text = ast.get_source_segment("".join(lines), node) or whole.expression
            return Source(whole.file, node.lineno, lines[node.lineno - 1].strip(), " ".join(text.split()))
    return whole


def returned_by(code: CodeType) -> Source | None:
    """The value in a function's last `return`."""
    lines = linecache.getlines(code.co_filename)
    try:
        functions = [node for node in ast.walk(ast.parse("".join(lines))) if isinstance(node, ast.FunctionDef)]
    except SyntaxError:
        return None
    for function in functions:
        if function.name == code.co_name and function.lineno == code.co_firstlineno:
            values = [n.value for n in ast.walk(function) if isinstance(n, ast.Return) and n.value is not None]
            if values:
                text = ast.get_source_segment("".join(lines), values[-1]) or ""
                line = values[-1].lineno
                return Source(code.co_filename, line, lines[line - 1].strip(), " ".join(text.split()))
    return None


def operands(expression: str) -> list[str]:
    """The texts of what a call, a subscript or an operator takes: the receiver first, `torch` and `self` left out."""
    try:
        parsed = ast.parse(expression, mode="eval").body
    except SyntaxError:
        return []
    parts: list[Any] = []
    if isinstance(parsed, ast.Call):
        if isinstance(parsed.func, ast.Attribute):
            parts.append(parsed.func.value)
        parts += parsed.args
    elif isinstance(parsed, ast.Subscript):
        parts = [parsed.value, parsed.slice]
    elif isinstance(parsed, ast.BinOp):
        parts = [parsed.left, parsed.right]
    texts = [ast.get_source_segment(expression, part) or "" for part in parts]
    return [text for text in texts if text not in ("torch", "F", "self", "nn", "nn.functional")]
