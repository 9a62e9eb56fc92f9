"""Which of Keras's tensors holds these values: permutation-invariant fingerprints first, then the exact arrangement."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import permutations

import numpy as np

# Permutations are tried up to this many axes; above, an array must lie as it is.
MOST_AXES = 4
# Cuts along an axis are indexed up to this length, and joined parts are looked for up to this number.
MOST_CUTS, MOST_PARTS = 64, 40
LARGEST = 4_000_000


@dataclass(frozen=True)
class Value:
    """One of Keras's tensors: what it is, and how telling the name is (0 first)."""

    label: str
    array: np.ndarray = field(repr=False)
    rank: int


@dataclass(frozen=True)
class Cut:
    """A tensor of Keras's, or the range `start` to `stop` of it along an axis."""

    value: Value
    axis: int = -1
    start: int = 0
    stop: int = 0

    @property
    def array(self) -> np.ndarray:
        """The numbers."""
        if self.axis < 0:
            return self.value.array
        return np.take(self.value.array, range(self.start, self.stop), self.axis)

    def __str__(self) -> str:
        if self.axis < 0:
            return self.value.label
        length = self.value.array.shape[self.axis]
        if self.stop == self.start + 1:
            index = "-1" if self.start == length - 1 > 1 else str(self.start)
        else:
            index = f"{self.start or ''}:{self.stop if self.stop < length else ''}"
        return f"{self.value.label}[{':, ' * self.axis}{index}]"


@dataclass(frozen=True)
class Alignment:
    """How values lie among Keras's: `whole`, `flipped`, `parts`, `rows` (in another order), `padded`, `scrambled`."""

    kind: str
    text: str
    cut: Cut | None = None

    @property
    def good(self) -> bool:
        """Whether they are Keras's in an order that a program may have."""
        return self.kind != "scrambled"


def squeezed(array: np.ndarray) -> np.ndarray:
    """The array without axes of length 1."""
    return array.reshape([length for length in array.shape if length != 1] or [1])


def trivial(array: np.ndarray) -> bool:
    """Whether values tell nothing of where they come from: none, booleans, constants, a lone whole number."""
    if array.size == 0 or array.dtype.kind == "b":
        return True
    if array.size == 1:
        return bool(array.dtype.kind != "f" or abs(array.ravel()[0]) < 1e-6)
    return bool(np.ptp(array) == 0)


def legal(before: Iterable[int], after: Iterable[int]) -> bool:
    """Whether a reshape only joins or splits axes, so that numbers keep their neighbours."""
    a, b = [n for n in before if n != 1], [n for n in after if n != 1]
    i = j = 0
    while i < len(a) and j < len(b):
        p, q, joined, split = a[i], b[j], 1, 1
        while p != q:
            if p < q and i + 1 < len(a):
                i, joined = i + 1, joined + 1
                p *= a[i]
            elif q < p and j + 1 < len(b):
                j, split = j + 1, split + 1
                q *= b[j]
            else:
                return False
        if joined > 1 and split > 1:
            return False
        i, j = i + 1, j + 1
    return True


def close(a: np.ndarray, b: np.ndarray, tolerance: float) -> bool:
    """Whether no number is off by more than the tolerance."""
    return bool(np.max(np.abs(a - b), initial=0.0) <= tolerance)


def arrangement(a: np.ndarray, b: np.ndarray, tolerance: float) -> str | None:
    """How the values of b lie in a: "" as they are, "axes …", "reshaped", "flipped …", "scrambled"; None if not."""
    a, b = squeezed(a), squeezed(b)
    turns = list(permutations(range(b.ndim))) if b.ndim <= MOST_AXES else [tuple(range(b.ndim))]
    for turn in turns:
        c = b.transpose(turn)
        if c.shape == a.shape and close(a, c, tolerance):
            return "" if turn == turns[0] else f"axes {turn}"
    for turn in turns:
        c = b.transpose(turn)
        if c.shape != a.shape and legal(c.shape, a.shape) and close(a.ravel(), c.ravel(), tolerance):
            return "reshaped"
    for turn in turns:
        c = b.transpose(turn)
        for axis in range(c.ndim) if c.shape == a.shape else ():
            if close(a, np.flip(c, axis), tolerance):
                return f"flipped along axis {axis}"
    return "scrambled" if close(np.sort(a.ravel()), np.sort(b.ravel()), tolerance) else None


def same_rows(a: np.ndarray, b: np.ndarray, tolerance: float) -> bool:
    """Whether two arrays have the same rows, in another order."""
    if a.ndim < 2 or a.shape != b.shape:
        return False
    flat = [c.reshape(len(c), -1).astype(np.float64) for c in (a, b)]
    weights = np.random.default_rng(0).random(flat[0].shape[1])
    ordered = [c[np.argsort(c @ weights)] for c in flat]
    return close(ordered[0], ordered[1], tolerance)


class Index:
    """Keras's tensors by size and fingerprint, each also by its slices, chunks and shifted ranges."""

    def __init__(self, values: Iterable[Value]) -> None:
        usable = [
            value
            for value in values
            if value.array.dtype.kind in "fiu"
            and 0 < value.array.size <= LARGEST
            and not (value.array.size > 1 and trivial(value.array))
        ]
        # Of arrays that differ by a reshape alone the one with most axes speaks: flattened copies excuse scrambles.
        usable.sort(key=lambda value: (-squeezed(value.array).ndim, value.rank))
        distinct: dict[object, Value] = {}
        for value in usable:
            flat = value.array.ravel()
            key = (
                flat.size,
                value.array.dtype.kind,
                np.round(flat[:8].astype(float), 5).tobytes(),
                round(float(flat.sum(dtype=float)), 4),
            )
            distinct.setdefault(key, value)
        self.values = list(distinct.values())
        self._entries: dict[int, list[tuple[float, float, int, Cut]]] = {}
        for value in self.values:
            self._add(value)
        for entries in self._entries.values():
            entries.sort(key=lambda entry: entry[:3])

    def _add(self, value: Value) -> None:
        a = value.array.astype(np.float64)
        self._put(Cut(value), float((a * a).sum()), float(a.sum()), a.size)
        for axis in range(a.ndim):
            length = a.shape[axis]
            if (length == 1 or a.size == length) and not (a.ndim == 1 and value.array.dtype.kind in "iu"):
                continue
            rest = tuple(i for i in range(a.ndim) if i != axis)
            sums, squares = np.atleast_1d(a.sum(rest)), np.atleast_1d((a * a).sum(rest))
            for start, stop in self._ranges(value.array, axis):
                size = a.size // length * (stop - start)
                if size > 3:
                    cut = Cut(value, axis, start, stop)
                    self._put(cut, float(squares[start:stop].sum()), float(sums[start:stop].sum()), size)

    @staticmethod
    def _ranges(array: np.ndarray, axis: int) -> Iterator[tuple[int, int]]:
        length = array.shape[axis]
        if length <= MOST_CUTS:
            yield from ((i, i + 1) for i in range(length))
        else:
            yield from ((0, 1), (length - 1, length))
        for parts in (2, 3, 4):
            if length % parts == 0 and length > parts:
                yield from ((i, i + length // parts) for i in range(0, length, length // parts))
        if array.ndim > 1 and length > 2 and axis < 2:
            yield from ((1, length), (0, length - 1))
            if length <= MOST_CUTS and array.ndim <= 3 and array.size < 100_000:
                yield from ((i, j) for i in range(length) for j in range(i + 2, length + 1) if i == 0 or j == length)

    def _put(self, cut: Cut, square: float, total: float, size: int) -> None:
        self._entries.setdefault(size, []).append((square, total, cut.value.rank, cut))

    def matches(self, array: np.ndarray, tolerance: float, scrambled: bool = True) -> Iterator[tuple[str, Cut]]:
        """Every tensor of Keras's that holds these values, with their arrangement in it."""
        if trivial(array):
            return
        a = array.astype(np.float64)
        square, total = float((a * a).sum()), float(a.sum())
        room = 2 * tolerance * np.sqrt(square * a.size) + a.size * tolerance**2
        entries = self._entries.get(a.size, [])
        place = bisect_left(entries, square - room, key=lambda entry: entry[0])
        while place < len(entries) and entries[place][0] <= square + room:
            _, other, _, cut = entries[place]
            place += 1
            floats = (array.dtype.kind == "f", cut.value.array.dtype.kind == "f")
            if abs(total - other) > a.size * tolerance or floats[0] != floats[1]:
                continue
            how = arrangement(a, cut.array.astype(np.float64), tolerance)
            if how is not None and (how != "scrambled" or (scrambled and a.size >= 12)):
                yield how, cut

    def find(self, array: np.ndarray, tolerance: float, scrambled: bool = True) -> tuple[str, Cut] | None:
        """The best match: as it lies before turned before flipped before scrambled, whole before cut."""
        matches = list(self.matches(array, tolerance, scrambled))
        if not matches:
            return None
        return min(
            matches,
            key=lambda e: (e[0] == "scrambled", e[0].startswith("flip"), e[1].axis >= 0, e[0] != "", e[1].value.rank),
        )

    def align(self, array: np.ndarray, tolerance: float) -> Alignment | None:
        """Say where values lie among Keras's; None where they do not."""
        hit = self.find(array, tolerance)
        if hit is not None and hit[0] != "scrambled":
            text = str(hit[1]) + (f" ({hit[0]})" if hit[0] else "")
            return Alignment("flipped" if hit[0].startswith("flip") else "whole", text, hit[1])
        if not trivial(array) and array.size > 1:
            other = self._parts(array, tolerance) or self._padded(array, tolerance)
            if other is not None:
                return other
        if hit is None:
            return None
        if same_rows(array, hit[1].array, tolerance):
            return Alignment("rows", f"{hit[1]}, its rows in another order", hit[1])
        return Alignment("scrambled", str(hit[1]), hit[1])

    def _parts(self, array: np.ndarray, tolerance: float) -> Alignment | None:
        """Whether the array is made of equal parts that are all Keras's, beside each other along one axis."""
        for axis in range(array.ndim):
            length = array.shape[axis]
            for count in dict.fromkeys((2, 3, 4, length)):
                if not 1 < count <= MOST_PARTS or length % count or array.size // count <= 3:
                    continue
                parts = np.split(array, count, axis)
                hits = []
                for part in parts:
                    hit = self.find(part, tolerance, scrambled=False)
                    if hit is None:
                        break
                    hits.append(hit)
                else:
                    shown = " | ".join(str(cut) for _, cut in hits[:4]) + (" …" if count > 4 else "")
                    return Alignment("parts", f"along axis {axis}: {shown}")
        return None

    def _padded(self, array: np.ndarray, tolerance: float) -> Alignment | None:
        """Whether the array is Keras's where it is not zero (zeros where the padding is)."""
        if array.ndim < 2 or array.dtype.kind != "f":
            return None
        rows = (array != 0).any(-1)
        if rows.all() or not rows.any():
            return None
        a = array.astype(np.float64)
        for _, _, _, cut in self._entries.get(array.size, ()):
            b = squeezed(cut.array)
            turns = [tuple(range(b.ndim))] + ([(1, 0, *range(2, b.ndim))] if b.ndim > 1 else [])
            for turn in turns:
                c = b.transpose(turn)
                if c.shape == a.shape and cut.value.array.dtype.kind == "f" and close(a[rows], c[rows], tolerance):
                    return Alignment("padded", f"{cut}, but zeros at padding", cut)
        return None
