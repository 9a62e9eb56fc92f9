"""One PyTorch tensor as a linear function of Keras's arrays, and what such maps are made of."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

Arrays = Mapping[str, np.ndarray]
Shape = tuple[int, ...]

# The variables of one Keras layer: path and shape by the last part of the path.
Group = dict[str, tuple[str, Shape]]


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


Maps = dict[str, Map]


@dataclass(frozen=True)
class Use:
    """What a forward pass does with a parameter: how often, and where what it is multiplied with comes from.

    `inward`: it is multiplied from the right as it is, (in, out). `fed`: with what comes of the input, not of a state
    of zeros. `state_first`: with a state and an input joined in this order; `joined` are the sizes of both. `fused`: in
    a kernel of the framework's. None where that is not known.
    """

    count: int = 0
    inward: bool | None = None
    fed: bool | None = None
    state_first: bool = False
    fused: bool = False
    joined: tuple[int, ...] = ()


@dataclass(frozen=True)
class Unit:
    """PyTorch tensors that belong together: a module's, or one layer's and direction's of a recurrent module."""

    layer: str
    shapes: Mapping[str, Shape]
    uses: Mapping[str, Use] = field(default_factory=dict)
    numbered: str = ""

    @property
    def label(self) -> str:
        """What its name says: its module's, of a lone parameter its own, of a recurrent module the direction too."""
        own = (
            self.names[0] if len(self.shapes) == 1 and not self.names[0].endswith((".weight", ".bias")) else self.layer
        )
        return f"{own} {self.numbered}"

    @property
    def names(self) -> list[str]:
        """The tensors' names."""
        return list(self.shapes)

    def use(self, name: str) -> Use:
        """What is known of a tensor's use."""
        return self.uses.get(name, Use())


def gates(array: np.ndarray, order: Sequence[int], axis: int = -1) -> np.ndarray:
    """The gates of a packed array in another order."""
    parts = np.split(array, len(order), axis)
    return np.concatenate([parts[i] for i in order], axis)
