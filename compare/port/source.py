"""What is to be ported: a file of a Keras model, or the function of a Python file that makes a model or a module."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from compare.errors import InputError

MODEL_FILES = (".keras", ".h5", ".hdf5")
WEIGHTS_FILE = ".weights.h5"
PICKLES = (".pkl", ".pickle", ".pt", ".pth", ".bin", ".joblib")
ACCEPTED = "give a .keras or .h5 file, or FILE.py:factory"


@dataclass(frozen=True)
class Source:
    """A file, and the function in it that makes what is ported; none for a model file."""

    file: Path
    factory: str | None = None

    @property
    def name(self) -> str:
        """What reports call it."""
        return self.file.stem if self.factory is None else self.factory


def read_source(text: str) -> Source:
    """Check what is to be ported without running it; raises InputError."""
    path, colon, factory = text.rpartition(":")
    if colon and path.endswith(".py"):
        return Source(_readable(path).resolve(), _checked_factory(path, factory))
    if text.endswith(".py"):
        raise InputError(f"{text}: name the function that makes the model: {text}:build")
    if text.endswith(WEIGHTS_FILE):
        raise InputError(f"{text} holds weights alone: give FILE.py:factory and --weights {text}")
    if text.endswith(PICKLES):
        raise InputError(f"{text} is a pickle, which can run any code when it is read; {ACCEPTED}")
    if not text.endswith(MODEL_FILES):
        raise InputError(f"{text}: {ACCEPTED}")
    return Source(_readable(text).resolve())


def _readable(path: str) -> Path:
    try:
        with open(path, "rb"):
            return Path(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; {ACCEPTED}") from None


def _tree(path: str | Path) -> ast.Module:
    try:
        return ast.parse(Path(path).read_text("utf-8"))
    except SyntaxError as error:
        raise InputError(f"{path}:{error.lineno or 1}: {error.msg}") from None
    except ValueError as error:
        raise InputError(f"{path} is not Python: {error}") from None


def _checked_factory(path: str, factory: str) -> str:
    names = [node.name for node in _tree(path).body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    imported = [name for node in _tree(path).body for name in _bound(node)]
    if factory not in names + imported:
        raise InputError(f"{path} defines no {factory!r}; it defines {', '.join(names) or 'no function'}")
    return factory


def _bound(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.ImportFrom):
        yield from (alias.asname or alias.name for alias in node.names)
    elif isinstance(node, ast.Assign):
        yield from (target.id for target in node.targets if isinstance(target, ast.Name))


def framework_of(source: Source) -> str:
    """Which framework's model a source makes, "keras" or "torch", from what its file imports.

    Where it imports both, what is imported inside the factory decides.
    """
    if source.factory is None:
        return "keras"
    tree = _tree(source.file)
    frameworks = set(_imported(tree))
    if len(frameworks) == 2:
        definition = next((node for node in tree.body if getattr(node, "name", "") == source.factory), tree)
        frameworks = set(_imported(definition)) or frameworks
    if len(frameworks) == 1:
        return frameworks.pop()
    told = "imports neither keras nor torch" if not frameworks else "imports both keras and torch at its top"
    raise InputError(f"{source.file} {told}: import that of {source.factory}() inside it, and no other there")


def _imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules = [node.module]
        for module in modules:
            top = module.partition(".")[0]
            if top in ("keras", "tensorflow"):
                yield "keras"
            elif top == "torch":
                yield "torch"
