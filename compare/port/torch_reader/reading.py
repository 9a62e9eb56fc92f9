"""A PyTorch module as a graph in Keras's vocabulary: traced twice in training and once in evaluation, then lowered."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from compare.errors import InputError
from compare.port.examples import Example
from compare.port.graph import Call, Graph, Tensor, leaves, mapped
from compare.port.torch_reader.elementwise import FUNCTIONS
from compare.port.torch_reader.held import Fixed, Sym
from compare.port.torch_reader.layers import MODULES
from compare.port.torch_reader.lowering import Lowering
from compare.port.torch_reader.program import Program, Size, Value, evaluated, merged
from compare.port.torch_reader.tracer import trace

# Two sizes of a batch: no other size in a model should be one of them.
BATCHES = (5, 7)
DTYPES = {"float": "float32", "int": "int32", "bool": "bool"}


def read(module: Any, examples: Sequence[Example], name: str) -> Lowering:
    """Trace and lower a module; raises InputError, with the user's line, for what has no counterpart in Keras."""
    generator = np.random.default_rng(0)
    inputs = {batch: [each.array(batch, generator) for each in examples] for batch in BATCHES}
    program = merged(*(trace(module, inputs[batch], batch) for batch in BATCHES))
    program = evaluated(program, trace(module, inputs[BATCHES[0]], BATCHES[0], training=False))
    return lowered(program, examples, name)


def lowered(program: Program, examples: Sequence[Example], name: str) -> Lowering:
    """The graph of a program, with the batch first in every input and output."""
    low = Lowering(program, Graph(name))
    for number, example in enumerate(examples):
        own = low.unique(program.names[number] if number < len(program.names) else "input")
        axis = example.batch_axis
        rest = [size for i, size in enumerate(example.shape) if i != axis]
        low.graph.calls.append(Call(own, "InputLayer", shapes=((None, *rest),), dtypes=(DTYPES[example.kind],)))
        axes = (*range(1, axis + 1), 0, *range(axis + 1, len(example.shape)))
        low.values[number, 0] = low.new(Tensor(own), program.steps[number].shapes[0], axes)
        if axis:
            low.note(f"{own}: the batch is PyTorch's axis {axis}; in Keras it is the first, as everywhere")
    low.graph.inputs = [Tensor(call.name) for call in low.graph.calls]
    low.run(FUNCTIONS, MODULES)
    low.graph.outputs = mapped(lambda leaf: _output(low, leaf), program.outputs)
    _simplified(low.graph)
    _refuse_shared(low)
    taken = {program.tied.get(name, name) for weight_map in low.maps.values() for name in weight_map.names}
    unused = [
        name for name in program.parameters if name not in program.buffers and program.tied.get(name, name) not in taken
    ]
    if unused:
        low.note(f"never used in forward(), and left out: {', '.join(unused)}")
    return low


def _output(low: Lowering, leaf: Any) -> Tensor | None:
    if not isinstance(leaf, Value):
        if leaf is None:
            return None
        raise InputError("forward() returns a weight or a constant of its own beside what it computes")
    held = low.values[leaf.step, leaf.output]
    low.step = low.program.steps[leaf.step]
    if isinstance(held, Fixed):
        raise low.refusal("forward() returns a constant")
    sym = low.sym(held)
    low.output_axes.append(batch_axis(sym))
    return low.plain(batch_first(sym))


def batch_axis(sym: Sym) -> int:
    """PyTorch's axis of the batch; 0 where there is none, or a mixed one."""
    return next((axis for axis, size in enumerate(sym.seen) if isinstance(size, Size)), 0)


def batch_first(sym: Sym) -> Sym:
    """A value with its batch in front."""
    axis = batch_axis(sym)
    order = (axis, *(i for i in range(sym.rank) if i != axis)) if sym.rank else ()
    return Sym(sym.tensor, sym.shape, tuple(sym.axes[i] for i in order))


def _simplified(graph: Graph) -> None:
    """Leave out what no output needs, and states that nobody takes."""
    needed: set[str] = {leaf.call for leaf in leaves(graph.outputs) if isinstance(leaf, Tensor)}
    used: set[tuple[str | None, int]] = set()
    owners = {call.name: call.layer for call in graph.calls}
    for leaf in leaves(graph.outputs):
        if isinstance(leaf, Tensor):
            used.add((owners[leaf.call], leaf.number))
    for call in graph.calls[::-1]:
        if call.name in needed:
            needed |= {tensor.call for tensor in call.tensors()}
            used |= {(owners[tensor.call], tensor.number) for tensor in call.tensors()}
    graph.calls = [call for call in graph.calls if call.name in needed or call.kind == "InputLayer"]
    kept = {call.layer for call in graph.calls}
    graph.layers = {name: layer for name, layer in graph.layers.items() if name in kept}
    for name, layer in graph.layers.items():
        settings = layer.config.get("layer", layer.config)
        if "return_state" in settings and not any(owner == name and number for owner, number in used):
            del settings["return_state"]


def _refuse_shared(low: Lowering) -> None:
    """A tensor of the module that two layers would have each for itself would be trained apart."""
    owners: dict[str, tuple[str, str]] = {}
    for (layer, weight), weight_map in low.maps.items():
        for name in weight_map.names:
            name = low.program.tied.get(name, name)
            owner = owners.setdefault(name, (layer, weight))
            if owner != (layer, weight) and not (owner[0] == layer and "in_proj" in name):
                raise InputError(
                    f"{name} is used in two ways, for which Keras has a weight each ({'/'.join(owner)} and "
                    f"{layer}/{weight}); they would be trained apart"
                )
