"""SimpleRNN, LSTM and GRU models in backend-agnostic Keras 3; `torch_models/recurrent.py` is their mirror."""

from dataclasses import dataclass
from typing import Any

import keras

from keras_models.layers import AttachMask, GivenCellMasks, GivenDropout

CELLS = {
    "simple_rnn": keras.layers.SimpleRNN,
    "lstm": keras.layers.LSTM,
    "gru": keras.layers.GRU,
}
MERGES = ("concat", "sum", "mul", "ave")
HEADS = ("last_state", "last_output", "every_output")
DROPOUT_MASKS = ("own", "given")
NORMALIZATIONS = {"layer": keras.layers.LayerNormalization, "batch": keras.layers.BatchNormalization}


@dataclass(frozen=True)
class Settings:
    """The keywords of `build`, checked."""

    cell: str
    features: int
    units: int
    outputs: int
    layers: int
    vocabulary: int | None
    embedding: int | None
    bidirectional: str | None
    head: str
    activation: str
    recurrent_activation: str
    use_bias: bool
    reset_after: bool
    go_backwards: bool
    zero_output_for_mask: bool
    stateful: bool
    batch_size: int | None
    dropout: float
    input_dropout: float
    recurrent_dropout: float
    dropout_masks: str
    normalization: str | None
    l2: float
    dtype: str
    masked: bool
    initial_state: bool

    def __post_init__(self) -> None:
        accepted = {
            "cell": tuple(CELLS),
            "bidirectional": (None, *MERGES),
            "head": HEADS,
            "dropout_masks": DROPOUT_MASKS,
            "normalization": (None, *NORMALIZATIONS),
        }
        for name, choices in accepted.items():
            if getattr(self, name) not in choices:
                words = ", ".join(map(str, choices))
                raise ValueError(f"{name}={getattr(self, name)!r} is unknown; accepted: {words}")
        for name in ("features", "units", "outputs", "layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if self.embedding and not self.vocabulary:
            raise ValueError(f"embedding={self.embedding} needs a vocabulary, the number of token ids")
        if self.stateful and not self.batch_size:
            raise ValueError("stateful=True needs a batch_size, the number of sequences whose states are carried on")

    @property
    def width(self) -> int:
        """The width of a layer's outputs."""
        return 2 * self.units if self.bidirectional == "concat" else self.units

    @property
    def state_parts(self) -> tuple[str, ...]:
        """What the state of a layer consists of."""
        return ("h", "c") if self.cell == "lstm" else ("h",)

    @property
    def mask_gates(self) -> int:
        """How many dropout masks a cell has for its gates: Keras's share one unless the state is dropped too."""
        return {"simple_rnn": 1, "lstm": 4, "gru": 3}[self.cell] if self.recurrent_dropout else 1

    @property
    def directions(self) -> tuple[str, ...]:
        """The directions in which a layer runs."""
        return ("forward", "backward") if self.bidirectional else ("forward",)


class _Inputs:
    """The inputs of a functional model, made as they are asked for."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.by_name: dict[str, Any] = {}

    def __call__(self, name: str, *shape: int | None, dtype: str | None = None) -> Any:
        batch = self.settings.batch_size if self.settings.stateful else None
        self.by_name[name] = keras.Input(batch_shape=(batch, *shape), dtype=dtype or self.settings.dtype, name=name)
        return self.by_name[name]


def build(
    *,
    cell: str,
    features: int = 1,
    units: int = 50,
    outputs: int = 1,
    layers: int = 1,
    vocabulary: int | None = None,
    embedding: int | None = None,
    bidirectional: str | None = None,
    head: str = "last_state",
    activation: str = "tanh",
    recurrent_activation: str = "sigmoid",
    use_bias: bool = True,
    reset_after: bool = True,
    go_backwards: bool = False,
    zero_output_for_mask: bool = False,
    stateful: bool = False,
    batch_size: int | None = None,
    dropout: float = 0.0,
    input_dropout: float = 0.0,
    recurrent_dropout: float = 0.0,
    dropout_masks: str = "own",
    normalization: str | None = None,
    l2: float = 0.0,
    dtype: str = "float32",
    masked: bool = False,
    initial_state: bool = False,
) -> keras.Model:
    """Build a stack of recurrent layers with a linear head.

    Input (batch, time, features), or token ids (batch, time) with an `embedding` of a `vocabulary`; output (batch,
    outputs), or (batch, time, outputs) with head "every_output"; any number of timesteps. With `masked`,
    `initial_state` or `dropout_masks` "given" the input is a dict: "sequence", "mask" (batch, time) that is False at
    padding, initial states "layer0.forward.h", "….c" (batch, units), and the masks of ones and zeros.
    `bidirectional` is a merge mode; `stateful` carries states over batches of `batch_size`.
    Raises ValueError for an unknown name or a size below 1.
    """
    settings = Settings(**locals())
    inputs = _Inputs(settings)
    if embedding:
        sequence = inputs("sequence", None, dtype="int32")
        sequence = keras.layers.Embedding(vocabulary, embedding, name="embedding", dtype=dtype)(sequence)
    else:
        sequence = inputs("sequence", None, features)
    if masked:
        sequence = AttachMask(name="attach_mask")([sequence, inputs("mask", None, dtype="bool")])
    for index in range(layers):
        last = index == layers - 1
        sequence = _layer(settings, inputs, index, sequence)
        if last and head == "last_output":
            sequence = sequence[:, -1]
        if normalization:
            sequence = NORMALIZATIONS[normalization](name=f"normalization{index}", dtype=dtype)(sequence)
        if dropout:
            sequence = _dropout(settings, inputs, index, sequence)
    sequence = keras.layers.Dense(outputs, kernel_regularizer=_l2(settings), name="head", dtype=dtype)(sequence)
    given = inputs.by_name if len(inputs.by_name) > 1 else inputs.by_name["sequence"]
    model = keras.Model(given, sequence, name=cell)
    model.settings = settings
    return model


def _layer(settings: Settings, inputs: _Inputs, index: int, sequence: Any) -> Any:
    """Run layer `index` on a sequence; only of the last layer are the last outputs alone asked for."""
    gated = {"recurrent_activation": settings.recurrent_activation} if settings.cell != "simple_rnn" else {}
    after = {"reset_after": settings.reset_after} if settings.cell == "gru" else {}
    layer = CELLS[settings.cell](
        settings.units,
        activation=settings.activation,
        use_bias=settings.use_bias,
        kernel_regularizer=_l2(settings),
        recurrent_regularizer=_l2(settings),
        dropout=settings.input_dropout,
        recurrent_dropout=settings.recurrent_dropout,
        return_sequences=index < settings.layers - 1 or settings.head != "last_state",
        go_backwards=settings.go_backwards,
        stateful=settings.stateful,
        zero_output_for_mask=settings.zero_output_for_mask,
        name=f"layer{index}",
        dtype=settings.dtype,
        **gated,
        **after,
    )
    if settings.bidirectional:
        layer = keras.layers.Bidirectional(
            layer, merge_mode=settings.bidirectional, name=f"layer{index}", dtype=settings.dtype
        )
    names = [f"layer{index}.{direction}" for direction in settings.directions]
    beside: dict[str, Any] = {}
    if settings.initial_state:
        states = [inputs(f"{name}.{part}", settings.units) for name in names for part in settings.state_parts]
        # Keras hands a sequence's mask on by itself only to a layer that takes no other tensor.
        beside = {"initial_state": states, "mask": inputs.by_name.get("mask")}
    if settings.dropout_masks == "given" and (settings.input_dropout or settings.recurrent_dropout):
        widths = {"input_dropout": sequence.shape[-1], "recurrent_dropout": settings.units}
        masks = {
            f"{name.partition('.')[2]}.{kind}": inputs(f"{name}.{kind}", settings.mask_gates, width)
            for name in names
            for kind, width in widths.items()
            if getattr(settings, kind)
        }
        return GivenCellMasks(layer, name=f"layer{index}", dtype=settings.dtype)(sequence, masks, **beside)
    return layer(sequence, **beside)


def _dropout(settings: Settings, inputs: _Inputs, index: int, sequence: Any) -> Any:
    name = f"dropout{index}"
    if settings.dropout_masks == "own":
        return keras.layers.Dropout(settings.dropout, name=name, dtype=settings.dtype)(sequence)
    mask = inputs(name, *sequence.shape[1:])
    return GivenDropout(settings.dropout, name=f"given_{name}", dtype=settings.dtype)([sequence, mask])


def _l2(settings: Settings) -> keras.regularizers.Regularizer | None:
    return keras.regularizers.L2(settings.l2) if settings.l2 else None
