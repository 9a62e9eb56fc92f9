"""The two model packages are read line beside line: the same files, the same public names in the same order."""

import ast
from collections.abc import Mapping

import pytest
from helpers.framework_processes import FrameworkProcesses
from helpers.paths import ROOT

PACKAGES = ("keras_models", "torch_models")

# Files of one side alone.
FILES = {
    "keras_models/backends": "Keras computes on three frameworks, each with a loop of its own",
    "keras_models/fast": "faster layers for Keras on torch; PyTorch's own are fast",
    "keras_models/fit": "PyTorch has no fit",
    "torch_models/blocks": "part of the update rules",
    "torch_models/clipping": "Keras's optimizers clip by themselves",
    "torch_models/ensemble": "the members of an ensemble are trained on the PyTorch side",
    "torch_models/stock": "Keras's own optimizers are the stock ones",
    "torch_models/update_rules": "Keras has its update rules",
}
# Public names of one side alone.
NAMES = {
    "keras_models/execution.PROBES": "PyTorch computes in the precision that a model has",
    "torch_models/execution.MARKS": "in Keras each backend has its own, in backends/",
    "torch_models/execution.operations_per_second": "what a machine can do is measured with torch alone",
    "keras_models/layers.AttachMask": "a PyTorch model takes its mask as an argument",
    "keras_models/layers.SharedDropout": "a PyTorch model multiplies by the mask itself",
    "keras_models/layers.SharedCellMasks": "a PyTorch model hands the masks to its cells itself",
    "keras_models/layers.inner": "nothing stands around a PyTorch layer",
    "keras_models/layers.directions": "in PyTorch no layer needs it: it stands in weights.py",
    "torch_models/layers.State": "Keras's states are lists",
    "torch_models/layers.MERGES": "Keras's Bidirectional merges",
    "torch_models/layers.ACTIVATIONS": "Keras knows activations by name",
    "torch_models/layers.EPSILON": "Keras's own default",
    "torch_models/layers.BATCH_MOMENTUM": "Keras's own default",
    "torch_models/layers.Stepped": "Keras's cells step through time",
    "torch_models/layers.build_layer": "Keras's layers have every option",
    "torch_models/layers.run": "Keras's layers run backwards, from states and over masks",
    "torch_models/layers.KerasBatchNorm": "Keras has it",
    "torch_models/losses.Loss": "Keras's losses know masks",
    "torch_models/model.Inputs": "Keras's inputs are symbols",
    "torch_models/model.Recurrent": "a functional Keras model needs no class",
    "torch_models/model.train_both_biases": "Keras has one bias",
    "keras_models/optimizers.SLOTS": "in PyTorch each update rule names its own",
    "keras_models/optimizers.set_learning_rate": "a PyTorch side is built anew for every case",
    "keras_models/schedules.build_schedule": "Keras's schedules are objects",
    "torch_models/schedules.scheduled_learning_rate": "PyTorch's schedules are computed here",
    "keras_models/single_step.layer_outputs": "a PyTorch model yields them: Recurrent.stages",
    "torch_models/training.compile_steps": "Keras has one for each backend, in backends/",
    "torch_models/training.total_loss": "Keras's compute_loss adds the penalty and heeds the mask",
    "torch_models/training.batches_of": "Keras's loops cut batches in the backend",
    "torch_models/weights.device_of": "a Keras backend computes on one device throughout",
    "torch_models/weights.directions": "Keras's layers.py needs it too: it stands there",
}
# Files of which the docstrings of what both sides have are the same too.
SAME_TEXT = ("model", "weights", "training", "single_step", "forecast", "dropout_probe", "execution")
# Functions that take something in one package that they do not in the other.
ARGUMENTS = {
    "model.build": "only a PyTorch model takes a sequence first",
    "optimizers.build_optimizer": "Keras has variables and PyTorch parameters, which has optimizers of its own too",
}
DOCSTRINGS = {
    "weights.layouts": "a Keras model may hold layers without a canonical form",
    "weights.Layout": "a PyTorch parameter may be transposed, and have a second bias",
    "model.build": "only a PyTorch model takes a sequence first, and each example imports its own package",
}


@pytest.fixture(scope="module")
def sources() -> dict[str, str]:
    """The text of the files of both packages, and of their folders, by path."""
    files = [file for package in PACKAGES for glob in ("*.py", "*/__init__.py") for file in (ROOT / package).glob(glob)]
    return {file.relative_to(ROOT).as_posix(): file.read_text("utf-8") for file in files}


def modules(sources: Mapping[str, str], package: str) -> dict[str, ast.Module]:
    """The files of a package and its folders, parsed, by name."""
    texts = {path.removeprefix(f"{package}/"): text for path, text in sources.items() if path.startswith(package)}
    names = {path.removesuffix("/__init__.py").removesuffix(".py"): text for path, text in texts.items()}
    return {name: ast.parse(text) for name, text in names.items() if name != "__init__"}


def public(module: ast.Module) -> dict[str, ast.AST]:
    """The public classes, functions and constants of a module, in order."""
    names: dict[str, ast.AST] = {}
    for node in module.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names[node.name] = node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id: node for target in targets if isinstance(target, ast.Name)}
    return {name: node for name, node in names.items() if not name.startswith("_")}


def arguments(node: ast.AST) -> list[str]:
    """The names of what a function takes, or a class when it is made, and their defaults."""
    if isinstance(node, ast.ClassDef):
        made = (inner for inner in node.body if isinstance(inner, ast.FunctionDef) and inner.name == "__init__")
        return arguments(next(made, ast.Pass()))
    if not isinstance(node, ast.FunctionDef):
        return []
    by_position, by_name = node.args.args, node.args.kwonlyargs
    defaults = [default and ast.unparse(default) for default in (*node.args.defaults, *node.args.kw_defaults)]
    return [argument.arg for argument in (*by_position, *by_name)] + [str(default) for default in defaults]


def differences(sources: Mapping[str, str]) -> list[str]:
    """Name every file and public name that only one package has, or has elsewhere, and exceptions that are none."""
    keras, torch = (modules(sources, package) for package in PACKAGES)
    alone = {f"keras_models/{name}" for name in keras.keys() - torch.keys()}
    alone |= {f"torch_models/{name}" for name in torch.keys() - keras.keys()}
    wrong = [f"{name} stands alone" for name in sorted(alone - FILES.keys())]
    wrong += [f"{name} is no exception" for name in sorted(FILES.keys() - alone)]
    alone = set()
    for name in sorted(keras.keys() & torch.keys()):
        first, second = public(keras[name]), public(torch[name])
        alone |= {f"keras_models/{name}.{own}" for own in first.keys() - second.keys()}
        alone |= {f"torch_models/{name}.{own}" for own in second.keys() - first.keys()}
        if [own for own in first if own in second] != [own for own in second if own in first]:
            wrong.append(f"{name} has its names in another order")
        wrong += [
            f"{name}.{own} takes other arguments"
            for own in first.keys() & second.keys()
            if arguments(first[own]) != arguments(second[own]) and f"{name}.{own}" not in ARGUMENTS
        ]
        if name in SAME_TEXT:
            wrong += [
                f"{name}.{own} has another docstring"
                for own in first.keys() & second.keys()
                if isinstance(first[own], ast.FunctionDef | ast.ClassDef)
                and ast.get_docstring(first[own]) != ast.get_docstring(second[own])
                and f"{name}.{own}" not in DOCSTRINGS
            ]
    wrong += [f"{name} stands alone" for name in sorted(alone - NAMES.keys())]
    wrong += [f"{name} is no exception" for name in sorted(NAMES.keys() - alone)]
    return wrong + settings_differences(sources)


def settings_differences(sources: Mapping[str, str]) -> list[str]:
    """Name the lines of settings.py that are not the same in both packages, but for the one field that may differ."""
    texts = []
    for package, other in (PACKAGES, PACKAGES[::-1]):
        text = sources[f"{package}/settings.py"].replace(other, "the other package")
        texts.append([line for line in text.splitlines() if line != "    sequence_first: bool"])
    return [
        f"settings.py: {first!r} is {second!r}" for first, second in zip(*texts, strict=False) if first != second
    ] + ([] if len(texts[0]) == len(texts[1]) else ["settings.py has another length"])


def test_the_packages_mirror_each_other(sources: dict[str, str]) -> None:
    """Whoever knows one package finds everything in the other."""
    assert differences(sources) == []


@pytest.mark.parametrize(
    ("file", "before", "after", "expected"),
    [
        ("torch_models/forecast.py", "@torch", "def forecast_quickly(): ...\n\n\n@torch", "forecast.forecast_quickly"),
        ("keras_models/training.py", "def checksums(", "def sums(", "training.checksums stands alone"),
        ("keras_models/losses.py", "LOSSES", "_LOSSES", "losses.LOSSES stands alone"),
        ("torch_models/extra.py", "", '"""Nothing."""', "torch_models/extra stands alone"),
        ("torch_models/weights.py", "Load canonical tensors", "Load", "weights.load_canonical has another docstring"),
        ("torch_models/training.py", "batch_size: int = 256", "size: int = 256", "predict takes other arguments"),
        ("keras_models/settings.py", "must be at least 1", "must be positive", "settings.py: "),
    ],
    ids=["name", "renamed", "hidden", "file", "docstring", "argument", "settings"],
)
def test_a_broken_mirror_is_found(sources: dict[str, str], file: str, before: str, after: str, expected: str) -> None:
    """What is planted in one package alone is named."""
    text = sources.get(file, "")
    assert before in text
    obtained = differences(sources | {file: text.replace(before, after) if before else after})
    assert any(expected in difference for difference in obtained), obtained


def test_an_exception_that_is_none_is_found(sources: dict[str, str]) -> None:
    """A file that is named as standing alone must be there."""
    without = {path: text for path, text in sources.items() if path != "torch_models/blocks.py"}
    assert differences(without) == ["torch_models/blocks is no exception"]


def test_another_order_is_found(sources: dict[str, str]) -> None:
    """Two functions that change places in one package are a difference."""
    text = sources["torch_models/execution.py"]
    start, end = text.index("def versions("), text.index("def threads(")
    planted = f"{text[:start]}{text[end:]}\n\n{text[start:end]}"
    assert differences(sources | {"torch_models/execution.py": planted}) == ["execution has its names in another order"]


@pytest.mark.parametrize("side", ["torch", "keras-torch"])
def test_examples_of_docstrings_work(frameworks: FrameworkProcesses, side: str) -> None:
    """What `build` shows as its example gives what stands there; another result is caught."""
    failed, attempted = frameworks.call(side, "mirror_probes.run_examples")
    assert (failed, attempted) == (0, 4)
    assert frameworks.call(side, "mirror_probes.run_examples", "(2, 5, 2)")[0] == 1
