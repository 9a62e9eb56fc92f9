"""Port a PyTorch module: read in one process, built and proved in another, written where both agree."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from compare.errors import InputError
from compare.explain.processes import SideError, SideProcess
from compare.port.ensemble_proof import Observed, prove
from compare.port.examples import examples
from compare.port.graph import graph_of
from compare.port.keras_writer.code import model_code
from compare.port.keras_writer.training import training_code, unwritten, weights_of
from compare.port.ported import TORCH_TO_KERAS, Options, Ported, kept
from compare.port.source import Source
from compare.storage import write_text
from compare.workers.backends import REFERENCE_RUNNER, keras_runner

TORCH_SERVICE = "compare.port.torch_reader.service:TorchModule"
KERAS_SERVICE = "compare.port.keras_runner.service:KerasCode"


def port_torch(source: Source, to: Path, options: Options, on_doing: Callable[[str], None]) -> Ported:
    """Port what a factory makes into a folder that is there and empty.

    Raises InputError, with the user's line, for what has no counterpart in Keras.
    """
    where = f"{source.file}:{source.factory}"
    if not options.examples:
        raise InputError(
            f"{where}: give the shape of each input, the batch first: --example 32,10,1; "
            "--example 32,10:int<5000 for whole numbers"
        )
    if options.weights is not None or options.own is not None:
        raise InputError(f"{where} is a PyTorch module: --weights and --with are for Keras models")
    examples(options.examples)
    sides = [SideProcess(REFERENCE_RUNNER, options.timeout, on_doing, TORCH_SERVICE)]
    try:
        on_doing("PyTorch reads the module")
        answer = sides[0].ask("read", file=str(source.file), factory=source.factory, shapes=list(options.examples))
        trains = write(to, answer, sides, options, on_doing)
        comparisons = []
        for runner, side in zip(map(keras_runner, options.backends), sides[1:], strict=True):
            on_doing(f"outputs and training are compared with {runner}")
            comparisons.append(prove(Observed(sides[0], side, answer, trains), source.name, runner))
    except SideError as error:
        raise InputError(f"{where}: {error}") from None
    finally:
        for side in sides:
            side.process.end()
    return kept(Ported(TORCH_TO_KERAS, to, comparisons, answer["notes"]), to, options)


def write(
    folder: Path, answer: dict[str, Any], sides: list[SideProcess], options: Options, on_doing: Callable[[str], None]
) -> bool:
    """Write all files; the first backend builds and saves the model, others load it; whether train.py is one."""
    graph = graph_of(answer["graph"])
    lines = {name: (int(line), str(target)) for name, (line, target) in answer["lines"].items()}
    title = f"{answer['class']} in Keras, ported from PyTorch."
    write_text(folder / "model.py", model_code(graph, lines, title))
    on_doing("the Keras model is built")
    paths: dict[str, str] = {}
    for backend in options.backends:
        side = SideProcess(keras_runner(backend), options.timeout, on_doing, KERAS_SERVICE)
        sides.append(side)
        if not paths:
            paths = side.ask("build", folder=str(folder), graph=answer["graph"])["paths"]
        elif not side.ask("load", folder=str(folder), graph=answer["graph"])["equal"]:
            raise InputError(f"model.keras has other weights when it is loaded with Keras on {backend}")
    training = answer["training"]
    if training is None:
        return False
    missing = unwritten(training)
    if missing is not None:
        answer["notes"].append(f"train.py is not written: {missing}")
        answer["training"] = None
        return False
    slots = training["optimizer"]["slots"]
    rates, padding = (weights_of(each, paths) for each in (training["optimizer"]["rates"], answer["padding"]))
    title = f"Training of {answer['class']} as PyTorch does it."

    def write_training(trained: bool) -> None:
        write_text(folder / "train.py", training_code(training, rates, padding, trained, title))

    write_training(False)
    if slots:
        sides[1].ask("save_optimizer", slots=slots)
        write_training(True)
    return True
