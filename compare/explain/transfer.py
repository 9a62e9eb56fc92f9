"""Keras's variables as PyTorch's parameters: linear maps by name, use, shape and known packings.

The maps are linear, so that gradients and updates are transferred by them too. Where several fit (layers of one shape,
the gates of a cell that somebody wrote out), names decide; where they say nothing there are `choices`, and the values
decide.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, permutations
from typing import Any

import numpy as np

from compare.errors import InputError
from compare.explain.cell_maps import cell_maps, joined_unit, windows
from compare.explain.layer_maps import USUAL, attention_group, attention_maps, by_shape, packed_maps, plain_maps
from compare.explain.layer_names import likeness
from compare.explain.weight_maps import Arrays, Group, Map, Maps, Named, Shape, Unit, Use

NUMBERED = re.compile(r"_(l\d+(?:_reverse)?)$")
PACKED_NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
# So many modules and parameters make up one cell at most: a matrix for the input, one for the state and a bias a gate.
MOST_OF_A_CELL = 12
# Of so many layers of one shape all orders are tried; of more every exchange of two.
MOST_PERMUTED = 4

Fit = Callable[[Group, Unit], list[Maps]]


@dataclass
class Transfer:
    """All maps by PyTorch name, and what has no counterpart: PyTorch's tensors, Keras's variables.

    `choices` are what names and shapes leave open, in the order of use: each a list of other maps for some tensors, and
    what it is about.
    """

    maps: Maps = field(default_factory=dict)
    alone: list[str] = field(default_factory=list)
    unmatched: list[str] = field(default_factory=list)
    choices: list[tuple[str, list[Maps]]] = field(default_factory=list)

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


@dataclass
class Placed:
    """A unit with the Keras variables that it has, and its possible maps; `sure`: its name or the user tells which."""

    unit: Unit
    group: Group
    fit: Fit
    options: list[Maps]
    sure: bool

    @property
    def kind(self) -> tuple[Any, ...]:
        """What is the same for units that may have each other's variables."""
        shapes = [(name.rpartition(".")[2], shape) for name, shape in self.unit.shapes.items()]
        return self.fit, tuple(shapes), tuple(sorted((name, shape) for name, (_, shape) in self.group.items()))


class Matching:
    """Finds which unit of PyTorch's has which of Keras's layers; both in the order of their use."""

    def __init__(self, keras: dict[str, Group], pins: Mapping[str, str]) -> None:
        self.keras, self.pins = keras, pins
        self.placed: list[Placed] = []

    def place(self, unit: Unit, fit: Fit, groups: Mapping[str, Group], waiting: Sequence[Unit] = ()) -> bool:
        """Give a unit the layer that fits and that its name means, else the first that the name of no other means."""
        fitting = {layer: options for layer, group in groups.items() if (options := fit(group, unit))}
        if not fitting:
            return False
        layers = list(fitting)
        pinned = [place for place, layer in enumerate(layers) if self._pinned(unit, groups[layer])]
        alike = [likeness(unit.label, layers, place) if len(layers) > 1 else 0 for place in range(len(layers))]
        meant = [
            max((likeness(other.label, layers, place) for other in waiting), default=0) for place in range(len(layers))
        ]
        best = max(range(len(layers)), key=lambda place: (place in pinned, alike[place], -meant[place], -place))
        sure = bool(pinned) or (alike[best] > 0 and alike.count(alike[best]) == 1)
        self._take(unit, fit, groups[layers[best]], fitting[layers[best]], sure)
        return True

    def _pinned(self, unit: Unit, group: Group) -> bool:
        paths = {path for path, _ in group.values()}
        return any(self.pins.get(name) in paths for name in unit.names)

    def _take(self, unit: Unit, fit: Fit, group: Group, options: list[Maps], sure: bool) -> None:
        used = {path for each in options[0].values() for path in each.paths}
        taken = {name: entry for name, entry in group.items() if entry[0] in used}
        self.placed.append(Placed(unit, taken, fit, options, sure))
        for layer, others in list(self.keras.items()):
            rest = {name: entry for name, entry in others.items() if entry[0] not in used}
            if not rest:
                del self.keras[layer]
            elif len(rest) < len(others):
                self.keras[layer] = rest

    def choices(self) -> Iterator[tuple[str, list[Maps]]]:
        """What is left open: the layers of units that may have each other's, and orders of gates."""
        classes: dict[Any, list[Placed]] = {}
        for placed in self.placed:
            if not placed.sure:
                classes.setdefault(placed.kind, []).append(placed)
        for placed in self.placed:
            alike = classes.pop(placed.kind, [])
            if len(alike) > 1:
                yield " and ".join(each.unit.layer for each in alike), list(_exchanges(alike))
            if len(placed.options) > 1:
                yield placed.unit.layer, placed.options[1:]


def _exchanges(alike: Sequence[Placed]) -> Iterator[Maps]:
    """The maps of units that have each other's layers."""
    count = len(alike)
    orders = list(permutations(range(count)))[1:] if count <= MOST_PERMUTED else list(_two_exchanged(count))
    for order in orders:
        fitted = [each.fit(alike[place].group, each.unit) for each, place in zip(alike, order, strict=True)]
        if all(fitted):
            yield {name: weight_map for options in fitted for name, weight_map in options[0].items()}


def _two_exchanged(count: int) -> Iterator[tuple[int, ...]]:
    for a, b in combinations(range(count), 2):
        order = list(range(count))
        order[a], order[b] = b, a
        yield tuple(order)


def transfer(
    variables: Mapping[str, Shape],
    parameters: Mapping[str, Shape],
    own: Mapping[str, Any],
    uses: Mapping[str, Use] | None = None,
) -> Transfer:
    """Find the maps; both sides' tensors in the order of their use, `own` is the user's `parameter_map`.

    Raises InputError where a tensor cannot hold what it should, with both names and shapes.
    """
    transferred = Transfer()
    asked, pins = _own(transferred, variables, parameters, own)
    keras: dict[str, Group] = {}
    for path, shape in variables.items():
        if path not in asked:
            layer, _, name = path.rpartition("/")
            keras.setdefault(layer, {})[re.sub(r"[:#]\d+$", "", name)] = (path, tuple(shape))
    names: dict[tuple[str, str], list[str]] = {}
    for name in parameters:
        if name not in transferred.maps:
            numbered = NUMBERED.search(name)
            names.setdefault((name.rpartition(".")[0], numbered[1] if numbered else ""), []).append(name)
    units = [
        Unit(layer, {name: tuple(parameters[name]) for name in members}, uses or {}, numbered)
        for (layer, numbered), members in names.items()
    ]
    matching = Matching(keras, pins)
    left = _matched(matching, units)
    for placed in matching.placed:
        transferred.maps.update(placed.options[0])
        transferred.alone += [name for name in placed.unit.names if name not in placed.options[0]]
    transferred.choices = list(matching.choices())
    transferred.unmatched = [path for group in keras.values() for path, _ in group.values()]
    if left:
        _refuse(left, keras)
    return transferred


def _matched(matching: Matching, units: Sequence[Unit]) -> list[Unit]:
    """Place recurrent modules, attention, written cells, then all others; return what finds no place."""
    keras = matching.keras
    left: list[Unit] = []
    for number, unit in enumerate(units):
        if not any(map(_packed_name, unit.names)) or not matching.place(unit, _packed, keras, units[number + 1 :]):
            left.append(unit)
    left = _attention(matching, left)
    left = _cells(matching, left)
    for pieces in (left, None):
        pieces = [piece for unit in left for piece in _pieces(unit)] if pieces is None else pieces
        left = [
            unit
            for number, unit in enumerate(pieces)
            if not matching.place(unit, plain_maps, keras, pieces[number + 1 :])
        ]
    return left


def _packed_name(name: str) -> bool:
    return any(part in name for part in PACKED_NAMES)


def _packed(group: Group, unit: Unit) -> list[Maps]:
    """A recurrent module; of a cell that only has its names the gates may stand in another order."""
    maps = packed_maps(group, unit)
    own = any(unit.use(name).count and not unit.use(name).fused for name in unit.names if "weight" in name)
    return [*maps, *cell_maps(group, unit)] if maps and own else maps


def _attention(matching: Matching, units: Sequence[Unit]) -> list[Unit]:
    parents = [layer.removesuffix("/query") for layer in matching.keras if layer.endswith("/query")]
    left = list(units)
    for unit in units:
        outer = [other for other in left if other.layer == f"{unit.layer}.out_proj"]
        packed = any(name.endswith(("in_proj_weight", "q_proj_weight")) for name in unit.names)
        three = any(name.endswith("weight") and len(shape) == 2 for name, shape in unit.shapes.items())
        if unit not in left or not (packed or three):
            continue
        groups = {parent: attention_group(matching.keras, parent) for parent in parents}
        groups = {parent: group for parent, group in groups.items() if group}
        whole = joined_unit([unit, *outer]) if packed else unit
        if matching.place(whole, attention_maps, groups):
            left = [other for other in left if other is not unit and other not in (outer if packed else [])]
    return left


def _cells(matching: Matching, units: Sequence[Unit]) -> list[Unit]:
    """Cells that somebody wrote out: a recurrent layer of Keras's that is left gets the first units that make it up."""
    left = list(units)
    for layer in [layer for layer, group in matching.keras.items() if "recurrent_kernel" in group]:
        for pieces in (left, [piece for unit in left for piece in _pieces(unit)]):
            candidates = {
                number: joined_unit(window) for number, window in enumerate(windows(pieces, MOST_OF_A_CELL)) if window
            }
            fitting = next((u for u in candidates.values() if cell_maps(matching.keras[layer], u)), None)
            if fitting is None:
                continue
            matching.place(fitting, cell_maps, {layer: matching.keras[layer]})
            left = [unit for unit in pieces if not set(unit.names) & set(fitting.names)]
            break
    return left


def _pieces(unit: Unit) -> list[Unit]:
    """The parameters of a module that are none of a usual layer's, one by one."""
    if all(name.rpartition(".")[2] in USUAL.values() or _packed_name(name) for name in unit.names):
        return [unit]
    return [Unit(unit.layer, {name: shape}, unit.uses) for name, shape in unit.shapes.items()]


def _own(
    transferred: Transfer,
    variables: Mapping[str, Shape],
    parameters: Mapping[str, Shape],
    own: Mapping[str, Any],
) -> tuple[set[str], dict[str, str]]:
    """Take the user's own maps; returns the variables that they use, and those that name a packed tensor's layer."""
    asked: set[str] = set()
    pins: dict[str, str] = {}
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
                pins[name] = path
                continue  # a packed tensor goes with its layer
            function = by_shape(path, variables[path], shape)
            if function is None:
                raise InputError(
                    f"parameter_map[{name!r}] names {source!r} of shape {variables[path]}, {name} has {tuple(shape)}"
                )
        transferred.maps[name] = Map(function, tuple(sorted(used)))
        asked |= used
    return asked, pins


def _refuse(left: Sequence[Unit], keras: dict[str, Group]) -> None:
    ours = ", ".join(f"{name} {shape}" for unit in left for name, shape in unit.shapes.items())
    theirs = (
        ", ".join(f"{path} {shape}" for group in keras.values() for path, shape in group.values()) or "nothing more"
    )
    raise InputError(
        f"no weights of the Keras model fit PyTorch's {ours}; Keras has {theirs}: make both models of the same sizes, "
        "or give parameter_map"
    )
