"""Port a PyTorch module: read in one process, built and proved in another, written where both agree."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

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


class TorchSides:
    """The processes of a port: the module's, and one of Keras's for each backend."""

    def __init__(self, backends: Sequence[str], timeout: float, on_doing: Callable[[str], None]) -> None:
        self.runners = [keras_runner(backend) for backend in backends]
        self.torch = SideProcess(REFERENCE_RUNNER, timeout, on_doing, TORCH_SERVICE)
        self.keras = [SideProcess(runner, timeout, on_doing, KERAS_SERVICE) for runner in self.runners]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for side in (self.torch, *self.keras):
            side.process.end()


def port_torch(source: Source, to: Path, options: Options, on_doing: Callable[[str], None]) -> Ported:
    """Port what a factory makes into a folder that is there and empty.

    Raises InputError, with the user's line, for what has no counterpart in Keras.
    """
    where = f"{source.file}:{source.factory}"
    if not options.examples:
        raise InputError(
            f"{where}: give the shape of each input, the batch first: --example 32,10,1; "
            "--example '32,10:int<5000' for whole numbers"
        )
    if options.weights is not None or options.own is not None:
        raise InputError(f"{where} is a PyTorch module: --weights and --with are for Keras models")
    examples(options.examples)
    with TorchSides(options.backends, options.timeout, on_doing) as sides:
        return kept(port_with(sides, source, to, options, on_doing), to, options)


def port_with(sides: TorchSides, source: Source, to: Path, options: Options, on_doing: Callable[[str], None]) -> Ported:
    """Write a module's port into a folder and prove it, with processes that stay for the next one."""
    try:
        on_doing("PyTorch reads the module")
        answer = sides.torch.ask("read", file=str(source.file), factory=source.factory, shapes=list(options.examples))
        trains = write(to, answer, sides, on_doing)
        comparisons = []
        for runner, side in zip(sides.runners, sides.keras, strict=True):
            on_doing(f"outputs and training are compared with {runner}")
            comparisons.append(prove(Observed(sides.torch, side, answer, trains), source.name, runner))
    except SideError as error:
        raise InputError(f"{source.file}:{source.factory}: {error}") from None
    return Ported(TORCH_TO_KERAS, to, comparisons, answer["notes"])


def write(folder: Path, answer: dict[str, Any], sides: TorchSides, on_doing: Callable[[str], None]) -> bool:
    """Write all files; the first backend builds and saves the model, others load it; whether train.py is one."""
    graph = graph_of(answer["graph"])
    lines = {name: (int(line), str(target)) for name, (line, target) in answer["lines"].items()}
    title = f"{answer['class']} in Keras, ported from PyTorch."
    text, answer["variables"] = model_code(graph, lines, title)
    write_text(folder / "model.py", text)
    on_doing("the Keras model is built")
    first, *others = sides.keras
    built = first.ask("build", folder=str(folder), graph=answer["graph"])
    for side, equal in [(first, built["equal"]), *((side, _loaded(side, folder, answer)) for side in others)]:
        if not equal:
            raise InputError(f"model.keras has other weights than the module when it is loaded with {side.runner}")
    paths = built["paths"]
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
        first.ask("save_optimizer", slots=slots)
        write_training(True)
    return True


def _loaded(side: SideProcess, folder: Path, answer: Mapping[str, Any]) -> bool:
    return bool(side.ask("load", folder=str(folder), graph=answer["graph"])["equal"])
