"""A graph as the text of a file: its classes, the functions they need, and where every weight goes."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from compare.port.graph import Call, Graph, Layer, Tensor, leaves
from compare.port.torch_writer import attention, bidirectional, features, normalization, recurrent, shapes
from compare.port.torch_writer.code import GENERATED, File, Module, Refused, identifier, unique
from compare.port.torch_writer.operations import operation
from compare.port.torch_writer.weights import WeightMap

HANDLERS = {
    **features.HANDLERS,
    **normalization.HANDLERS,
    **shapes.HANDLERS,
    **attention.HANDLERS,
    **dict.fromkeys(("LSTM", "GRU", "SimpleRNN", "RNN"), recurrent.recurrent),
    "Bidirectional": bidirectional.bidirectional,
}
# Layers that compute the same of every timestep by themselves: TimeDistributed says nothing more.
ANY_RANK = ("Dense", "Activation", "ReLU", "LeakyReLU", "ELU", "Embedding", "LayerNormalization")
FOLD, UNFOLD = "port.fold", "port.unfold"
# What differs from timestep to timestep, or counts them.
NOT_DISTRIBUTED = ("BatchNormalization", "Dropout", "SpatialDropout1D")
PACKING = "from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence"


@dataclass(frozen=True)
class Written:
    """A file that is ready: its text, the class of the model, the places of the weights, the names of the inputs."""

    text: str
    class_name: str
    weights: WeightMap
    inputs: list[str]
    masked: bool
    notes: list[str]


def write_module(graph: Graph) -> Written:
    """Write a model's file; raises Refused for what has no counterpart."""
    file = File(WeightMap(dict(graph.all_weights())))
    name = class_of(graph.name)
    write_class(graph, file, name, "", "", (), graph.all_frozen())
    placed = set(file.weights.indices)
    assert placed or not file.weights.shapes
    names = input_names(graph)
    masked = any(mask is not None for mask in graph.masks)
    return Written(_text(file, graph), name, file.weights, names, masked, file.notes)


def class_of(name: str) -> str:
    """A model's name as a class has it: "sentiment_model" is SentimentModel."""
    words = re.split(r"[\W_]+", re.sub(r"_\d+$", "", name))
    camel = "".join(word[:1].upper() + word[1:] for word in words if word)
    return camel if camel[:1].isalpha() else f"Model{camel}"


def input_names(graph: Graph) -> list[str]:
    """What the inputs are called: as the user did, else x."""
    names: list[str] = []
    tensors = [leaf for leaf in leaves(graph.inputs) if isinstance(leaf, Tensor)]
    for number, tensor in enumerate(tensors, 1):
        plain = "x" if len(tensors) == 1 else f"x{number}"
        names.append(unique(plain if GENERATED.match(tensor.call) else identifier(tensor.call), names))
    return names


def write_class(
    graph: Graph,
    file: File,
    name: str,
    path: str,
    prefix: str,
    init: Sequence[str] = (),
    frozen: Collection[str] = (),
) -> str:
    """Write the class of a graph into the file, `init` being its first lines; returns its name.

    `frozen` are weights of Keras's that are not trained.
    """
    graph = lowered(graph)
    module = Module(graph, file, path, prefix)
    module.init += init
    names = input_names(graph)
    tensors = [leaf for leaf in leaves(graph.inputs) if isinstance(leaf, Tensor)]
    for tensor, text in zip(tensors, names, strict=True):
        module.alias(tensor, text)
    for number, call in enumerate(graph.calls):
        module.number = number
        if call.kind != "InputLayer":
            _write(module, call)
    module.number = len(graph.calls)
    _finish(module)
    _freeze(module, frozen)
    return _add_class(module, name, names)


def _write(module: Module, call: Call) -> None:
    layer = None if call.layer is None else module.graph.layers[call.layer]
    if call.kind in (FOLD, UNFOLD):
        _fold(module, call)
    elif call.kind.startswith("ops."):
        operation(module, call)
    elif layer is not None and layer.graph is not None:
        _nested(module, call, layer)
    elif call.kind in HANDLERS:
        HANDLERS[call.kind](module, call)
    else:
        config = {} if layer is None else {k: v for k, v in layer.config.items() if isinstance(v, int | float | str)}
        needed = "write its counterpart, and port what is before and after it by itself"
        raise Refused(call, f"layers of this kind are not known here: {needed}", config)


def _nested(module: Module, call: Call, layer: Layer) -> None:
    assert layer.graph is not None
    assert call.layer is not None
    graph, name = layer.graph, call.layer
    attribute = module.attribute(name)
    if f"self.{attribute}" not in " ".join(module.init):
        prefix = f"{module.prefix}{attribute}."
        made = write_class(graph, module.file, class_of(layer.name), f"{module.path}{module.path_of(call)}", prefix)
        module.init.append(f"self.{attribute} = {made}()")
    given = [module.text(leaf) for leaf in leaves(call.arguments) if isinstance(leaf, Tensor)]
    module.assign(call, f"self.{attribute}({', '.join(given)})")


def _fold(module: Module, call: Call) -> None:
    x = module.text(call.arguments[0])
    if call.kind == FOLD:
        module.assign(call, f"{x}.flatten(0, 1)")
    else:
        like = module.text(call.arguments[1])
        module.assign(call, f"{x}.unflatten(0, {like}.shape[:2])")


def _finish(module: Module) -> None:
    """The last lines of forward(): masks of the outputs, for the loss, and what is returned."""
    masks = module.graph.masks
    if any(mask is not None for mask in masks):
        texts = ["None" if mask is None else module.text(mask) for mask in masks]
        module.line(f"self.output_masks = [{', '.join(texts)}]  # for the loss")
    returned = _returned(module, module.graph.outputs)
    last = module.forward[-1] if module.forward else ""
    if returned.isidentifier() and last.startswith(f"{returned} = "):
        module.forward[-1] = f"return {last.removeprefix(f'{returned} = ')}"
    else:
        module.line(f"return {returned}")


def _freeze(module: Module, frozen: Collection[str]) -> None:
    """Keep the tensors from training that Keras does not train; those of BatchNorm are none of PyTorch's parameters."""
    weights, by_owner = module.file.weights, dict[str, list[bool]]()
    for tensor in weights.indices:
        if not tensor.endswith(("running_mean", "running_var")):
            still = weights.only_zero(tensor) or all(path in frozen for path in weights.paths(tensor))
            by_owner.setdefault(tensor.rpartition(".")[0], []).append(still)
    for tensor in weights.indices:
        owner = tensor.rpartition(".")[0]
        paths = [path for path in weights.paths(tensor) if path in frozen]
        if owner and all(by_owner.get(owner, [False])) and paths:
            by_owner[owner] = [False]
            module.init.append(f"{access(owner)}.requires_grad_(False)")
            module.frozen.add(owner)
        elif paths and owner not in module.frozen and not tensor.endswith(("running_mean", "running_var")):
            module.init.append(f"{access(tensor)}.requires_grad_(False)")


def access(name: str, owner: str = "self") -> str:
    """A parameter or a module by its name, as Python reaches it."""
    return owner + "".join(f"[{part}]" if part.isdigit() else f".{part}" for part in name.split("."))


def _returned(module: Module, tree: Any) -> str:
    if isinstance(tree, dict):
        return "{" + ", ".join(f'"{name}": {_returned(module, part)}' for name, part in tree.items()) + "}"
    if isinstance(tree, list | tuple):
        inner = ", ".join(_returned(module, part) for part in tree)
        return f"{inner}," if len(tree) == 1 else inner
    return module.text(tree)


def _add_class(module: Module, name: str, inputs: list[str]) -> str:
    lines = [f"class {name}(nn.Module):", "    def __init__(self):", "        super().__init__()"]
    lines += [f"        {line}" for line in module.init]
    if any(mask is not None for mask in module.graph.masks):
        lines.append("        self.output_masks = None")
    lines += ["", f"    def forward(self, {', '.join(inputs)}):"]
    lines += [f"        {line}" for line in module.forward]
    if module.resets:
        lines += ["", "    def reset_states(self):", '        """Begin new sequences with the next batch."""']
        lines += [f"        {line}" for line in module.resets]
    text = "\n".join(lines)
    for known, other in module.file.classes.items():
        if re.sub(rf"\b{name}\b", known, text) == other:
            return known
    free = unique(name, {*module.file.classes, *module.file.helpers})
    module.file.classes[free] = re.sub(rf"\b{name}\b", free, text)
    return free


def _text(file: File, graph: Graph) -> str:
    body = "\n\n\n".join([*file.helpers.values(), *file.classes.values()])
    imports = [line for line in ("import math",) if re.search(r"\bmath\.", body)]
    imports += [""] if imports else []
    imports += ["import torch"] if re.search(r"\btorch\.", body) else []
    imports += ["from torch import nn"]
    imports += ["from torch.nn import functional as F"] if re.search(r"\bF\.", body) else []
    imports += [PACKING] if "pack_padded_sequence" in body else []
    title = f'"""The Keras model {graph.name!r} in PyTorch."""'.replace("'", "`")
    return "\n".join([title, "", *imports, "", "", body, ""])


# Lowering


def lowered(graph: Graph) -> Graph:
    """The graph with TimeDistributed as what it does: the layer inside, of all timesteps at once."""
    calls: list[Call] = []
    layers = dict(graph.layers)
    for call in graph.calls:
        layer = None if call.layer is None else graph.layers[call.layer]
        if layer is None or layer.kind != "TimeDistributed":
            calls.append(call)
            continue
        inner = layer.layers["layer"]
        assert call.layer is not None
        layers[call.layer] = Layer(call.layer, inner.kind, inner.config, inner.weights, inner.frozen, inner.layers)
        layers[call.layer].graph, layers[call.layer].path = inner.graph, f"{call.layer}/layer/"
        given = call.arguments[0]
        if inner.kind in ANY_RANK and inner.config.get("axis", -1) in (-1, [-1]):
            calls.append(Call(call.name, inner.kind, (given,), {}, call.layer, call.shapes, call.dtypes))
            continue
        if inner.kind in NOT_DISTRIBUTED:
            raise Refused(call, f"{inner.kind} in it works by the timestep; put it outside of TimeDistributed")
        shape = graph.call(given.call).shapes[given.number]
        dtype = graph.call(given.call).dtypes[given.number]
        folded, applied = f"{call.name}_folded", f"{call.name}_applied"
        calls += [
            Call(folded, FOLD, (given,), {}, None, ((None, *shape[2:]),), (dtype,)),
            Call(applied, inner.kind, (Tensor(folded),), {}, call.layer, ((None, *call.shapes[0][2:]),), call.dtypes),
            Call(call.name, UNFOLD, (Tensor(applied), given), {}, None, call.shapes, call.dtypes),
        ]
    return Graph(graph.name, graph.inputs, graph.outputs, calls, layers, graph.masks)
