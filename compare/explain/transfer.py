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
    "kernel": "weight", "gamma": "weight", "embeddings": "weight", "bias": "bias", "beta": "bias",
    "moving_mean": "running_mean", "moving_variance": "running_var",
}  # fmt: skip
NUMBERED = re.compile(r"_(l\d+(?:_reverse)?)$")
# Keras's gates z, r, h in PyTorch's order r, z, n.
GRU_ORDER = (1, 0, 2)


class Named(dict[str, np.ndarray]):
    """Keras's arrays, found by their whole path or by parts of it: "lstm/kernel" is sequential/lstm/lstm_cell/kernel."""

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

    def given(self, name: str, weights: Arrays, shape: Sequence[int]) -> np.ndarray:
        """The values of a PyTorch tensor for Keras's weights."""
        made = self.maps[name]
        if made.extra:
            return np.zeros(tuple(shape), np.float32)
        return np.asarray(made.function(Named(weights)), np.float32).reshape(tuple(shape))

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
    found = Transfer()
    asked = _own(found, variables, parameters, own)
    keras: dict[str, Group] = {}
    for path, shape in variables.items():
        if path not in asked:
            layer, _, name = path.rpartition("/")
            keras.setdefault(layer, {})[re.sub(r"[:#]\d+$", "", name)] = (path, shape)
    torch: dict[tuple[str, str], list[str]] = {}
    for name in parameters:
        if name not in found.maps:
            numbered = NUMBERED.search(name)
            layer = name.rpartition(".")[0]
            torch.setdefault((layer, numbered[1] if numbered else ""), []).append(name)
    left: list[list[str]] = []
    for names in torch.values():
        if not _fit_first(found, keras, names, parameters):
            left.append(names)
    _cells(found, keras, left, parameters)
    found.unmatched = [path for group in keras.values() for path, _ in group.values()]
    if left:
        _refuse(left, keras, parameters)
    return found


def _own(
    found: Transfer, variables: Mapping[str, tuple[int, ...]], parameters: Mapping[str, tuple[int, ...]],
    own: Mapping[str, Any],
) -> set[str]:  # fmt: skip
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

            made = np.asarray(function(Spy(probe)))
            if tuple(made.shape) != tuple(shape):
                raise InputError(f"parameter_map[{name!r}] returned shape {made.shape}, {name} has {tuple(shape)}")
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
        found.maps[name] = Map(function, tuple(sorted(used)))
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
    found: Transfer, keras: dict[str, Group], names: list[str], shapes: Mapping[str, tuple[int, ...]]
) -> bool:
    for layer, group in keras.items():
        fitted = _fit_cell(group, names, shapes) or (
            {} if "recurrent_kernel" in group else _fit_plain(group, names, shapes)
        )
        if fitted:
            found.maps.update(fitted)
            used = {path for made in fitted.values() for path in made.paths}
            found.alone += [name for name in names if name not in fitted]
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
    made = {
        inward: Map(lambda v: gates(v[kernel[0]], order).T, (kernel[0],)),
        onward: Map(lambda v: gates(v[recurrent[0]], order).T, (recurrent[0],)),
    }
    biases = [name for name in names if "bias" in name]
    for name in biases if bias is not None else ():
        assert bias is not None
        path = bias[0]
        if len(bias[1]) == 2:
            row = int("bias_hh" in name)
            made[name] = Map(lambda v, row=row, path=path: gates(v[path][row], order), (path,))
        else:
            partner = "" if "bias_ih" in name else name.replace("bias_hh", "bias_ih")
            made[name] = Map(lambda v, path=path: gates(v[path], order), (path,), partner)
    return made


def _fit_biases(
    bias: tuple[str, tuple[int, ...]], names: list[str], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, Map]:
    """The biases of a recurrent layer whose kernels the user maps."""
    path, shape = bias
    if any(tuple(shapes[name]) != shape[-1:] for name in names):
        return {}
    order = GRU_ORDER if len(shape) == 2 or "gru" in path else (0,)
    made = {}
    for name in names:
        if len(shape) == 2:
            made[name] = Map(lambda v, row=int("bias_hh" in name): gates(v[path][row], order), (path,))
        else:
            partner = "" if "bias_ih" in name else name.replace("bias_hh", "bias_ih")
            made[name] = Map(lambda v: gates(v[path], order), (path,), partner)
    return made


def _fit_plain(group: Group, names: list[str], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Map]:
    """One variable for each tensor: the usual name where there is one, else the first whose shape fits."""
    made: dict[str, Map] = {}
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
                made[name] = Map(function, (path,))
                del left[variable]
                break
        else:
            if last != "bias":
                return {}
    return made


def _cells(
    found: Transfer, keras: dict[str, Group], left: list[list[str]], shapes: Mapping[str, tuple[int, ...]]
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
                    function = lambda v, k=kernel[0], r=recurrent[0], t=turned: (  # noqa: E731
                        np.concatenate([v[k], v[r]]).T if t else np.concatenate([v[k], v[r]])
                    )
                    found.maps[name] = Map(function, (kernel[0], recurrent[0]))
                    for other in names:
                        if other != name and bias is not None and tuple(shapes[other]) == bias[1]:
                            found.maps[other] = Map(lambda v, p=bias[0]: v[p], (bias[0],))
                    del keras[layer]
                    left.remove(names)
                    break
            if names not in left:
                break


def _refuse(left: list[list[str]], keras: dict[str, Group], shapes: Mapping[str, tuple[int, ...]]) -> None:
    ours = ", ".join(f"{name} {tuple(shapes[name])}" for names in left for name in names)
    theirs = (
        ", ".join(f"{path} {shape}" for group in keras.values() for path, shape in group.values()) or "nothing more"
    )
    raise InputError(
        f"no weights of the Keras model fit PyTorch's {ours}; Keras has {theirs}: make both models of the same sizes, "
        "or give parameter_map"
    )
