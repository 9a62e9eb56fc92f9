"""The maps of a Keras recurrent layer to a cell that somebody wrote out: one matrix or many, joined or apart.

Every matrix takes the input, the state or both joined, and makes one gate or several. Which gates is said by names, or
not at all: then every order is an option, and the values decide.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from compare.explain.layer_names import gate_of, role_of
from compare.explain.weight_maps import Arrays, Group, Map, Maps, Shape, Unit

TAKES = {"input": ("input",), "state": ("state",), "joined": ("input", "state")}


@dataclass(frozen=True)
class Piece:
    """One matrix or bias of a cell: what it takes, how many gates it makes, and the places of these."""

    name: str
    role: str
    gates: int
    turned: bool = False
    places: tuple[int, ...] = ()


@dataclass(frozen=True)
class Sizes:
    """The sizes of a Keras recurrent layer, and the paths of its variables."""

    features: int
    units: int
    gates: int
    kernel: str
    recurrent: str
    bias: str | None
    rows: bool

    @classmethod
    def of(cls, group: Group) -> "Sizes | None":
        """The sizes; None where a group is no recurrent layer."""
        kernel, recurrent, bias = (group.get(name) for name in ("kernel", "recurrent_kernel", "bias"))
        if kernel is None or recurrent is None or len(kernel[1]) != 2:
            return None
        units = recurrent[1][0]
        path, shape = bias or (None, ())
        return cls(kernel[1][0], units, kernel[1][1] // units, kernel[0], recurrent[0], path, len(shape) == 2)


def cell_maps(group: Group, unit: Unit) -> list[Maps]:
    """The maps of a cell's tensors, the likeliest order of its gates first; empty where they do not make up one."""
    sizes = Sizes.of(group)
    if sizes is None:
        return []
    matrices = [name for name in unit.names if len(unit.shapes[name]) == 2]
    vectors = [name for name in unit.names if len(unit.shapes[name]) == 1]
    if not matrices or len(matrices) + len(vectors) < len(unit.shapes):
        return []
    every = _told([_readings(name, unit, sizes) for name in matrices], unit)
    if not all(every):
        return []
    options: list[Maps] = []
    for pieces in _chosen(every):
        biases = _biases(vectors, pieces, unit, sizes)
        if biases is None:
            continue
        placed = _placed(pieces, sizes.gates)
        if placed is None:
            continue
        told = all(gate_of(piece.name, sizes.gates) is not None for piece in pieces if piece.gates == 1)
        fixed = sizes.gates == 1 or (told and all(piece.gates == 1 for piece in pieces))
        for order in [tuple(range(sizes.gates))] if fixed else permutations(range(sizes.gates)):
            options.append(_maps(placed, biases, order, unit, sizes))
    return options


def _readings(name: str, unit: Unit, sizes: Sizes) -> list[Piece]:
    """What a matrix may take and make by its shape, and by what is known of its use."""
    use, shape = unit.use(name), unit.shapes[name]
    turns = [not use.inward] if use.inward is not None else [True, False]
    readings: list[Piece] = []
    for turned in turns:
        inner, outer = shape[::-1] if turned else shape
        count, rest = divmod(outer, sizes.units)
        if rest or not 0 < count <= sizes.gates:
            continue
        by_size = {"joined": sizes.features + sizes.units, "input": sizes.features, "state": sizes.units}
        roles = [role for role, size in by_size.items() if size == inner]
        readings += [Piece(name, role, count, turned) for role in roles]
    return readings


def _told(every: Sequence[list[Piece]], unit: Unit) -> list[list[Piece]]:
    """The readings without what their use tells, or their names: a state is zero at first where an input is not."""
    open_names = {pieces[0].name for pieces in every if len({piece.role for piece in pieces}) > 1}
    by_use = {
        name: None if unit.use(name).fed is None else ("state", "input")[bool(unit.use(name).fed)]
        for name in open_names
    }
    by_name = {name: role_of(name) for name in open_names}
    for roles in (by_use, by_name):
        if set(roles.values()) == {"input", "state"}:
            return [[piece for piece in pieces if roles.get(piece.name, piece.role) == piece.role] for pieces in every]
    return list(every)


def _chosen(every: Sequence[list[Piece]]) -> Iterator[list[Piece]]:
    """One reading of each matrix; of those that may take input or state every second one, or the second half."""
    turns = {reading.turned for readings in every for reading in readings if len({r.turned for r in readings}) > 1}
    for turned in sorted(turns, reverse=True) or [True]:
        kept = [[r for r in readings if r.turned == turned] or readings for readings in every]
        open_places = [place for place, readings in enumerate(kept) if len(readings) > 1]
        half = len(open_places) // 2
        patterns = [[number % 2 for number in range(len(open_places))]]
        patterns.append([int(number >= half) for number in range(len(open_places))])
        patterns += [[1 - choice for choice in pattern] for pattern in patterns]
        distinct = dict.fromkeys(map(tuple, patterns))
        for pattern in distinct:
            choice = dict(zip(open_places, pattern, strict=True))
            yield [readings[choice.get(place, 0)] for place, readings in enumerate(kept)]


def _placed(pieces: Sequence[Piece], count: int) -> list[Piece] | None:
    """The pieces with the places of their gates: by name where all single ones tell, else one after the other."""
    placed: list[Piece] = []
    filled: dict[str, list[int]] = {"input": [], "state": []}
    single = [piece for piece in pieces if piece.gates == 1]
    told = {piece.name: gate_of(piece.name, count) for piece in single}
    named = count > 1 and len(single) == len(pieces) and None not in told.values()
    for piece in pieces:
        taken = filled[TAKES[piece.role][0]]
        gate = told.get(piece.name) if named else None
        places = tuple(range(len(taken), len(taken) + piece.gates)) if gate is None else (gate,)
        for role in TAKES[piece.role]:
            filled[role] += places
        placed.append(Piece(piece.name, piece.role, piece.gates, piece.turned, places))
    if any(sorted(places) != list(range(count)) for places in filled.values()):
        return None
    return placed


def _biases(vectors: Sequence[str], pieces: Sequence[Piece], unit: Unit, sizes: Sizes) -> dict[str, Piece] | None:
    """Which matrix each bias goes with: that of its module, else that of its gate or the next of its size."""
    biases: dict[str, Piece] = {}
    for name in vectors:
        count, rest = divmod(unit.shapes[name][0], sizes.units)
        if rest:
            return None
        module = name.rpartition(".")[0]
        taken = {piece.name for piece in biases.values()}
        free = [piece for piece in pieces if piece.gates == count and piece.name not in taken]
        ordered = sorted(free, key=lambda piece: piece.role == "state")
        own = [piece for piece in free if name.endswith(".bias") and piece.name == f"{module}.weight"]
        gate = gate_of(name, sizes.gates) if count == 1 else None
        told = [piece for piece in ordered if gate is not None and gate_of(piece.name, sizes.gates) == gate]
        named = [piece for piece in free if gate is None and role_of(name) == piece.role]
        whole = [Piece(name, "input", count, places=tuple(range(count)))] if count == sizes.gates else []
        choice = next(iter([*own, *told, *named, *ordered, *whole]), None)
        if choice is None:
            return None
        biases[name] = choice
    return biases


def _maps(placed: Sequence[Piece], biases: dict[str, Piece], order: Sequence[int], unit: Unit, sizes: Sizes) -> Maps:
    maps: Maps = {}
    columns = {
        piece.name: np.concatenate([order[place] * sizes.units + np.arange(sizes.units) for place in piece.places])
        for piece in (*placed, *(piece for piece in biases.values() if piece.places))
    }
    for piece in placed:
        paths = tuple({"input": sizes.kernel, "state": sizes.recurrent}[role] for role in TAKES[piece.role])
        use, both = unit.use(piece.name), (sizes.features, sizes.units)
        told = both[0] != both[1] and use.joined in (both, both[::-1])
        if use.joined == both[::-1] if told else use.state_first:
            paths = paths[::-1]
        maps[piece.name] = Map(_matrix(paths, columns[piece.name], piece.turned), paths)
    if sizes.bias is None:
        return maps
    first = {tuple(columns[piece.name]): name for name, piece in biases.items() if piece.role != "state"}
    for name, piece in biases.items():
        chosen = columns[piece.name]
        partner = first.get(tuple(chosen), "") if piece.role == "state" and not sizes.rows else ""
        rows = [int(role == "state") for role in TAKES[piece.role]] if sizes.rows else None
        maps[name] = Map(_bias(sizes.bias, chosen, rows), (sizes.bias,), partner)
    return maps


def _matrix(paths: Sequence[str], columns: np.ndarray, turned: bool) -> Callable[[Arrays], np.ndarray]:
    """Some gates' columns of one kernel or of two, one below the other."""

    def stack(v: Arrays) -> np.ndarray:
        matrix = np.concatenate([v[path] for path in paths])[:, columns]
        return matrix.T if turned else matrix

    return stack


def _bias(path: str, columns: np.ndarray, rows: Sequence[int] | None) -> Callable[[Arrays], np.ndarray]:
    """Some gates' columns of a bias; of a GRU's two rows one, or for both joined their sum."""
    if rows is None:
        return lambda v: v[path][columns]
    return lambda v: v[path][list(rows)].sum(0)[columns]


def windows(units: Sequence[Unit], most: int) -> Iterator[list[Unit]]:
    """Units that may be one cell: those of a module with all that is in it, then neighbours in the order of use.

    Those come first whose matrices are used again and again.
    """
    prefixes: dict[str, None] = {}
    for unit in units:
        parts = unit.layer.split(".")
        for length in range(len(parts), 0, -1):
            prefixes[".".join(parts[:length])] = None
    for prefix in prefixes:
        members = [unit for unit in units if f"{unit.layer}.".startswith(f"{prefix}.")]
        yield members
    runs = [
        list(units[start : start + length]) for length in range(1, most + 1) for start in range(len(units) - length + 1)
    ]
    yield from sorted(runs, key=lambda run: not any(_looped(unit) for unit in run))


def _looped(unit: Unit) -> bool:
    return any(unit.use(name).count > 1 for name in unit.names)


def joined_unit(units: Sequence[Unit]) -> Unit:
    """Several units as one."""
    shapes: dict[str, Shape] = {name: shape for unit in units for name, shape in unit.shapes.items()}
    uses = {name: use for unit in units for name, use in unit.uses.items()}
    return Unit(units[0].layer, shapes, uses)
