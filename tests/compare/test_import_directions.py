"""Nothing flows back up: a folder imports only from those above it, and frameworks stay where they are named."""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache

import pytest
from helpers.paths import ROOT

# The folders and files of `compare` in the order in which they may import one another.
ORDER = (
    "errors",
    "callable_package",
    "storage",
    "config",
    "data",
    "experiment",
    "trace",
    "workers",
    "reference",
    "judge",
    "known",
    "run",
    "effect",
    "golden",
    "sweep",
    "tune",
    "bench",
    "calibration",
    "explain",
    "port",
    "report",
    "results",
    "api",
    "cli",
    "pytest_plugin",
    "__main__",
)
SIDES = ("keras_models", "torch_models")
FRAMEWORKS = ("tensorflow", "torch", "jax", "keras")

# Where a framework may be imported: in both sides, and where a user's own models are observed or read.
OBSERVERS = (
    "compare/explain/keras_observer/",
    "compare/explain/torch_observer/",
    "compare/port/keras_reader/",
    "compare/port/keras_runner/",
    "compare/port/torch_reader/",
    "compare/port/torch_runner/",
)
# Who puts the sides to work, in processes of their own.
EMPLOYERS = ("workers", "bench", "explain", "port")

# Which packages a side may not touch: it stands alone, with its own frameworks.
FORBIDDEN = {
    "keras_models": {"torch_models", "compare"},
    "torch_models": {"keras_models", "compare", "keras", "tensorflow", "jax"},
}


@cache
def imported(source: str) -> list[str]:
    """The dotted names that a source imports, anywhere in it, those given to import_module as text included."""
    return list(_imported(source))


def _imported(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are not used here"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            called = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
            if called in ("__import__", "import_module"):
                texts = [part for part in ast.walk(node.args[0]) if isinstance(part, ast.Constant)]
                yield from (str(text.value) for text in texts)


@pytest.fixture(scope="module")
def sources() -> dict[str, str]:
    """The text of every file of the packages, by its path."""
    files = [file for package in ("compare", *SIDES) for file in sorted((ROOT / package).rglob("*.py"))]
    return {file.relative_to(ROOT).as_posix(): file.read_text("utf-8") for file in files}


def wrong_imports(sources: Mapping[str, str]) -> list[str]:
    """Name every import that goes the wrong way."""
    assert {_top(path.replace("/", ".")) for path in sources} == {"compare", *SIDES}
    return [
        f"{path} imports {name}" for path, text in sources.items() for name in imported(text) if not right(path, name)
    ]


def right(path: str, name: str) -> bool:
    """Whether a file may import a dotted name."""
    package = path.partition("/")[0]
    return may_import(path, name) if package == "compare" else _top(name) not in FORBIDDEN[package]


def may_import(path: str, name: str) -> bool:
    """Whether a file of `compare` may import a dotted name."""
    top, importer = _top(name), _top(path.removeprefix("compare/").removesuffix(".py").replace("/", "."))
    if top in FRAMEWORKS:
        return path.startswith(OBSERVERS)
    if top in SIDES:
        return importer in EMPLOYERS
    if top != "compare":
        return True
    if importer == "__init__":
        return False  # `import compare` is quick: its names are imported when first asked for
    module = _top(name.partition(".")[2])
    assert importer in ORDER, f"compare/{importer} has no place in the order of imports; give it one here"
    return module == importer or (module in ORDER and ORDER.index(module) < ORDER.index(importer))


def _top(name: str) -> str:
    return name.partition(".")[0]


def test_imports_go_one_way(sources: dict[str, str]) -> None:
    """Every import in the repository is of something that stands above, and frameworks stay where they may be."""
    assert wrong_imports(sources) == []


def test_every_folder_has_its_place() -> None:
    """The order names what there is; a folder that is still to come may be named too."""
    units = {file.stem for file in (ROOT / "compare").glob("*.py")} | {
        folder.parent.name for folder in (ROOT / "compare").glob("*/__init__.py")
    }
    assert units - {"__init__"} <= set(ORDER)
    assert set(ORDER) <= units


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("compare/storage.py", "from compare.config.case import Case"),
        ("compare/config/case.py", "from compare.judge import judge"),
        ("compare/workers/training.py", "def f():\n    from compare.sweep.judging import judge_case"),
        ("compare/judge/metrics.py", "def f():\n    from compare import run"),
        ("compare/run/plan.py", "from compare.api import run"),
        ("compare/report/html.py", "from compare.cli.output import command_line"),
        ("compare/cli/run.py", "import compare.pytest_plugin"),
        ("compare/workers/pool.py", "import torch"),
        ("compare/explain/observing.py", "def f():\n    import torch"),
        ("compare/run/training.py", "from keras_models import build"),
        ("compare/report/plots.py", "__import__('tensorflow')"),
        ("compare/judge/verdict.py", "import importlib\nimportlib.import_module(f'torch_models.{1}')"),
        ("compare/__init__.py", "from compare.judge import judge"),
        ("keras_models/weights.py", "from torch_models import build"),
        ("keras_models/weights.py", "import compare.config.case"),
        ("torch_models/weights.py", "import keras"),
    ],
    ids=lambda text: text.replace("compare/", "").replace("\n", " "),
)
def test_wrong_imports_are_found(sources: dict[str, str], file: str, line: str) -> None:
    """An import planted against the direction is named with its file."""
    (violation,) = wrong_imports(sources | {file: f"{sources[file]}\n\n{line}\n"})
    assert violation.startswith(f"{file} imports ")


def modules_after(statement: str) -> set[str]:
    """The top-level modules that a fresh process holds after a statement."""
    code = f"{statement}\nimport json, sys\nprint(json.dumps(list({{name.partition('.')[0] for name in sys.modules}})))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    return set(json.loads(done.stdout))


def test_importing_compare_is_quick() -> None:
    """`import compare` imports no framework, and none of what takes a second: pydantic, pandas, sklearn, matplotlib."""
    slow = {*FRAMEWORKS, "numpy", "pydantic", "pandas", "sklearn", "matplotlib", "scipy", "rich"}
    assert not modules_after("import compare") & slow
    assert "pydantic" in modules_after("import compare.config.case"), "the check sees what is imported"


def test_no_framework_comes_with_a_module() -> None:
    """Every module but the observers and readers can be imported without a framework coming with it."""
    files = [file.relative_to(ROOT) for file in sorted((ROOT / "compare").rglob("*.py"))]
    modules = [
        ".".join(file.with_suffix("").parts).removesuffix(".__init__")
        for file in files
        if not file.as_posix().startswith(OBSERVERS)
    ]
    assert "compare.judge.verdict" in modules
    assert not modules_after(f"import {', '.join(modules)}") & set(FRAMEWORKS)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package", "framework"), [("keras_models", "keras"), ("torch_models", "torch")], ids=["keras", "torch"]
)
def test_each_side_stands_alone(package: str, framework: str) -> None:
    """A side can be imported alone, with its framework and without the other side or the harness."""
    modules = modules_after(f"import os; os.environ['KERAS_BACKEND'] = 'torch'; import {package}")
    assert framework in modules
    others = {"keras_models", "torch_models", "compare", "tensorflow"} - {package}
    assert not modules & others


def test_public_names_are_found() -> None:
    """Each public name is the same class or function, or package that can be called; others raise AttributeError."""
    import compare

    assert compare.__all__
    for name in compare.__all__:
        assert callable(getattr(compare, name)), name
        assert getattr(compare, name) is getattr(compare, name)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = compare.nonsense
