"""A Keras model as a graph: what was traced, in the words of compare/port/graph.py."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np
from keras.src.models.functional import Functional
from keras.src.ops.operation import Operation

from compare.errors import InputError
from compare.port import graph as g
from compare.port.keras_reader.tracing import Noted, Trace, is_opened, traced

# The inner layers of Keras's own by the attribute that holds them.
INNER = {
    "cell": "cell",
    "forward_layer": "forward_layer",
    "backward_layer": "backward_layer",
    "layer": "layer",
    "_query_dense": "query",
    "_key_dense": "key",
    "_value_dense": "value",
    "_output_dense": "output",
}
NO_TRAINING = (
    "call() of the model takes no `training`, so Keras trains it with its dropout and its batch normalisation as in "
    "inference; so does what was written"
)
WRAPPERS = ("RNN", "LSTM", "GRU", "SimpleRNN", "Bidirectional", "TimeDistributed", "MultiHeadAttention")


class Reader:
    """Reads one model; `variables` are Keras's by the names that the graph gives them."""

    def __init__(self, model: Any) -> None:
        self.trace = traced(model, symbolic_inputs(model))
        builder = _Builder(model.name, model)
        self.graph = builder.build(self.trace)
        self.variables = dict(builder.variables())
        self.notes: list[str] = []
        own = not isinstance(model, Functional | keras.Sequential)
        if own and not model._call_has_training_arg:
            changed = [_as_in_inference(layer) for layer in self.graph.layers.values()]
            self.notes += [NO_TRAINING] if any(changed) else []


def _as_in_inference(layer: g.Layer) -> bool:
    """Let a layer and those inside it compute in training what they do in inference; whether that is another thing."""
    changed = [_as_in_inference(inner) for inner in layer.layers.values()]
    if layer.graph is not None:
        changed += [_as_in_inference(inner) for inner in layer.graph.layers.values()]
    for name in ("rate", "dropout", "recurrent_dropout"):
        if layer.config.get(name):
            layer.config[name] = 0.0
            changed.append(True)
    if layer.kind == "BatchNormalization":
        layer.config["trainable"] = False
        changed.append(True)
    return any(changed)


def symbolic_inputs(model: Any) -> Any:
    """Fresh symbolic inputs as the model takes them; raises InputError where nobody knows their shapes."""
    try:
        described = model._inputs_struct if hasattr(model, "_inputs_struct") else model.inputs
    except (AttributeError, ValueError):
        described = None
    if described is not None:
        if isinstance(described, list | tuple) and len(described) == 1:
            described = described[0]
        return keras.tree.map_structure(_fresh, described)
    config = model.get_build_config() or {}
    shape = config.get("input_shape") or config.get("shapes_dict")
    if not shape:
        raise InputError(
            f"the model {model.name!r} ({type(model).__name__}) was never called, so nobody knows the shapes of its "
            "inputs: call it once, or build it, in the factory"
        )
    shapes = list(shape.values()) if isinstance(shape, Mapping) else [shape]
    if len(shapes) == 1 and all(isinstance(part, list | tuple) for part in shapes[0]):
        shapes = list(shapes[0])
    tensors = [keras.KerasTensor((None, *part[1:]), name=f"input_{i}") for i, part in enumerate(shapes)]
    return tensors[0] if len(tensors) == 1 else tensors


def _fresh(tensor: Any) -> Any:
    return keras.KerasTensor(tensor.shape, tensor.dtype, name=tensor.name)


class _Builder:
    """Names what was traced, and leaves out what no output needs."""

    def __init__(self, name: str, root: Any) -> None:
        self.graph = g.Graph(name)
        self.root = root
        self.objects: dict[str, Any] = {}
        self._inner: dict[int, _Builder] = {}
        self._names: dict[int, str] = {}
        self._tensors: dict[int, g.Tensor] = {}
        self._taken: set[str] = set()
        self._owners: dict[int, tuple[Any, str]] = {}
        for layer in root._flatten_layers() if hasattr(root, "_flatten_layers") else [root]:
            for variable in own_variables(layer):
                self._owners[id(variable)] = (layer, variable.name)

    def build(self, trace: Trace) -> g.Graph:
        """The graph of a trace."""
        for tensor in keras.tree.flatten(trace.inputs):
            name = self._unique(re.sub(r"\W", "_", tensor.name or "input"))
            self._tensors[id(tensor)] = g.Tensor(name)
            self.graph.calls.append(
                g.Call(name, "InputLayer", shapes=(tuple(tensor.shape),), dtypes=(str(tensor.dtype),))
            )
        wanted = [*keras.tree.flatten(trace.outputs), *(mask for mask in trace.output_masks if mask is not None)]
        for noted in _needed(trace, wanted):
            self.graph.calls.append(self._call(noted))
        self.graph.inputs = self._written(trace.inputs)
        self.graph.outputs = self._written(trace.outputs)
        self.graph.masks = [self._written(mask) for mask in trace.output_masks]
        return self.graph

    def variables(self) -> Iterator[tuple[str, Any]]:
        """Keras's variables by the graph's names, as `Graph.all_weights` has them."""
        for name, layer in self.objects.items():
            yield from ((f"{name}/{path}", variable) for path, variable in self._variables(layer))

    def _variables(self, layer: Any) -> Iterator[tuple[str, Any]]:
        """A layer's variables by their path in it, as `Layer.all_weights` of compare/port/graph.py has them."""
        if id(layer) in self._inner:
            yield from self._inner[id(layer)].variables()
            return
        yield from ((variable.name, variable) for variable in own_variables(layer))
        for role, inner in inner_layers(layer):
            yield from ((f"{role}/{path}", variable) for path, variable in self._variables(inner))

    def _read(self, layer: Any, inside: bool = False) -> g.Layer:
        """A layer with its configuration, its weights and what is inside it; `inside`: a wrapper's layer, or a cell."""
        if inside and is_opened(layer):
            return self._opened(layer)
        own = own_variables(layer)
        if "float" in layer.compute_dtype and layer.compute_dtype != "float32":
            raise InputError(f"{layer.name} computes in {layer.compute_dtype}; layers of float32 are known")
        return g.Layer(
            layer.name,
            type(layer).__name__,
            {} if is_opened(layer) else _config(layer),
            {variable.name: np.array(keras.ops.convert_to_numpy(variable)) for variable in own},
            tuple(variable.name for variable in own if not (variable.trainable and layer.trainable)),
            {role: self._read(inner, inside=True) for role, inner in inner_layers(layer)},
        )

    def _opened(self, layer: Any) -> g.Layer:
        """A user's own cell, or a model inside a wrapper, as a graph."""
        config: dict[str, Any] = {}
        if hasattr(layer, "state_size"):
            sizes = keras.tree.flatten(layer.state_size)
            config = {"state_sizes": sizes, "output_size": int(getattr(layer, "output_size", None) or sizes[0])}
            names = {1: ["h"], 2: ["h", "c"]}.get(len(sizes), [f"h{i + 1}" for i in range(len(sizes))])
            states = [keras.KerasTensor((None, n), name=name) for n, name in zip(sizes, names, strict=True)]
            x = keras.KerasTensor((None, *_built_for(layer)[1:]), name="x")

            def call(given: Any) -> Any:
                nested = given[1:] if isinstance(layer.state_size, list | tuple) or len(given) > 2 else [given[1]]
                return keras.tree.flatten(layer.call(given[0], list(nested)))

            trace = traced(layer, [x, *states], call)
        else:
            trace = traced(layer, symbolic_inputs(layer))
        builder = self._inner[id(layer)] = _Builder(layer.name, layer)
        return g.Layer(layer.name, type(layer).__name__, config, graph=builder.build(trace))

    def _unique(self, name: str) -> str:
        number, candidate = 1, name
        while candidate in self._taken:
            candidate, number = f"{name}_{number}", number + 1
        self._taken.add(candidate)
        return candidate

    def _layer(self, layer: Any) -> str:
        if id(layer) not in self._names:
            name = self._unique(layer.name)
            self._names[id(layer)] = name
            self.objects[name] = layer
            self.graph.layers[name] = self._read(layer)
        return self._names[id(layer)]

    def _call(self, noted: Noted) -> g.Call:
        operation = noted.operation
        outputs = list(keras.tree.flatten(noted.outputs))
        if isinstance(operation, keras.layers.Layer):
            layer: str | None = self._layer(operation)
            used = any(call.layer == layer for call in self.graph.calls)
            name = self._unique(f"{layer}_again") if used else str(layer)
            kind, config = type(operation).__name__, {}
        else:
            kind = f"ops.{_snake(type(operation).__name__)}"
            layer, name, config = None, self._unique(_snake(type(operation).__name__)), _own_config(operation)
        for number, tensor in enumerate(outputs):
            self._tensors[id(tensor)] = g.Tensor(name, number)
        keywords = {key: value for key, value in noted.keywords.items() if key != "training" and value is not None}
        if not any(part is not None for part in keras.tree.flatten(keywords.get("mask", [True]))):
            del keywords["mask"]
        return g.Call(
            name,
            kind,
            tuple(self._written(list(noted.arguments))),
            {key: self._written(value) for key, value in {**config, **keywords}.items()},
            layer,
            tuple(tuple(tensor.shape) for tensor in outputs),
            tuple(str(tensor.dtype) for tensor in outputs),
        )

    def _written(self, value: Any) -> Any:
        if isinstance(value, keras.KerasTensor):
            return self._tensors[id(value)]
        if id(value) in self._owners:
            layer, name = self._owners[id(value)]
            return g.Weight(self._layer(layer), name)
        if isinstance(value, Mapping):
            return {str(key): self._written(part) for key, part in value.items()}
        if isinstance(value, list | tuple):
            return [self._written(part) for part in value]
        if value is None or isinstance(value, bool | int | float | str | slice | type(...) | np.ndarray):
            return value
        if isinstance(value, np.generic):
            return value.item()
        if keras.ops.is_tensor(value) or isinstance(value, keras.Variable):
            return np.array(keras.ops.convert_to_numpy(value))
        return keras.saving.serialize_keras_object(value)


def _needed(trace: Trace, wanted: list[Any]) -> list[Noted]:
    """The calls that the outputs depend on, in their order."""
    needed = {id(tensor) for tensor in wanted}
    calls = []
    for noted in reversed(trace.calls):
        if any(id(tensor) in needed for tensor in keras.tree.flatten(noted.outputs)):
            calls.append(noted)
            given = keras.tree.flatten([list(noted.arguments), dict(noted.keywords)])
            needed |= {id(tensor) for tensor in given if isinstance(tensor, keras.KerasTensor)}
    return calls[::-1]


def own_variables(layer: Any) -> list[Any]:
    """The variables of numbers that a layer itself holds; the states of a stateful layer are none."""
    held = [*layer._trainable_variables, *layer._non_trainable_variables]
    return [v for v in held if "float" in keras.backend.standardize_dtype(v.dtype) and v.name != "rnn_state"]


def inner_layers(layer: Any) -> Iterator[tuple[str, Any]]:
    """The layers inside one of Keras's own, by their role."""
    if type(layer).__name__ in WRAPPERS or isinstance(layer, keras.layers.RNN):
        for attribute, role in INNER.items():
            inner = getattr(layer, attribute, None)
            if inner is not None:
                yield role, inner
    elif isinstance(layer, keras.layers.StackedRNNCells):
        yield from ((f"cells/{number}", cell) for number, cell in enumerate(layer.cells))


def _built_for(layer: Any) -> tuple[int | None, ...]:
    """The shape that a cell was built for."""
    config = layer.get_build_config() or {}
    shape = config.get("input_shape") or next(iter((config.get("shapes_dict") or {}).values()), None)
    if shape is None:
        raise InputError(f"nobody knows what the cell {layer.name!r} was built for; give it a build(input_shape)")
    return tuple(shape)


def _config(layer: Any) -> dict[str, Any]:
    try:
        config = keras.saving.serialize_keras_object(layer)["config"]
    except (TypeError, ValueError, NotImplementedError, KeyError):
        config = {"name": layer.name}
    for role, inner in inner_layers(layer):
        if role in config and not is_opened(inner):
            config[role] = {"class_name": type(inner).__name__, "config": _config(inner)}
    # Bidirectional sets it in both of its layers without a word of it in their configurations.
    if hasattr(layer, "zero_output_for_mask"):
        config["zero_output_for_mask"] = bool(layer.zero_output_for_mask)
    return config


def _own_config(operation: Operation) -> dict[str, Any]:
    """What an operation was made with: the axis of a mean."""
    held = getattr(operation, "_auto_config", None)
    config = dict(getattr(held, "config", None) or {})
    return {name: value for name, value in config.items() if name not in ("name", "dtype") or name == "dtype"}


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
