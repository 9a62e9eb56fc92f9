"""How a module's parameters get Keras's weights, in the order in which both sides use them, and what is left over."""

import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from compare.errors import InputError
from compare.explain.alignment import Index, Value, trivial
from compare.explain.batches import named
from compare.explain.step_comparison import UNIT, UNITS
from compare.explain.torch_observer.checked_steps import Training, Work
from compare.explain.torch_observer.parameter_uses import parameter_uses
from compare.explain.torch_observer.recorder import Recorder
from compare.explain.torch_observer.unseen import unseen
from compare.explain.transfer import Transfer, transfer
from compare.explain.weight_maps import Maps

MOST_TOLD = 4
# Seconds of the processor's for what names and shapes leave open, and how near a loss is Keras's: two random networks
# are never so near, and rounding is never so far off.
BUDGET = 40.0
NEAR = 1e-4
LIKE = 1e-2  # so near are gradients, by their largest number
# The loss and all gradients are Keras's.
SETTLED = (True, 1.0, 0)
SCALINGS = ("div", "__truediv__", "true_divide", "mul", "__mul__", "__rmul__", "multiply", "divide", "__itruediv__")


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
    work.loss_scale = _loss_scale(work, recorder)
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
    variables = {path: tuple(shape) for path, shape in work.trace["variables"].items()}
    inputs = [name for name, _ in named("x", work.inputs)]

    def transferred(names: list[str]) -> tuple[Transfer, dict[str, tuple[int, ...]], list[str]]:
        shapes = {name: tuple(training.named[name].shape) for name in names}
        maps = transfer(variables, shapes, own_map, parameter_uses(recorder.operations, names, inputs))
        return maps, shapes, [path for path in maps.unmatched if path in work.trace["trainable"] and not _is_lone(path)]

    maps, shapes, left = transferred(names)
    if left and unused:  # a layer that is made, and whose call is forgotten: all in the order in which they are made
        maps, shapes, left = transferred(list(training.named))
    lone = [path for path in maps.unmatched if _is_lone(path)]
    if left:
        ours = ", ".join(f"{path} {variables[path]}" for path in left)
        theirs = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise InputError(f"no PyTorch parameters are left for Keras's {ours}; PyTorch has {theirs}: give parameter_map")
    notes = [f"the module's {', '.join(unused[:MOST_TOLD])} is never used"] if unused else []
    return ModuleTransfer(maps, lone, notes + unseen(work, maps, training))


def _is_lone(path: str) -> bool:
    """Whether a variable may be one that only Keras has."""
    return path.rpartition("/")[2].startswith(("bias", "beta"))


def _loss_scale(work: Work, recorder: Recorder) -> float:
    """What the loss is multiplied by before `backward`, where Keras takes the mean gradient of several batches."""
    scale = 1.0
    key = recorder.loss
    while work.accumulate > 1 and key is not None and isinstance(key[0], int):
        operation = recorder.operations[key[0]]
        numbers = [each for each in operation.arguments if isinstance(each, int | float)]
        if operation.name not in SCALINGS or len(numbers) != 1 or len(operation.inputs) != 1 or not numbers[0]:
            break
        scale *= 1 / numbers[0] if "div" in operation.name else numbers[0]
        if abs(scale * work.accumulate - 1) < NEAR:
            return 1 / work.accumulate
        key = operation.inputs[0]
    return 1.0


def chosen_by_values(work: Work) -> Generator[dict[str, Any], Any, list[str]]:
    """Settle what names and shapes leave open: the maps under which the loss is Keras's, else most that comes before.

    `work.transfer` stays as it is where no other makes more of the forward pass Keras's. Returns notes.
    """
    transferred = work.transfer
    if not transferred.choices:
        return []
    best = _agreement(work, None)
    if best >= SETTLED:
        return []
    values = yield {"action": "operations", "step": 0}
    index = Index([Value(**value) for value in values])
    began = time.process_time()
    best = best if best[0] else _agreement(work, index)
    open_choices: list[str] = []
    for about, options in transferred.choices:
        kept: Maps = {name: transferred.maps[name] for option in options for name in option}
        for option in options:
            if best >= SETTLED or time.process_time() - began > BUDGET:
                break
            transferred.maps.update(option)
            now = _agreement(work, index)
            if now > best:
                best, kept = now, {**kept, **option}
        transferred.maps.update(kept)
        if best < SETTLED:
            open_choices.append(about)
    if best[0]:
        return []
    return [f"which of Keras's weights are those of {about} was decided by names and order" for about in open_choices]


def _agreement(work: Work, index: Index | None) -> tuple[bool, float, int]:
    """Whether the loss is Keras's; of how many tensors the gradients are too; how many of the values before it are.

    A loss that hardly depends on the network is near Keras's with the weights in any order: the gradients tell.
    """
    keras, recorder = work.steps[0], Training(work).forward(0).recording
    wanted = (keras["loss"], keras["loss"] - keras["penalty"])
    if any(abs(recorder.loss_value - loss) <= NEAR * abs(loss) for loss in wanted):
        return True, _near_gradients(work), 0
    count = 0
    for operation in recorder.operations if index is not None else ():
        for value in operation.outputs:
            if index is not None and value.dtype.kind == "f" and value.size > 1 and not trivial(value):
                scale = float(abs(value).max())
                count += index.find(value, 4 * UNITS * UNIT * scale, scrambled=False) is not None
    return False, 0.0, count


def _near_gradients(work: Work) -> float:
    """The share of tensors whose gradients are Keras's."""
    gradients, step = work.steps[0]["gradients"], Training(work).step(0)
    near: list[bool] = []
    largest = max((float(np.max(np.abs(value), initial=0.0)) for value in gradients.values()), default=0.0)
    for name, own in step.own.items():
        wanted = None if own is None else work.transfer.gradient(name, gradients, own.shape)
        if wanted is not None and not work.transfer.maps[name].extra:
            room = LIKE * float(np.max(np.abs(wanted), initial=0.0)) + UNITS * UNIT * largest
            near.append(bool(np.max(np.abs(own - wanted), initial=0.0) <= room))
    return sum(near) / len(near) if near else 1.0
