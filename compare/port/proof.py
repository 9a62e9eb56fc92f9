"""A port proved: its weights taken back bit by bit, its outputs for random inputs, its training judged by `explain`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from compare.errors import InputError
from compare.explain.entry import explain_with
from compare.explain.nested import packed
from compare.explain.pair_file import read_pair
from compare.explain.processes import SideError, SideProcess, Sides
from compare.judge.verdict import Comparison, Difference
from compare.port.graph import Graph
from compare.port.random_data import TIME, batch_size, random_inputs, random_targets
from compare.port.torch_writer.module import Written
from compare.storage import write_json, write_tensors
from compare.workers.backends import REFERENCE_RUNNER

KERAS, TORCH = "compare.port.keras_reader.service:KerasSide", "compare.port.torch_runner.service:TorchSide"

# An output may differ by so many ulps of its tensor's largest number: sums of many products in another order.
ULPS = 20
ULP = 2.0**-23

# Of the training's data: so many batches an epoch, of which explain trains two.
BATCHES = 3

PAIR = '''"""The Keras model and what was written for it."""

FOLDER, HERE, SOURCE = {folder!r}, {here!r}, {source}
batch_size, epochs = {batch}, 2


def data():
    from pathlib import Path
    from compare.explain.nested import unpacked
    from compare.storage import read_json, read_tensors

    tree = unpacked(read_json(Path(HERE, "data.json")), read_tensors(Path(HERE, "data.safetensors")))
    return tree["inputs"], tree["targets"]


def keras_side():
    from compare.port.keras_reader.loading import named_model

    return named_model(SOURCE, compiled={compiled})


def torch_side():
    from compare.port.torch_runner.service import training_of

    return training_of(FOLDER)


def torch_predict(module, x):
    return module(*_list(x))


def torch_step(module, loss, optimizer, x, y):
    x = _list(x)
    return loss.train.train_step(module, optimizer, x if len(x) > 1 else x[0], y)


def _list(x):
    return [x[name] for name in {names!r}] if isinstance(x, dict) else list(x) if isinstance(x, list) else [x]


def _parameter_map():
    from compare.port.torch_writer.weights import parameter_map

    return parameter_map(f"{{HERE}}/places.npz")


parameter_map = _parameter_map()
'''


class PortSides(Sides):
    """The processes of a port: they read, write nothing, run, and are the sides of its proof."""

    def _start(self, runner: str) -> SideProcess:
        service = TORCH if runner == REFERENCE_RUNNER else KERAS
        side = SideProcess(runner, self.timeout, lambda what: self.on_doing(what), service)
        self._processes[runner] = side
        return side


def asked(side: SideProcess, action: str, **options: Any) -> Any:
    """What a side answers; raises InputError where it could not."""
    try:
        return side.ask(action, **options)
    except SideError as error:
        raise InputError(str(error)) from None


def compare_weights(sides: PortSides, folder: Path, written: Written, graph: Graph) -> Comparison:
    """Whether the written module's weights, taken back, are Keras's bit by bit."""
    tensors = asked(sides.torch, "state", folder=str(folder), class_name=written.class_name)
    back, differences = written.weights.back(tensors), []
    for path, value in graph.all_weights():
        if not np.array_equal(back[path], value, equal_nan=True):
            differences.append(Difference("differs", 0, "start", "the weight is not the same taken back", path))
    count = len(back)
    return _comparison(graph, "weights taken back", sides, count, differences)


def compare_outputs(
    sides: PortSides, folder: Path, written: Written, graph: Graph
) -> tuple[Comparison, list[np.ndarray]]:
    """Whether both compute the same of random inputs, as for a prediction; the second part are Keras's outputs."""
    rows = batch_size(graph)
    trees = [
        random_inputs(graph, rows, seed, time, whole)
        for seed, time, whole in ((1, TIME, False), (2, TIME, True), (3, TIME + 4, False))
    ]
    expected = asked(sides.keras, "predict", inputs=trees)
    given = [flat_inputs(graph, tree) for tree in trees]
    obtained = asked(sides.torch, "predict", folder=str(folder), class_name=written.class_name, inputs=given)
    differences, largest, checks = [], 0.0, 0
    for number, (ours, theirs) in enumerate(zip(expected, obtained, strict=True)):
        for index, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            checks += 1
            message, error, scale = _output_difference(a, b)
            largest = max(largest, error / (ULPS * ULP * scale))
            if message or error > ULPS * ULP * scale:
                told = message or f"output {index} for random inputs {number} is another"
                differences.append(
                    Difference("differs", number, "forward", told, f"output {index}", error / scale, ULPS * ULP)
                )
    comparison = _comparison(graph, "outputs in inference", sides, checks, differences, largest)
    return comparison, expected[0]


def _output_difference(a: np.ndarray, b: np.ndarray) -> tuple[str, float, float]:
    if a.shape != b.shape:
        return f"the output has shape {b.shape} in PyTorch and {a.shape} in Keras", 0.0, 1.0
    if not np.array_equal(np.isnan(a), np.isnan(b)):
        return "NaN stands on one side alone", 0.0, 1.0
    error = np.abs(np.nan_to_num(a.astype(np.float64)) - np.nan_to_num(b.astype(np.float64)))
    scale = float(np.max(np.abs(np.nan_to_num(a.astype(np.float64))), initial=0.0)) or 1.0
    return "", float(np.max(error, initial=0.0)), scale


def flat_inputs(graph: Graph, tree: Any) -> list[np.ndarray]:
    """The inputs as the written module takes them, one after the other."""
    if isinstance(tree, Mapping):
        return [tree[name] for name in graph.inputs]
    return list(tree) if isinstance(tree, list | tuple) else [tree]


def _comparison(
    graph: Graph, what: str, sides: Sides, checks: int, differences: Sequence[Difference], largest: float = 0.0
) -> Comparison:
    return Comparison(
        f"{graph.name}, {what}",
        sides.keras_runner,
        REFERENCE_RUNNER,
        "float32",
        "differs" if differences or not checks else "agrees",
        checks=checks,
        differences=list(differences),
        step_tolerance_ratio=largest,
    )


def compare_training(
    sides: PortSides,
    folder: Path,
    pair_folder: Path,
    written: Written,
    graph: Graph,
    source: Mapping[str, Any],
    training: Mapping[str, Any],
    compiled: bool,
    outputs: Sequence[np.ndarray],
) -> Comparison:
    """Whether both train alike: losses, gradients and updates of steps from the same weights, judged by `explain`.

    `outputs` are what Keras makes of a batch: the targets are like them.
    """
    rows = batch_size(graph)
    inputs = random_inputs(graph, rows * BATCHES, 11)
    shapes = [(rows * BATCHES, *output.shape[1:]) for output in outputs]
    targets = random_targets(graph, training["losses"], shapes, 12)
    tree = _like(graph.outputs, iter(targets))
    facts, arrays = packed({"inputs": inputs, "targets": tree})
    write_json(pair_folder / "data.json", facts)
    write_tensors(pair_folder / "data.safetensors", arrays)
    written.weights.save(pair_folder / "places.npz")
    file = pair_folder / f"{graph.name}.py"
    names = list(graph.inputs) if isinstance(graph.inputs, Mapping) else []
    text = PAIR.format(
        folder=str(folder), here=str(pair_folder), source=repr(dict(source)), batch=rows, compiled=compiled, names=names
    )
    file.write_text(text, "utf-8")
    return explain_with(sides, read_pair(str(file)))


def _like(tree: Any, values: Any) -> Any:
    """The targets in the form of the outputs."""
    if isinstance(tree, Mapping):
        return {name: _like(tree[name], values) for name in sorted(tree)}
    if isinstance(tree, list | tuple):
        return [_like(part, values) for part in tree]
    return next(values)
