"""The maps of one Keras layer's variables to the tensors of a PyTorch module: dense and recurrent layers, attention."""

from collections.abc import Callable, Sequence

import numpy as np

from compare.explain.weight_maps import Arrays, Group, Map, Maps, Shape, Unit, gates

USUAL = {
    "kernel": "weight",
    "gamma": "weight",
    "embeddings": "weight",
    "bias": "bias",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
# Keras's gates z, r, h in PyTorch's order r, z, n.
GRU_ORDER = (1, 0, 2)
PROJECTIONS = ("query", "key", "value")


def by_shape(
    path: str, shape: Sequence[int], wanted: Sequence[int], inward: bool = False
) -> Callable[[Arrays], np.ndarray] | None:
    """The map between two shapes: transposed where it fits, since Keras has (in, out); `inward`: so has PyTorch."""
    name = path.rpartition("/")[2]
    if len(shape) >= 2 and "embeddings" not in name and not inward and tuple(wanted) == tuple(shape[::-1]):
        return lambda v: v[path].T
    if tuple(shape) == tuple(wanted):
        return lambda v: v[path]
    if len(shape) >= 2 and tuple(wanted) == tuple(shape[::-1]):
        return lambda v: v[path].T
    small = [n for n in shape if n != 1], [n for n in wanted if n != 1]
    if small[0] == small[1]:
        return lambda v: v[path].reshape(wanted)
    if small[0] == small[1][::-1]:
        return lambda v: v[path].T.reshape(wanted)
    if np.prod(shape) != np.prod(wanted) or len(shape) not in (2, 3) or len(wanted) != len(shape) - 1:
        return None
    if len(wanted) == 1:
        return lambda v: v[path].reshape(-1)  # (heads, size), a bias of attention
    if wanted[1] == shape[0]:
        return lambda v: v[path].reshape(shape[0], -1).T  # (in, heads, size)
    if wanted[0] == shape[2]:
        return lambda v: v[path].reshape(-1, shape[2]).T  # (heads, size, out)
    return None


def plain_maps(group: Group, unit: Unit) -> list[Maps]:
    """One variable for each tensor: the usual name where there is one, else the first whose shape fits."""
    if "recurrent_kernel" in group:
        return []
    maps: Maps = {}
    left = dict(group)
    for name in unit.names:
        last = name.rpartition(".")[2]
        ordered = sorted(left, key=lambda other: USUAL.get(other) != last)
        for variable in ordered:
            path, shape = left[variable]
            if USUAL.get(variable, last) != last and last in USUAL.values():
                continue
            function = by_shape(path, shape, unit.shapes[name], unit.use(name).inward is True)
            if function is not None:
                maps[name] = Map(function, (path,))
                del left[variable]
                break
        else:
            if last != "bias":
                return []
    return [maps] if maps else []


def packed_maps(group: Group, unit: Unit) -> list[Maps]:
    """RNN, LSTM and GRU, as layers and cells: (in, gates·units) to weight_ih, weight_hh, two biases."""
    names = unit.names
    kernel, recurrent, bias = (group.get(name) for name in ("kernel", "recurrent_kernel", "bias"))
    inward = next((name for name in names if "weight_ih" in name), None)
    onward = next((name for name in names if "weight_hh" in name), None)
    if bias is not None and set(group) == {"bias"} and all("bias_" in name for name in names):
        return _only_biases(bias, unit)
    if kernel is None or recurrent is None or inward is None or onward is None:
        return []
    if tuple(unit.shapes[inward]) != kernel[1][::-1] or tuple(unit.shapes[onward]) != recurrent[1][::-1]:
        return []
    order = GRU_ORDER if kernel[1][1] == 3 * recurrent[1][0] else (0,)
    maps = {
        inward: Map(lambda v: gates(v[kernel[0]], order).T, (kernel[0],)),
        onward: Map(lambda v: gates(v[recurrent[0]], order).T, (recurrent[0],)),
    }
    return [maps if bias is None else maps | _biases(bias, [name for name in names if "bias" in name], order)]


def _only_biases(bias: tuple[str, Shape], unit: Unit) -> list[Maps]:
    """The biases of a recurrent layer whose kernels the user maps."""
    path, shape = bias
    if any(tuple(unit.shapes[name]) != shape[-1:] for name in unit.names):
        return []
    order = GRU_ORDER if len(shape) == 2 or "gru" in path else (0,)
    return [_biases(bias, unit.names, order)]


def _biases(bias: tuple[str, Shape], names: list[str], order: Sequence[int]) -> Maps:
    """Two rows for two biases, as a GRU has them; one for the first, of which the second is an extra."""
    path, shape = bias
    if len(shape) == 2:
        return {name: Map(_row(path, int("bias_hh" in name), order), (path,)) for name in names}
    partners = {name: "" if "bias_ih" in name else name.replace("bias_hh", "bias_ih") for name in names}
    return {name: Map(_row(path, None, order), (path,), partner) for name, partner in partners.items()}


def _row(path: str, row: int | None, order: Sequence[int]) -> Callable[[Arrays], np.ndarray]:
    """A bias, or a row of two biases, with its gates in an order."""
    return lambda v: gates(v[path] if row is None else v[path][row], order)


def attention_group(keras: dict[str, Group], parent: str) -> Group:
    """The variables of a MultiHeadAttention's projections under names as query/kernel; empty where it is none."""
    parts = {part: keras.get(f"{parent}/{part}", {}) for part in (*PROJECTIONS, "attention_output")}
    if not all(parts[part] for part in PROJECTIONS):
        return {}
    return {f"{part}/{name}": entry for part, group in parts.items() for name, entry in group.items()}


def attention_maps(group: Group, unit: Unit) -> list[Maps]:
    """nn.MultiheadAttention, or one nn.Linear for queries, keys and values, which are (in, heads, size) in Keras."""
    maps: Maps = {}
    for name, wanted in unit.shapes.items():
        last = name.rpartition(".")[2]
        if name.endswith(("out_proj.weight", "out_proj.bias")):
            entry = group.get("attention_output/kernel" if last == "weight" else "attention_output/bias")
            function = None if entry is None else by_shape(*entry, wanted)
            if entry is not None and function is not None:
                maps[name] = Map(function, (entry[0],))
                continue
        elif last in ("in_proj_weight", "weight"):
            entries = [group[f"{part}/kernel"] for part in PROJECTIONS]
            if _joined_shape(entries) == tuple(wanted):
                maps[name] = _joined([path for path, _ in entries], kernel=True)
                continue
        elif last in ("in_proj_bias", "bias"):
            if all(f"{part}/bias" in group for part in PROJECTIONS):
                entries = [group[f"{part}/bias"] for part in PROJECTIONS]
                if sum(int(np.prod(shape)) for _, shape in entries) == wanted[0]:
                    maps[name] = _joined([path for path, _ in entries], kernel=False)
                    continue
        elif last[:2] in ("q_", "k_", "v_") and last.endswith("proj_weight"):
            path, shape = group[f"{PROJECTIONS['qkv'.index(last[0])]}/kernel"]
            function = by_shape(path, shape, wanted)
            if function is not None:
                maps[name] = Map(function, (path,))
                continue
        if "bias" not in last:
            return []
    return [maps]


def _joined_shape(entries: Sequence[tuple[str, Shape]]) -> Shape:
    return sum(int(np.prod(shape[1:])) for _, shape in entries), entries[0][1][0]


def _joined(paths: Sequence[str], kernel: bool) -> Map:
    """Projections one below the other."""

    def join(v: Arrays) -> np.ndarray:
        parts = [v[path].reshape(len(v[path]), -1).T if kernel else v[path].reshape(-1) for path in paths]
        return np.concatenate(parts)

    return Map(join, tuple(paths))
