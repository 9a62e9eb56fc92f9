"""A model as both directions of a port see it: calls in order, in Keras's vocabulary, and the layers that they use.

A call's kind is Keras's class of a layer ("LSTM", with the layer's configuration as Keras writes it) or, after "ops.",
a function of `keras.ops` ("ops.add"; a slice is "ops.get_item", whose second argument is the index). It holds no
framework's objects, and can be sent from process to process as a tree.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

# How values that JSON has not stand in a tree.
TENSOR, WEIGHT, SLICE, ELLIPSIS = "tensor", "weight", "slice", "ellipsis"


@dataclass(frozen=True)
class Tensor:
    """An output of a call: that with a number, where the call has several."""

    call: str
    number: int = 0


@dataclass(frozen=True)
class Weight:
    """A weight that a call is given as an argument: a layer's, by its name in that layer."""

    layer: str
    name: str


@dataclass
class Layer:
    """What has weights or a configuration: used by one call, or shared by several.

    Weights have Keras's own names and shapes, (in, out). `layers` are inner layers by their role, which have weights of
    their own: "cell", "forward_layer", "backward_layer", "layer" (TimeDistributed's), "cells/0". `graph` is what a
    nested model computes; `path` is where the weights stand in the whole graph, if not under the layer's name.
    """

    name: str
    kind: str
    config: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, np.ndarray] = field(default_factory=dict)
    frozen: tuple[str, ...] = ()
    layers: dict[str, "Layer"] = field(default_factory=dict)
    graph: "Graph | None" = None
    path: str = ""

    def all_weights(self) -> Iterator[tuple[str, np.ndarray]]:
        """The weights of the layer and of those inside it, by their paths: "cell/kernel"."""
        yield from self.weights.items()
        inner = {**self.layers, **({} if self.graph is None else self.graph.layers)}
        for role, layer in inner.items():
            yield from ((f"{role}/{name}", value) for name, value in layer.all_weights())

    def all_frozen(self) -> set[str]:
        """The paths of the weights that are not trained."""
        inner = {**self.layers, **({} if self.graph is None else self.graph.layers)}
        return set(self.frozen) | {f"{role}/{name}" for role, layer in inner.items() for name in layer.all_frozen()}


@dataclass
class Call:
    """One use of a layer or an operation.

    Arguments are trees whose leaves are `Tensor`, `Weight` or plain values; of each output there are the shape (None
    where it may be any size) and the dtype.
    """

    name: str
    kind: str
    arguments: tuple[Any, ...] = ()
    keywords: dict[str, Any] = field(default_factory=dict)
    layer: str | None = None
    shapes: tuple[tuple[int | None, ...], ...] = ()
    dtypes: tuple[str, ...] = ()

    def tensors(self) -> list[Tensor]:
        """The tensors that it is given, in order."""
        return [leaf for leaf in leaves([self.arguments, self.keywords]) if isinstance(leaf, Tensor)]


@dataclass
class Graph:
    """A model: its inputs are calls of kind "InputLayer"; `inputs` and `outputs` are trees of tensors.

    `masks` are those that Keras's losses apply, one for each output, None for those without.
    """

    name: str
    inputs: Any = None
    outputs: Any = None
    calls: list[Call] = field(default_factory=list)
    layers: dict[str, Layer] = field(default_factory=dict)
    masks: list[Tensor | None] = field(default_factory=list)

    def call(self, name: str) -> Call:
        """The call of a name."""
        return next(call for call in self.calls if call.name == name)

    def all_weights(self) -> Iterator[tuple[str, np.ndarray]]:
        """All weights by "layer/name"."""
        for name, layer in self.layers.items():
            yield from ((f"{name}/{path}", value) for path, value in layer.all_weights())

    def all_frozen(self) -> set[str]:
        """The weights that are not trained."""
        return {f"{name}/{path}" for name, layer in self.layers.items() for path in layer.all_frozen()}


def leaves(tree: Any) -> Iterator[Any]:
    """The leaves of lists, tuples and dicts, in order."""
    if isinstance(tree, Mapping):
        for value in tree.values():
            yield from leaves(value)
    elif isinstance(tree, list | tuple):
        for value in tree:
            yield from leaves(value)
    else:
        yield tree


def mapped(function: Callable[[Any], Any], tree: Any) -> Any:
    """The same tree of what a function makes of each leaf."""
    if isinstance(tree, Mapping):
        return {name: mapped(function, value) for name, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(mapped(function, value) for value in tree)
    return function(tree)


def as_tree(graph: Graph) -> dict[str, Any]:
    """A graph as a tree of JSON values and arrays."""
    return {
        "name": graph.name,
        "inputs": mapped(_written, graph.inputs),
        "outputs": mapped(_written, graph.outputs),
        "calls": [
            {**vars(call), "arguments": mapped(_written, call.arguments), "keywords": mapped(_written, call.keywords)}
            for call in graph.calls
        ],
        "layers": {name: _layer_tree(layer) for name, layer in graph.layers.items()},
        "masks": mapped(_written, graph.masks),
    }


def _layer_tree(layer: Layer) -> dict[str, Any]:
    inner = {role: _layer_tree(other) for role, other in layer.layers.items()}
    return {**vars(layer), "layers": inner, "graph": None if layer.graph is None else as_tree(layer.graph)}


def graph_of(tree: Mapping[str, Any]) -> Graph:
    """The graph of a tree that `as_tree` made."""
    return Graph(
        tree["name"],
        _read(tree["inputs"]),
        _read(tree["outputs"]),
        [
            Call(
                call["name"],
                call["kind"],
                tuple(_read(call["arguments"])),
                _read(call["keywords"]),
                call["layer"],
                tuple(tuple(shape) for shape in call["shapes"]),
                tuple(call["dtypes"]),
            )
            for call in tree["calls"]
        ],
        {name: _layer_of(layer) for name, layer in tree["layers"].items()},
        _read(tree["masks"]),
    )


def _layer_of(tree: Mapping[str, Any]) -> Layer:
    inner = {role: _layer_of(other) for role, other in tree["layers"].items()}
    graph = None if tree["graph"] is None else graph_of(tree["graph"])
    frozen, path = tuple(tree["frozen"]), tree["path"]
    return Layer(tree["name"], tree["kind"], tree["config"], tree["weights"], frozen, inner, graph, path)


def _written(leaf: Any) -> Any:
    if isinstance(leaf, Tensor):
        return {TENSOR: [leaf.call, leaf.number]}
    if isinstance(leaf, Weight):
        return {WEIGHT: [leaf.layer, leaf.name]}
    if isinstance(leaf, slice):
        return {SLICE: [_written(leaf.start), _written(leaf.stop), _written(leaf.step)]}
    return {ELLIPSIS: True} if leaf is Ellipsis else leaf


def _read(tree: Any) -> Any:
    if isinstance(tree, Mapping):
        if tree.keys() == {TENSOR}:
            return Tensor(*tree[TENSOR])
        if tree.keys() == {WEIGHT}:
            return Weight(*tree[WEIGHT])
        if tree.keys() == {SLICE}:
            return slice(*map(_read, tree[SLICE]))
        if tree.keys() == {ELLIPSIS}:
            return ...
        return {name: _read(value) for name, value in tree.items()}
    return [_read(value) for value in tree] if isinstance(tree, list | tuple) else tree
