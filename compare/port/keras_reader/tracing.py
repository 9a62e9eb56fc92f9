"""A Keras model called once with symbolic tensors, every layer and operation noted in the order in which it runs.

Nested models, and a user's own layers and models, are entered; so nothing depends on how a model was put together.
Masks are what Keras itself hands on: the operations that compute them are noted, and layers are given them.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import keras
from keras.src.backend.common.masking import get_keras_mask, set_keras_mask
from keras.src.models.functional import Functional
from keras.src.ops.operation import Operation

Layer = keras.layers.Layer
MASK_READERS = (keras.layers.Multiply, keras.layers.Maximum, keras.layers.Minimum)


@dataclass
class Noted:
    """A layer or an operation as it was called: `outputs` is a tree of symbolic tensors."""

    operation: Any
    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any]
    outputs: Any


@dataclass
class Trace:
    """What was noted; tensors are known by their identity, so they are kept."""

    calls: list[Noted] = field(default_factory=list)
    inputs: Any = None
    outputs: Any = None

    @property
    def output_masks(self) -> list[Any]:
        """The mask that goes with each output; None for those without."""
        return [get_keras_mask(tensor) for tensor in keras.tree.flatten(self.outputs)]


def traced(model: Any, inputs: Any, call: Callable[..., Any] | None = None) -> Trace:
    """Call a model (or what `call` calls) with symbolic inputs and note what it does."""
    trace = Trace(inputs=inputs)
    with _noting(trace):
        trace.outputs = _enter(model, (inputs,), {}) if call is None else call(inputs)
    return trace


def is_opened(layer: Any) -> bool:
    """Whether a layer is entered: a model, or a class that is not Keras's own."""
    entered = isinstance(layer, keras.Model | keras.layers.Lambda)
    return entered or not type(layer).__module__.startswith("keras.src")


def _enter(layer: Any, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> Any:
    """What a layer computes, from inside."""
    graph = layer if isinstance(layer, Functional) else getattr(layer, "_functional", None)
    if graph is not None:
        flat = graph._standardize_inputs(arguments[0])
        for tensor, mask in zip(flat, keras.tree.flatten(keywords.get("mask")), strict=False):
            if mask is not None:
                set_keras_mask(tensor, mask)
        outputs = graph._run_through_graph(flat)
        single = isinstance(outputs, list | tuple) and len(outputs) == 1
        return outputs[0] if single else outputs
    if not layer.built:
        with contextlib.suppress(Exception):
            layer.build(*(tuple(tensor.shape) for tensor in keras.tree.flatten(arguments)))
    return layer.call(*arguments, **keywords)


@contextlib.contextmanager
def _noting(trace: Trace) -> Iterator[None]:
    original_call, depth = Layer.__call__, 0

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        if depth == 0 and is_opened(layer) and not isinstance(layer, Functional | keras.Sequential):
            return _own_call(layer, args, kwargs)
        if depth == 0 and is_opened(layer):
            return _enter(layer, args, kwargs)
        return original_call(layer, *args, **kwargs)

    def noted(original: Callable[..., Any]) -> Callable[..., Any]:
        def symbolic_call(operation: Any, *args: Any, **kwargs: Any) -> Any:
            nonlocal depth
            if type(operation).__name__ == "ConvertToTensor" and args[0].dtype == operation.dtype:
                return args[0]  # as with numbers: the same tensor, with its mask
            masks = [get_keras_mask(tensor) for tensor in keras.tree.flatten(args)]
            depth += 1
            try:
                outputs = original(operation, *args, **kwargs)
            finally:
                depth -= 1
            if type(operation) is keras.layers.MultiHeadAttention:
                for tensor in (part for part in keras.tree.flatten([args, kwargs]) if hasattr(part, "_keras_mask")):
                    set_keras_mask(tensor, None)  # which it takes from what it is given, in Keras 3.15
            if depth == 0:
                if isinstance(operation, MASK_READERS):  # they look for masks themselves, and are not given any
                    kwargs = {**kwargs, "mask": masks}
                trace.calls.append(Noted(operation, args, kwargs, outputs))
            return outputs

        return symbolic_call

    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(Layer, "__call__", call))
        for owner in (Operation, Layer):
            stack.enter_context(mock.patch.object(owner, "symbolic_call", noted(owner.symbolic_call)))
        yield


def _own_call(layer: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """A user's own layer called as Keras calls it, with the mask of its input where it asks for one."""
    parameters = layer._call_signature.parameters
    given = dict(kwargs)
    if "mask" in parameters and given.get("mask") is None and args:
        mask = keras.tree.map_structure(get_keras_mask, args[0])
        if any(part is not None for part in keras.tree.flatten(mask)):
            given["mask"] = mask
    return _enter(layer, args, given)
