"""Which of the user's PyTorch layers stands for which Keras layer: by order, kind and shape."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compare.errors import InputError

RECURRENT = ("simple_rnn", "lstm", "gru")

# The tensors whose shapes must be equal; a bias may be missing on one side, which is a cause and no misfit.
DECISIVE = ("kernel", "recurrent_kernel", "embeddings", "gamma", "moving_mean")

LAYER_NAMES = {
    "simple_rnn": "SimpleRNN", "lstm": "LSTM", "gru": "GRU", "dense": "Dense", "embedding": "Embedding",
    "layer_normalization": "LayerNormalization", "batch_normalization": "BatchNormalization",
}  # fmt: skip


@dataclass(frozen=True)
class Match:
    """A layer of both sides: its canonical name and what each side said of it."""

    name: str
    group: str
    keras: Mapping[str, Any]
    torch: Mapping[str, Any]

    @property
    def kind(self) -> str:
        """What the layer is."""
        return str(self.keras["kind"])

    @property
    def recurrent(self) -> bool:
        """Whether it is a recurrent layer."""
        return self.kind in RECURRENT

    def canonical(self, tensor: str) -> str:
        """The canonical name of one of its tensors."""
        return f"{self.name}/{tensor}"

    @property
    def tensors(self) -> list[str]:
        """The tensors that either side has."""
        return list(dict.fromkeys([*self.keras["shapes"], *self.torch["shapes"]]))


def match_layers(
    keras: Mapping[str, Any], torch: Mapping[str, Any], file: str, mapped: Mapping[str, str]
) -> list[Match]:
    """Match the layers of both sides in the order in which Keras calls them.

    `mapped` is the pair file's `parameter_map` from PyTorch parameters to Keras weights. Raises InputError naming what
    is left over on either side, and how to write `parameter_map`.
    """
    if keras["unknown"]:
        raise InputError(
            f"{file}: keras_side()'s model trains {', '.join(keras['unknown'][:4])}, which is in no layer that can be "
            f"transferred; known are {', '.join(LAYER_NAMES.values())}"
        )
    left = list(torch["parts"])
    pairs: list[tuple[Mapping[str, Any], Mapping[str, Any]]] = []
    forced = _forced(keras["parts"], torch["parts"], mapped, file)
    for part in keras["parts"]:
        chosen = forced.get(part["key"])
        if chosen is None:
            chosen = next((each for each in left if _fits(part, each) and each["key"] not in _keys(forced)), None)
        if chosen is None or chosen not in left:
            raise InputError(f"{file}: {_no_counterpart(part, left)}")
        left.remove(chosen)
        pairs.append((part, chosen))
    if left:
        raise InputError(f"{file}: {_left_over(left[0], keras['parts'])}")
    own = list(torch["unknown"])
    if own:
        raise InputError(
            f"{file}: the module's parameter {own[0]!r} is in no layer that can be transferred; known are nn.RNN, "
            f"nn.LSTM, nn.GRU, their cells, nn.Linear, nn.Embedding, nn.LayerNorm and nn.BatchNorm1d; "
            f"write in the pair file parameter_map = {{{own[0]!r}: lambda keras: keras['layer/weight']}}"
        )
    if not pairs:
        raise InputError(f"{file}: keras_side()'s model has no layer with weights; there is nothing to compare")
    return _named(pairs)


def _keys(forced: Mapping[str, Mapping[str, Any]]) -> set[str]:
    return {str(part["key"]) for part in forced.values()}


def _forced(
    keras: Sequence[Mapping[str, Any]], torch: Sequence[Mapping[str, Any]], mapped: Mapping[str, str], file: str
) -> dict[str, Mapping[str, Any]]:
    forced = {}
    for parameter, weight in mapped.items():
        theirs = [part for part in torch if any(parameter in names for names in part["parameters"].values())]
        ours = [
            part for part in keras if weight in part["variables"].values() or weight in (part["key"], part["group"])
        ]
        if not theirs:
            names = [name for part in torch for held in part["parameters"].values() for name in held]
            raise InputError(f"{file}: parameter_map names {parameter!r}; the module has {', '.join(names)}")
        if not ours:
            names = [name for part in keras for name in part["variables"].values()]
            raise InputError(f"{file}: parameter_map names {weight!r}; the Keras model has {', '.join(names)}")
        forced[str(ours[0]["key"])] = theirs[0]
    return forced


def _fits(keras: Mapping[str, Any], torch: Mapping[str, Any]) -> bool:
    if keras["kind"] != torch["kind"] or keras["direction"] != torch["direction"]:
        return False
    names = [name for name in DECISIVE if name in keras["shapes"] and name in torch["shapes"]]
    return all(keras["shapes"][name] == torch["shapes"][name] for name in names)


def _shape(part: Mapping[str, Any]) -> str:
    shapes = [f"{name} {'×'.join(map(str, part['shapes'][name]))}" for name in DECISIVE if name in part["shapes"]]
    return f"{LAYER_NAMES[part['kind']]}, {', '.join(shapes)}"


def _no_counterpart(part: Mapping[str, Any], left: Sequence[Mapping[str, Any]]) -> str:
    weight = next(iter(part["variables"].values()), "layer/kernel")
    others = "; ".join(f"{each['path'] or 'the module itself'} ({_shape(each)})" for each in left) or "none"
    return (
        f"the weights cannot be transferred: Keras's {part['key']!r} ({_shape(part)}) has no layer of this kind and "
        f"shape left in the PyTorch module; left are: {others}. If one of them is meant, write "
        f"parameter_map = {{'path.weight': {weight!r}}}"
    )


def _left_over(part: Mapping[str, Any], keras: Sequence[Mapping[str, Any]]) -> str:
    parameter = next((names[0] for names in part["parameters"].values()), part["path"])
    layers = ", ".join(str(layer["key"]) for layer in keras)
    return (
        f"the weights cannot be transferred: {part['path']!r} ({_shape(part)}) of the PyTorch module has no "
        f"counterpart left in the Keras model, which has {layers}. If one of them is meant, "
        f"write parameter_map = {{{parameter!r}: 'layer/weight'}}"
    )


def _named(pairs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> list[Match]:
    matches = []
    layers: list[str] = []
    counts: dict[str, int] = {}
    dense = [keras["key"] for keras, _ in pairs if keras["kind"] == "dense"]
    for keras, torch in pairs:
        kind, group = keras["kind"], str(keras["group"])
        if kind in RECURRENT:
            if group not in layers:
                layers.append(group)
            matches.append(Match(f"layer{layers.index(group)}/{keras['direction']}", group, keras, torch))
            continue
        if kind == "dense":
            name = "head" if keras["key"] == dense[-1] else f"dense{counts.get(kind, 0)}"
        else:
            stem = "normalization" if kind.endswith("normalization") else kind
            name, kind = f"{stem}{counts.get(stem, 0)}", stem
        counts[kind] = counts.get(kind, 0) + 1
        matches.append(Match(name, group, keras, torch))
    return matches
