"""A Keras model as PyTorch code: read, written, proved, and kept where it is proved or where that is not asked for."""

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from compare.errors import InputError
from compare.judge.verdict import Comparison
from compare.port.formatting import formatted
from compare.port.graph import Graph, graph_of
from compare.port.ported import KERAS_TO_TORCH, Options, Ported, kept
from compare.port.proof import PortSides, asked, compare_outputs, compare_training, compare_weights
from compare.port.source import Source
from compare.port.torch_writer.module import Written, write_module
from compare.port.torch_writer.training import optimizer_state, ordered_outputs, write_training
from compare.storage import write_tensors, write_text
from compare.workers.backends import version

# What Keras 3.15 says on torch of the second step of a stateful layer.
IN_PLACE = "modified by an inplace operation"
STATEFUL = "Keras cannot train stateful layers on torch; it was proved on tensorflow"

FILES = ("model.py", "weights.safetensors", "train.py", "optimizer.safetensors")


@dataclass
class Work:
    """A model that was read, and what was written of it into a folder."""

    source: dict[str, Any]
    graph: Graph
    training: Mapping[str, Any] | None
    written: Written
    folder: Path


def port_keras(source: Source, to: Path, options: Options, on_doing: Callable[[str], None]) -> Ported:
    """Port a Keras model into a folder that is there and empty; raises InputError for what cannot be ported."""
    try:
        ported = _on_each_backend(source, to, options, on_doing)
    except InputError:
        for file in to.iterdir():
            file.unlink()
        raise
    return kept(ported, to, options)


def _on_each_backend(source: Source, to: Path, options: Options, on_doing: Callable[[str], None]) -> Ported:
    """Write a model's port, and prove it on every backend that is asked for."""

    def port_on(backend: str, folder: Path) -> Ported:
        with PortSides(backend, options.timeout) as sides:
            sides.on_doing = on_doing
            return port_with(sides, source, folder, options, on_doing)

    backends = list(options.backends)
    try:
        ported = port_on(backends[0], to)
    except InputError as error:
        if IN_PLACE not in str(error) or backends != ["torch"] or version("tensorflow") is None:
            raise
        ported = port_on("tensorflow", to)
        ported = replace(ported, notes=[*ported.notes, STATEFUL])
    others: list[Comparison] = []
    for backend in backends[1:]:
        with tempfile.TemporaryDirectory() as folder:
            others += port_on(backend, Path(folder)).comparisons
    return replace(ported, comparisons=[*ported.comparisons, *others])


def port_with(sides: PortSides, source: Source, to: Path, options: Options, on_doing: Callable[[str], None]) -> Ported:
    """Write a model's port into a folder and prove it, with processes that stay for the next one."""
    asked_for = {
        "file": str(source.file),
        "factory": source.factory,
        "weights": None if options.weights is None else str(options.weights.resolve()),
        "own": None if options.own is None else str(options.own.resolve()),
        "trust": options.trust,
    }
    on_doing("Keras reads the model")
    content = asked(sides.keras, "read", source=asked_for)
    graph = graph_of(content["graph"])
    work = Work(asked_for, graph, content["training"], write_module(graph), to)
    write(work)
    on_doing("weights and outputs are compared")
    comparisons = [compare_weights(sides, to, work.written, graph)]
    comparison, outputs = compare_outputs(sides, to, work.written, graph)
    comparisons += [comparison, _training_proof(sides, work, outputs)]
    return Ported(KERAS_TO_TORCH, to, comparisons, [*content["notes"], *notes(work)])


def write(work: Work) -> None:
    """Write the module, its weights, and how it is trained."""
    write_text(work.folder / "model.py", formatted(work.written.text))
    arrays = dict(work.graph.all_weights())
    write_tensors(work.folder / "weights.safetensors", work.written.weights.of(arrays))
    if work.training is not None:
        state = optimizer_state(work.written, work.training["optimizer"])
        if state:
            write_tensors(work.folder / "optimizer.safetensors", state)
        text = write_training(work.graph, work.written, work.training, bool(state))
        write_text(work.folder / "train.py", formatted(text))


def _training_proof(sides: PortSides, work: Work, outputs: Sequence[np.ndarray]) -> Comparison:
    with tempfile.TemporaryDirectory() as name:
        pair, folder, training = Path(name), work.folder, work.training
        if training is None:  # the gradients are seen by a loss of our own
            training, folder = _plain(work), pair / "plain"
            folder.mkdir()
            for file in ("model.py", "weights.safetensors"):
                shutil.copy(work.folder / file, folder)
            write_text(folder / "train.py", write_training(work.graph, work.written, training, False))
        return compare_training(
            sides, folder, pair, work.written, work.graph, work.source, training, work.training is not None, outputs
        )


def _plain(work: Work) -> dict[str, Any]:
    """The training of a model that is not compiled, as `named_model` compiles it."""
    count = len(ordered_outputs(work.graph))
    loss = {"name": "mean_squared_error", "own": False, "config": {}, "reduction": "sum_over_batch_size"}
    config = {"learning_rate": 0.01}
    optimizer = {"class": "SGD", "own": False, "config": config, "schedule": None, "iterations": 0, "slots": {}}
    return {
        "losses": [{"output": number, "weight": None, **loss} for number in range(count)],
        "metrics": [],
        "optimizer": {**optimizer, "u_product": None},
        "penalties": {},
        "refused": [],
    }


def notes(work: Work) -> list[str]:
    """What a reader should know of what was written."""
    told = []
    if "Keras has one bias" in work.written.text:
        told.append("PyTorch's recurrent layers have a second bias: it is zero and is not trained")
    if work.training is None:
        told.append("the model is not compiled: there is no train.py; its gradients were compared under SGD and mse")
    elif work.training["metrics"]:
        told.append(f"metrics are not written: {', '.join(work.training['metrics'])}")
    return told
