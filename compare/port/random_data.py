"""Random inputs and targets of a model, for its proof: sequences of different lengths, tokens, and masks."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from compare.port.graph import Call, Graph, Tensor, leaves, mapped

# What stands for a size that may be any.
BATCH, TIME, FEATURES = 4, 7, 3
CLASSES = 10


def input_tensors(graph: Graph) -> list[Tensor]:
    """The inputs in order."""
    return [leaf for leaf in leaves(graph.inputs) if isinstance(leaf, Tensor)]


def batch_size(graph: Graph) -> int:
    """The size of a batch: that of a stateful model, else a small one."""
    fixed = [graph.call(tensor.call).shapes[0][0] for tensor in input_tensors(graph)]
    return next((size for size in fixed if size), BATCH)


def random_inputs(graph: Graph, rows: int, seed: int, time: int = TIME, whole: bool = False) -> Any:
    """A tree of inputs; `whole`: no timestep is masked."""
    draw = np.random.default_rng(seed)

    def draw_input(tensor: Tensor) -> np.ndarray:
        call = graph.call(tensor.call)
        shape = (rows, *_sizes(call.shapes[0][1:], time))
        vocabulary, padding = _vocabulary(graph, tensor), None if whole else _padding(graph, tensor)
        if vocabulary is not None or "int" in call.dtypes[0]:
            low = 1 if padding is not None else 0
            values = draw.integers(low, max(vocabulary or CLASSES, low + 1), shape).astype(np.float64)
        elif call.dtypes[0] == "bool":
            return draw.random(shape) < 0.7
        else:
            values = draw.normal(size=shape)
        if padding is not None and values.ndim >= 2:
            _pad(values, padding, draw)
        return values.astype(call.dtypes[0])

    return mapped(lambda leaf: draw_input(leaf) if isinstance(leaf, Tensor) else leaf, graph.inputs)


def _sizes(shape: Sequence[int | None], time: int) -> list[int]:
    return [time if i == 0 and size is None else FEATURES if size is None else size for i, size in enumerate(shape)]


def _pad(values: np.ndarray, padding: float, draw: np.random.Generator) -> None:
    """End rows early, and leave a timestep out here and there; every row keeps its first."""
    for row in values:
        row[int(draw.integers(1, len(row) + 1)) :] = padding
    holes = draw.random(values.shape[:2]) < 0.1
    holes[:, 0] = False
    values[holes] = padding


def _uses(graph: Graph, tensor: Tensor) -> list[Call]:
    """The calls that a tensor reaches through what does not change its numbers."""
    reached, calls = {tensor}, []
    for call in graph.calls:
        if any(given in reached for given in call.tensors()):
            calls.append(call)
            if call.kind in (
                "ops.get_item",
                "ops.cast",
                "ops.convert_to_tensor",
                "ops.squeeze",
                "ops.expand_dims",
                "Reshape",
                "ops.reshape",
                "ops.split",
                "ops.concatenate",
                "Concatenate",
            ):
                reached |= {Tensor(call.name, number) for number in range(len(call.shapes))}
    return calls


def _vocabulary(graph: Graph, tensor: Tensor) -> int | None:
    sizes = [
        int(graph.layers[call.layer].config["input_dim"])
        for call in _uses(graph, tensor)
        if call.kind == "Embedding" and call.layer is not None
    ]
    inner = [
        _vocabulary(layer.graph, input_tensors(layer.graph)[0])
        for call in _uses(graph, tensor)
        if call.layer is not None and (layer := _innermost(graph.layers[call.layer])).graph is not None
    ]
    known = [*sizes, *(size for size in inner if size is not None)]
    return min(known) if known else None


def _innermost(layer: Any) -> Any:
    return layer.layers["layer"] if layer.kind == "TimeDistributed" else layer


def _padding(graph: Graph, tensor: Tensor) -> float | None:
    """The number that masks a timestep of an input."""
    for call in _uses(graph, tensor):
        if call.kind == "Masking" and call.layer is not None:
            return float(graph.layers[call.layer].config.get("mask_value", 0.0))
        if call.kind == "ops.not_equal" and isinstance(call.arguments[1], int | float):
            return float(call.arguments[1])
    return None


def random_targets(
    graph: Graph, losses: Sequence[Mapping[str, Any]], shapes: Sequence[tuple[int, ...]], seed: int
) -> list[np.ndarray]:
    """Targets for each output, as its loss wants them; numbers for an output without one."""
    draw = np.random.default_rng(seed)
    names = {loss["output"]: loss["name"] for loss in losses}
    return [_target(names.get(number, ""), shape, draw) for number, shape in enumerate(shapes)]


def _target(loss: str, shape: tuple[int, ...], draw: np.random.Generator) -> np.ndarray:
    if loss == "sparse_categorical_crossentropy":
        return draw.integers(0, shape[-1], shape[:-1]).astype(np.int64)
    if loss == "categorical_crossentropy":
        return np.eye(shape[-1], dtype=np.float32)[draw.integers(0, shape[-1], shape[:-1])]
    if loss == "binary_crossentropy":
        return draw.integers(0, 2, shape).astype(np.float32)
    if loss == "kl_divergence":
        values = draw.random(shape)
        return (values / values.sum(-1, keepdims=True)).astype(np.float32)
    if loss in ("poisson", "mean_squared_logarithmic_error", "mean_absolute_percentage_error"):
        return draw.uniform(0.5, 2.0, shape).astype(np.float32)
    return draw.normal(size=shape).astype(np.float32)
