"""Keras's variables as PyTorch's parameters: linear maps by name, use, shape and known packings.

The maps are linear, so that gradients and updates are transferred by them too.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from compare.errors import InputError

Arrays = Mapping[str, np.ndarray]

USUAL = {
    "kernel": "weight",
    "gamma": "weight",
    "embeddings": "weight",
    "bias": "bias",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
NUMBERED = re.compile(r"_(l\d+(?:_reverse)?)$")
# Keras's gates z, r, h in PyTorch's order r, z, n.
GRU_ORDER = (1, 0, 2)


class Named(dict[str, np.ndarray]):
    """Keras's arrays, found by their path or by parts of it: "lstm/kernel" is sequential/lstm/lstm_cell/kernel."""

    def path(self, key: str) -> str:
        """The whole path of a name; raises KeyError."""
        if key in self:
            return key
        wanted = key.split("/")
        for path in self:
            parts = path.split("/")
            rest = iter(parts)
            if parts[-1] == wanted[-1] and all(part in rest for part in wanted):
                return path
        raise KeyError(f"{key!r}; Keras has {', '.join(map(repr, self))}")

    def __missing__(self, key: str) -> np.ndarray:
        return self[self.path(key)]


@dataclass(frozen=True)
class Map:
    """One PyTorch tensor as a linear function of Keras's arrays.

    `extra`: it is a second tensor for what Keras has once (the other bias): zero, with the gradient of its partner.
    """

    function: Callable[[Arrays], np.ndarray]
    paths: tuple[str, ...]
    extra: str = ""


@dataclass
class Transfer:
    """All maps by PyTorch name, and what has no counterpart: PyTorch's tensors, Keras's variables."""

    maps: dict[str, Map] = field(default_factory=dict)
    alone: list[str] = field(default_factory=list)
    unmatched: list[str] = field(default_factory=list)

    def weight(self, name: str, weights: Arrays, shape: Sequence[int]) -> np.ndarray:
        """The values of a PyTorch tensor for Keras's weights."""
        weight_map = self.maps[name]
        if weight_map.extra:
            return np.zeros(tuple(shape), np.float32)
        return np.asarray(weight_map.function(Named(weights)), np.float32).reshape(tuple(shape))

    def gradient(self, name: str, gradients: Arrays, shape: Sequence[int]) -> np.ndarray | None:
        """The gradient or movement of a PyTorch tensor for Keras's; None where Keras has none."""
        if name not in self.maps or any(path not in gradients for path in self.maps[name].paths):
            return None
        try:
            return np.asarray(self.maps[name].function(Named(gradients)), np.float64).reshape(tuple(shape))
        except (KeyError, ValueError):
            return None


def gates(array: np.ndarray, order: Sequence[int], axis: int = -1) -> np.ndarray:
    """The gates of a packed array in another order."""
    parts = np.split(array, len(order), axis)
    return np.concatenate([parts[i] for i in order], axis)


Group = dict[str, tuple[str, tuple[int, ...]]]


def transfer(
    variables: Mapping[str, tuple[int, ...]],
    parameters: Mapping[str, tuple[int, ...]],
    own: Mapping[str, Any],
) -> Transfer:
    """Find the maps; both sides' tensors in the order of their use, `own` is the user's `parameter_map`.

    Raises InputError where a tensor cannot hold what it should, with both names and shapes.
    """
    transferred = Transfer()
    asked = _own(transferred, variables, parameters, own)
    keras: dict[str, Group] = {}
    for path, shape in variables.items():
        if path not in asked:
            layer, _, name = path.rpartition("/")
            keras.setdefault(layer, {})[re.sub(r"[:#]\d+$", "", name)] = (path, shape)
    torch: dict[tuple[str, str], list[str]] = {}
    for name in parameters:
        if name not in transferred.maps:
            numbered = NUMBERED.search(name)
            layer = name.rpartition(".")[0]
            torch.setdefault((layer, numbered[1] if numbered else ""), []).append(name)
    left: list[list[str]] = []
    for names in torch.values():
        if not _fit_first(transferred, keras, names, parameters):
            left.append(names)
    _cells(transferred, keras, left, parameters)
    transferred.unmatched = [path for group in keras.values() for path, _ in group.values()]
    if left:
        _refuse(left, keras, parameters)
    return transferred


def _own(
    transferred: Transfer,
    variables: Mapping[str, tuple[int, ...]],
    parameters: Mapping[str, tuple[int, ...]],
    own: Mapping[str, Any],
) -> set[str]:
    """Take the user's own maps; returns the variables that they use."""
    asked: set[str] = set()
    probe = Named(
        {
            path: np.arange(np.prod(shape, dtype=int), dtype=np.float32).reshape(shape)
            for path, shape in variables.items()
        }
    )
    for name, source in own.items():
        if name not in parameters:
            raise InputError(f"parameter_map names {name!r}, which the module has not; it has {', '.join(parameters)}")
        used: set[str] = set()
        shape = parameters[name]
        if callable(source):
            function = source

            class Spy(Named):
                def __getitem__(self, key: str, used: set[str] = used) -> np.ndarray:
                    used.add(self.path(key))
                    return super().__getitem__(key)

            array = np.asarray(function(Spy(probe)))
            if tuple(array.shape) != tuple(shape):
                raise InputError(f"parameter_map[{name!r}] returned shape {array.shape}, {name} has {tuple(shape)}")
        else:
            try:
                path = probe.path(source)
            except KeyError as error:
                raise InputError(f"parameter_map[{name!r}] names {error.args[0]}") from None
            used.add(path)
            if "weight_" in name or "bias_" in name:
                continue  # a packed tensor goes with its layer
            function = _by_shape(path, variables[path], shape)
            if function is None:
                raise InputError(
                    f"parameter_map[{name!r}] names {source!r} of shape {variables[path]}, {name} has {tuple(shape)}"
                )
        transferred.maps[name] = Map(function, tuple(sorted(used)))
        asked |= used
    return asked


def _by_shape(path: str, shape: Sequence[int], wanted: Sequence[int]) -> Callable[[Arrays], np.ndarray] | None:
    """The map between two shapes: transposed where it fits, since Keras has (in, out)."""
    name = path.rpartition("/")[2]
    if len(shape) >= 2 and "embeddings" not in name and tuple(wanted) == tuple(shape[::-1]):
        return lambda v: v[path].T
    if tuple(shape) == tuple(wanted):
        return lambda v: v[path]
    small = [n for n in shape if n != 1], [n for n in wanted if n != 1]
    if small[0] == small[1]:
        return lambda v: v[path].reshape(wanted)
    if small[0] == small[1][::-1]:
        return lambda v: v[path].T.reshape(wanted)
    if np.prod(shape) == np.prod(wanted) and len(shape) == 3 and len(wanted) == 2 and wanted[1] == shape[0]:
        return lambda v: v[path].reshape(shape[0], -1).T  # (in, heads, size) of an attention
    return None


def _fit_first(
    transferred: Transfer, keras: dict[str, Group], names: list[str], shapes: Mapping[str, tuple[int, ...]]
) -> bool:
    for layer, group in keras.items():
        fitted = _fit_cell(group, names, shapes) or (
            {} if "recurrent_kernel" in group else _fit_plain(group, names, shapes)
        )
        if fitted:
            transferred.maps.update(fitted)
            used = {path for fit in fitted.values() for path in fit.paths}
            transferred.alone += [name for name in names if name not in fitted]
            rest = {name: entry for name, entry in group.items() if entry[0] not in used}
            del keras[layer]
            if rest:
                keras[f"{layer} (rest)"] = rest
            return True
    return False


def _fit_cell(group: Group, names: list[str], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Map]:
    """RNN, LSTM and GRU, as layers and cells: (in, gates·units) to weight_ih, weight_hh, two biases."""
    kernel, recurrent, bias = (group.get(name) for name in ("kernel", "recurrent_kernel", "bias"))
    inward = next((name for name in names if "weight_ih" in name), None)
    onward = next((name for name in names if "weight_hh" in name), None)
    if bias is not None and set(group) == {"bias"} and all("bias_" in name for name in names):
        return _fit_biases(bias, names, shapes)
    if kernel is None or recurrent is None or inward is None or onward is None:
        return {}
    if tuple(shapes[inward]) != kernel[1][::-1] or tuple(shapes[onward]) != recurrent[1][::-1]:
        return {}
    order = GRU_ORDER if kernel[1][1] == 3 * recurrent[1][0] else (0,)
    maps = {
        inward: Map(lambda v: gates(v[kernel[0]], order).T, (kernel[0],)),
        onward: Map(lambda v: gates(v[recurrent[0]], order).T, (recurrent[0],)),
    }
    return maps if bias is None else maps | _biases(bias, [name for name in names if "bias" in name], order)


def _row(path: str, row: int | None, order: Sequence[int]) -> Callable[[Arrays], np.ndarray]:
    """A bias, or a row of two biases, with its gates in an order."""
    return lambda v: gates(v[path] if row is None else v[path][row], order)


def _fit_biases(
    bias: tuple[str, tuple[int, ...]], names: list[str], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, Map]:
    """The biases of a recurrent layer whose kernels the user maps."""
    path, shape = bias
    if any(tuple(shapes[name]) != shape[-1:] for name in names):
        return {}
    order = GRU_ORDER if len(shape) == 2 or "gru" in path else (0,)
    return _biases(bias, names, order)


def _biases(bias: tuple[str, tuple[int, ...]], names: list[str], order: Sequence[int]) -> dict[str, Map]:
    """Two rows for two biases, as a GRU has them; one for the first, of which the second is an extra."""
    path, shape = bias
    if len(shape) == 2:
        return {name: Map(_row(path, int("bias_hh" in name), order), (path,)) for name in names}
    partners = {name: "" if "bias_ih" in name else name.replace("bias_hh", "bias_ih") for name in names}
    return {name: Map(_row(path, None, order), (path,), partner) for name, partner in partners.items()}


def _fit_plain(group: Group, names: list[str], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Map]:
    """One variable for each tensor: the usual name where there is one, else the first whose shape fits."""
    maps: dict[str, Map] = {}
    left = dict(group)
    for name in names:
        last = name.rpartition(".")[2]
        ordered = sorted(left, key=lambda other: USUAL.get(other) != last)
        for variable in ordered:
            path, shape = left[variable]
            if USUAL.get(variable, last) != last and last in USUAL.values():
                continue
            function = _by_shape(path, shape, shapes[name])
            if function is not None:
                maps[name] = Map(function, (path,))
                del left[variable]
                break
        else:
            if last != "bias":
                return {}
    return maps


def _cells(
    transferred: Transfer, keras: dict[str, Group], left: list[list[str]], shapes: Mapping[str, tuple[int, ...]]
) -> None:
    """Hand-written cells: one matrix for input and state, as tutorials have it."""
    for names in list(left):
        for layer, group in list(keras.items()):
            kernel, recurrent, bias = (group.get(name) for name in ("kernel", "recurrent_kernel", "bias"))
            if kernel is None or recurrent is None:
                continue
            joined = (kernel[1][0] + recurrent[1][0], kernel[1][1])
            for name in names:
                if tuple(shapes[name]) in (joined, joined[::-1]):
                    turned = tuple(shapes[name]) == joined[::-1]
                    transferred.maps[name] = Map(_stacked(kernel[0], recurrent[0], turned), (kernel[0], recurrent[0]))
                    for other in names:
                        if other != name and bias is not None and tuple(shapes[other]) == bias[1]:
                            transferred.maps[other] = Map(_row(bias[0], None, (0,)), (bias[0],))
                    del keras[layer]
                    left.remove(names)
                    break
            if names not in left:
                break


def _stacked(kernel: str, recurrent: str, turned: bool) -> Callable[[Arrays], np.ndarray]:
    """One matrix for input and state."""

    def stack(v: Arrays) -> np.ndarray:
        matrix = np.concatenate([v[kernel], v[recurrent]])
        return matrix.T if turned else matrix

    return stack


def _refuse(left: list[list[str]], keras: dict[str, Group], shapes: Mapping[str, tuple[int, ...]]) -> None:
    ours = ", ".join(f"{name} {tuple(shapes[name])}" for names in left for name in names)
    theirs = (
        ", ".join(f"{path} {shape}" for group in keras.values() for path, shape in group.values()) or "nothing more"
    )
    raise InputError(
        f"no weights of the Keras model fit PyTorch's {ours}; Keras has {theirs}: make both models of the same sizes, "
        "or give parameter_map"
    )
