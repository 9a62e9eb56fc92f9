"""How a module's parameters get Keras's weights, in the order in which both sides use them, and what is left over."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from compare.errors import InputError
from compare.explain.torch_observer.checked_steps import Training, Work
from compare.explain.torch_observer.unseen import unseen
from compare.explain.transfer import Transfer, transfer

MOST_TOLD = 4


@dataclass
class ModuleTransfer:
    """The maps, Keras's biases that PyTorch has not (`lone`), and notes for the reader."""

    transfer: Transfer
    lone: list[str]
    notes: list[str] = field(default_factory=list)


def module_transfer(work: Work, own_map: Mapping[str, Any]) -> ModuleTransfer:
    """Find the transfer; raises InputError, with names and shapes, where weights of Keras's are left over."""
    training = Training(work)
    recorder = training.forward(0).recording
    if recorder.loss is None:
        raise TypeError("torch_step() never calls backward(); compute the gradients of the loss in it")
    used = [key[0] for operation in recorder.operations for key in operation.inputs if isinstance(key[0], str)]
    order = {name: place for place, name in reversed(list(enumerate(used)))}
    layers: dict[str, int] = {}
    for name in training.named:
        layer = name.rpartition(".")[0]
        if name in order:
            layers[layer] = min(layers.get(layer, len(used)), order[name])
    names = [name for name in training.named if name.rpartition(".")[0] in layers or name in own_map]
    unused = [name for name in training.named if name not in names]
    names.sort(key=lambda name: layers.get(name.rpartition(".")[0], len(used)))
    shapes = {name: tuple(training.named[name].shape) for name in names}
    variables = {path: tuple(shape) for path, shape in work.trace["variables"].items()}
    maps = transfer(variables, shapes, own_map)
    lone = [path for path in maps.unmatched if path.rpartition("/")[2].startswith(("bias", "beta"))]
    left = [path for path in maps.unmatched if path not in lone and path in work.trace["trainable"]]
    if left:
        ours = ", ".join(f"{path} {variables[path]}" for path in left)
        theirs = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise InputError(f"no PyTorch parameters are left for Keras's {ours}; PyTorch has {theirs}: give parameter_map")
    notes = [f"the module's {', '.join(unused[:MOST_TOLD])} is never used"] if unused else []
    return ModuleTransfer(maps, lone, notes + unseen(work, maps, training))
