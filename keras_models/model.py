"""SimpleRNN, LSTM and GRU models in backend-agnostic Keras 3; `torch_models/model.py` is the mirror."""

from typing import Any

import keras

from keras_models.layers import CELLS, NORMALIZATIONS, AttachMask, SharedCellMasks, SharedDropout
from keras_models.settings import Settings
from keras_models.weights import MASK_GATES


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
    dropout_masks: str = "independent",
    normalization: str | None = None,
    l2: float = 0.0,
    dtype: str = "float32",
    masked: bool = False,
    initial_state: bool = False,
) -> keras.Model:
    """Build a stack of recurrent layers with a linear head.

    The model maps (batch, time, features), any number of timesteps, to (batch, outputs). Raises ValueError for an
    unknown name or a size below 1.

    Args:
        cell: "simple_rnn", "lstm" or "gru".
        features: Numbers at each timestep.
        units: Width of each layer, and in a bidirectional one of each direction.
        outputs: Width of the head.
        layers: Number of recurrent layers.
        vocabulary: Number of token ids; needed with `embedding`.
        embedding: Width of an embedding; the inputs are then token ids (batch, time).
        bidirectional: None, or how two directions are merged: "concat", "sum", "mul" or "ave".
        head: What the head reads: "last_state", "last_output", or "every_output", for outputs (batch, time, outputs).
        activation: Keras's name of the activation of candidate and output.
        recurrent_activation: Keras's name of the activation of the gates.
        use_bias: Whether the recurrent layers have biases.
        reset_after: Whether a GRU applies its reset gate after the product with the state.
        go_backwards: Whether the layers run backwards in time.
        zero_output_for_mask: Whether outputs at padding are zeros instead of the output before it.
        stateful: Whether a batch starts from the last states of the batch before it; needs `batch_size`.
        batch_size: Number of sequences in a batch of a stateful model.
        dropout: Share dropped from what each layer hands on.
        input_dropout: Share dropped from a cell's inputs, the same at every timestep.
        recurrent_dropout: Share dropped from a cell's state, the same at every timestep.
        dropout_masks: "independent", drawn by the framework, or "shared": inputs of ones and zeros, "dropout0" of the
            shape of what it drops from, "layer0.forward.input_dropout" (batch, gates, width) and so on.
        normalization: None, "layer" or "batch" after every layer, with Keras's constants.
        l2: Factor of the sum of the squares of all kernels that is added to the loss.
        dtype: "float32" or "float64".
        masked: Whether there is an input "mask" (batch, time) that is False at padding.
        initial_state: Whether the first states are inputs, "layer0.forward.h" and, of an LSTM, "layer0.forward.c"
            (batch, units).

    With more than one input the inputs are a dict, in which the sequence is "sequence".

    Example:
        >>> import numpy as np
        >>> from keras_models import build, predict
        >>> model = build(cell="lstm", features=3, units=8, bidirectional="sum", head="every_output")
        >>> predict(model, np.zeros((2, 5, 3), "float32")).shape
        (2, 5, 1)

    """
    settings = Settings(**locals())
    inputs = _Inputs(settings)
    if embedding:
        sequence = inputs("sequence", None, dtype="int32")
        sequence = keras.layers.Embedding(vocabulary, embedding, name="embedding", dtype=dtype)(sequence)
    else:
        sequence = inputs("sequence", None, features)
    if masked:
        sequence = AttachMask(name="attach_mask", dtype=settings.dtype)([sequence, inputs("mask", None, dtype="bool")])
    for index in range(layers):
        sequence = _layer(settings, inputs, index, sequence)
        if index == layers - 1 and head == "last_output":
            sequence = sequence[:, -1]
        if normalization:
            sequence = NORMALIZATIONS[normalization](name=f"normalization{index}", dtype=dtype)(sequence)
        if dropout:
            sequence = _dropout(settings, inputs, index, sequence)
    sequence = keras.layers.Dense(outputs, kernel_regularizer=_penalty(settings), name="head", dtype=dtype)(sequence)
    model = keras.Model(inputs.by_name if len(inputs.by_name) > 1 else inputs.by_name["sequence"], sequence, name=cell)
    model.settings = settings
    return model


def _layer(settings: Settings, inputs: _Inputs, index: int, sequence: Any) -> Any:
    """Run layer `index` on a sequence; only of the last layer are the last outputs alone asked for."""
    options = {"recurrent_activation": settings.recurrent_activation} if settings.cell != "simple_rnn" else {}
    options |= {"reset_after": settings.reset_after} if settings.cell == "gru" else {}
    layer = CELLS[settings.cell](
        settings.units,
        activation=settings.activation,
        use_bias=settings.use_bias,
        kernel_regularizer=_penalty(settings),
        recurrent_regularizer=_penalty(settings),
        dropout=settings.input_dropout,
        recurrent_dropout=settings.recurrent_dropout,
        return_sequences=index < settings.layers - 1 or settings.head != "last_state",
        go_backwards=settings.go_backwards,
        stateful=settings.stateful,
        zero_output_for_mask=settings.zero_output_for_mask,
        name=f"layer{index}",
        dtype=settings.dtype,
        **options,
    )
    if settings.bidirectional:
        layer = keras.layers.Bidirectional(
            layer, merge_mode=settings.bidirectional, name=f"layer{index}", dtype=settings.dtype
        )
    locations = [f"layer{index}.{direction}" for direction in settings.directions]
    arguments: dict[str, Any] = {}
    if settings.initial_state:
        states = [inputs(f"{name}.{part}", settings.units) for name in locations for part in settings.state_parts]
        # Keras hands a sequence's mask on by itself only to a layer that takes no other tensor.
        arguments = {"initial_state": states, "mask": inputs.by_name.get("mask")}
    if settings.dropout_masks == "shared" and (settings.input_dropout or settings.recurrent_dropout):
        masks = _cell_masks(settings, inputs, locations, sequence)
        return SharedCellMasks(layer, name=f"layer{index}", dtype=settings.dtype)(sequence, masks, **arguments)
    return layer(sequence, **arguments)


def _cell_masks(settings: Settings, inputs: _Inputs, locations: list[str], sequence: Any) -> dict[str, Any]:
    """What multiplies a cell's input or state at every timestep: (batch, gates, width), one gate for all."""
    # Keras's gates share one mask unless the state is dropped too.
    gates = len(MASK_GATES[settings.cell]) if settings.recurrent_dropout else 1
    widths = {"input_dropout": sequence.shape[-1], "recurrent_dropout": settings.units}
    return {
        f"{location.partition('.')[2]}.{kind}": inputs(f"{location}.{kind}", gates, width)
        for location in locations
        for kind, width in widths.items()
        if getattr(settings, kind)
    }


def _dropout(settings: Settings, inputs: _Inputs, index: int, sequence: Any) -> Any:
    """Drop from what layer `index` hands on."""
    name = f"dropout{index}"
    if settings.dropout_masks == "shared":
        mask = inputs(name, *sequence.shape[1:])
        return SharedDropout(settings.dropout, name=f"shared_{name}", dtype=settings.dtype)([sequence, mask])
    return keras.layers.Dropout(settings.dropout, name=name, dtype=settings.dtype)(sequence)


def _penalty(settings: Settings) -> keras.regularizers.Regularizer | None:
    """What is added to the loss for a kernel: l2 times the sum of its squares."""
    return keras.regularizers.L2(settings.l2) if settings.l2 else None
