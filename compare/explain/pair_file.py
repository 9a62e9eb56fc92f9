"""A pair file: a user's two models, checked without running it."""

import ast
from dataclasses import dataclass
from pathlib import Path

from compare.errors import InputError

FUNCTIONS = {
    "data": "data() -> inputs, targets as NumPy arrays",
    "keras_side": "keras_side() -> a compiled keras.Model",
    "torch_side": "torch_side() -> (nn.Module, loss function, torch optimizer)",
}
OTHER = "other_torch_side"
FRAMEWORKS = {"keras": "keras_side()", "tensorflow": "keras_side()", "jax": "keras_side()", "torch": "torch_side()"}


@dataclass(frozen=True)
class Pair:
    """A pair file that can be read: its path and its name."""

    file: Path
    functions: frozenset[str] = frozenset(FUNCTIONS)

    @property
    def name(self) -> str:
        """What reports call it."""
        return self.file.stem


def read_pair(path: str, alone: bool = False) -> Pair:
    """Check a pair file as far as can be done without running it; `alone`, one side with data() is enough.

    Raises InputError, with the line, for a file that cannot be read or parsed, lacks a function, or imports a
    framework at its top.
    """
    file = Path(path)
    try:
        source = file.read_text("utf-8")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; give a pair file, see README.md") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not a text file in UTF-8; give a pair file, see README.md") from None
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        raise InputError(f"{path}:{error.lineno or 1}: {error.msg}") from None
    except ValueError as error:
        raise InputError(f"{path} is not Python: {error}") from None
    _refuse_imports(tree, path)
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    defined |= {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    defined |= {
        alias.asname or alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    wanted = ["data", "torch_side"] if OTHER in defined else list(FUNCTIONS)
    if alone and len(defined & {"keras_side", "torch_side"}) == 1:
        wanted = ["data"]
    missing = [FUNCTIONS[name] for name in wanted if name not in defined]
    if missing:
        raise InputError(f"{path}:{len(source.splitlines()) or 1}: has no {missing[0]}; a pair file defines it")
    return Pair(file.resolve(), frozenset(defined & {*FUNCTIONS, OTHER}))


def _refuse_imports(tree: ast.Module, path: str) -> None:
    imported: dict[str, int] = {}
    for node in _at_top(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module or ""]
        for name in names:
            top = name.partition(".")[0]
            if top in FRAMEWORKS:
                imported.setdefault(top, node.lineno)
    if imported:
        framework, line = max(imported.items(), key=lambda item: item[1])
        named = " and ".join(imported)
        raise InputError(
            f"{path}:{line}: imports {named} at its top; the file is read in both sides' processes, and TensorFlow "
            f"and PyTorch in one process can crash: import {framework} inside {FRAMEWORKS[framework]}"
        )


def _at_top(tree: ast.Module) -> list[ast.stmt]:
    """The statements that run when the file is read: all but those inside functions."""
    statements: list[ast.stmt] = []
    waiting: list[ast.stmt] = list(tree.body)
    while waiting:
        node = waiting.pop()
        statements.append(node)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        waiting += [child for child in ast.walk(node) if isinstance(child, ast.stmt) and child is not node]
    return statements
