"""Nothing flows back up: a module imports only what stands before it, and frameworks stay in the worker."""

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.paths import ROOT

# Modules in the order in which they may import one another; a package counts as one. The workers are not in it:
# nothing else imports them, and they alone import the sides.
WORKERS = ("sides", "worker", "pair_worker", "bench_worker")
ORDER = (
    "errors",
    "model_facts",
    "data_config",
    "case",
    "examples",
    "sampling",
    "datasets",
    "windows",
    "initial_weights",
    "storage",
    "start",
    "kept_side",
    "planted",
    "trace",
    "reference",
    "judge",
    "causes",
    "backends",
    "interpreters",
    "runners",
    "harness",
    "golden",
    "pair",
    "explain",
    "clean_cases",
    "power",
    "bench",
    "sweep",
    "report",
    "run_command",
    "golden_command",
    "bench_command",
    "sweep_command",
    "parity",
    "pytest_plugin",
    "__main__",
)
# Where a worker may be imported all the same: what imports it there runs in a process of its own.
ACTORS = "compare/sweep/on_ray.py"
SIDES = ("keras_models", "torch_models")
FRAMEWORKS = ("tensorflow", "torch", "jax", "keras")

# Which packages a side may not touch: it stands alone, with its own frameworks.
FORBIDDEN = {
    "keras_models": {"torch_models", "compare"},
    "torch_models": {"keras_models", "compare", "keras", "tensorflow", "jax"},
}


def imported(file: Path) -> Iterator[str]:
    """The dotted names that a file imports, anywhere in it, those given to import_module as text included."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative imports are not used here"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            called = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
            if called in ("__import__", "import_module"):
                texts = [part for part in ast.walk(node.args[0]) if isinstance(part, ast.Constant)]
                yield from (str(text.value) for text in texts)


def unit(file: Path, package: Path) -> str:
    """The module, or the package counting as one, that a file of a package belongs to."""
    first = file.relative_to(package).parts[0]
    return first.removesuffix(".py")


def wrong_imports(root: Path) -> list[str]:
    """Name every import that goes the wrong way in the packages under a root."""
    wrong = []
    for package in ("compare", *SIDES):
        files = sorted((root / package).rglob("*.py"))
        assert files, f"{root / package} has no source"
        for file in files:
            for name in imported(file):
                top, _, rest = name.partition(".")
                if (str(file.relative_to(root)), name) == (ACTORS, "compare.workers.training.load_runner"):
                    allowed = True
                elif package == "compare":
                    allowed = _allowed_in_compare(unit(file, root / "compare"), top, rest.partition(".")[0])
                else:
                    allowed = top not in FORBIDDEN[package]
                if not allowed:
                    wrong.append(f"{file.relative_to(root)} imports {name}")
    return wrong


def _allowed_in_compare(importer: str, top: str, module: str) -> bool:
    if top in (*SIDES, *FRAMEWORKS):
        return importer in WORKERS
    if top != "compare":
        return True
    if importer == "__init__":
        return False  # `import compare` is quick: its names are imported when first asked for
    if importer in WORKERS:
        return module in (*ORDER, *WORKERS)
    if module in WORKERS:
        return False
    assert importer in ORDER, f"compare/{importer} has no place in the order of imports; give it one here"
    return module == importer or (module in ORDER and ORDER.index(module) < ORDER.index(importer))


def test_imports_go_one_way() -> None:
    """Every import in the repository is of something that stands before, and frameworks are the worker's alone."""
    assert wrong_imports(ROOT) == []


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("compare/config/case.py", "from compare.judge import judge"),
        ("compare/data/windows.py", "import compare.run.harness"),
        ("compare/judge/completeness.py", "from compare.report.wording import place"),
        ("compare/judge/metrics.py", "def f():\n    from compare import runners"),
        ("compare/trace/trace.py", "import torch"),
        ("compare/run/harness.py", "from keras_models import build"),
        ("compare/report/plots.py", "__import__('tensorflow')"),
        ("compare/workers/pool.py", "from compare.workers.training import Side"),
        ("compare/sweep/cases.py", "from compare.workers.training import load_runner"),
        ("compare/sweep/on_ray.py", "from compare.workers.training import Side"),
        ("compare/explain/search.py", "from compare.explain.child import Worker"),
        ("compare/explain/processes.py", "import compare.explain.torch_observer.side"),
        ("compare/explain/causes/loss.py", "from compare.explain.matching import Match"),
        ("compare/workers/backends.py", "import importlib\nimportlib.import_module(f'torch_models.{1}')"),
        ("compare/__init__.py", "from compare.judge import judge"),
        ("keras_models/weights.py", "from torch_models import build"),
        ("keras_models/training.py", "import compare.config.case"),
        ("torch_models/training.py", "import keras"),
        ("torch_models/weights.py", "from compare.experiment.initial_weights import GATES"),
    ],
)
def test_wrong_imports_are_found(tmp_path: Path, file: str, line: str) -> None:
    """An import planted against the direction is named with its file."""
    for package in ("compare", *SIDES):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    planted = tmp_path / file
    planted.write_text(f"{planted.read_text('utf-8')}\n\n{line}\n", "utf-8")
    (found,) = wrong_imports(tmp_path)
    assert found.startswith(f"{file} imports ")


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


def test_the_harness_and_the_judge_import_no_framework() -> None:
    """Every module but the worker can be imported without a framework coming with it."""
    modules = [
        ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for file in sorted((ROOT / "compare").rglob("*.py"))
        if file.stem not in WORKERS
    ]
    assert "compare.judge.ensemble" in modules
    assert not modules_after(f"import {', '.join(modules)}") & set(FRAMEWORKS)


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
    """Each public name is the same class or function whenever it is asked for, and not a module of that name."""
    import compare

    assert compare.__all__
    for name in compare.__all__:
        first, second = getattr(compare, name), getattr(compare, name)
        assert callable(first), name
        assert first is second


def test_unknown_names_are_refused() -> None:
    """A name that the package does not have raises AttributeError, as of any module."""
    import compare

    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = compare.nonsense
