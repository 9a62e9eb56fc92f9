"""What Keras lacks of layers: those that take a mask, or masks for dropout, as inputs."""

from typing import Any

import keras

CELLS = {"simple_rnn": keras.layers.SimpleRNN, "lstm": keras.layers.LSTM, "gru": keras.layers.GRU}
NORMALIZATIONS = {"layer": keras.layers.LayerNormalization, "batch": keras.layers.BatchNormalization}


class AttachMask(keras.layers.Layer):
    """Returns a sequence unchanged, with a mask (batch, time) that the layers after it and the loss heed."""

    def __init__(self, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.supports_masking = True

    def call(self, inputs: list[Any]) -> Any:
        """Return the first of (sequence, mask)."""
        return keras.ops.copy(inputs[0])

    def compute_mask(self, inputs: list[Any], previous_mask: Any) -> Any:
        """Return the second of (sequence, mask)."""
        return inputs[1]

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return the shape of the sequence."""
        return input_shape[0]


class SharedDropout(keras.layers.Layer):
    """Dropout by a mask of ones and zeros that is an input, of the shape of what it drops from."""

    def __init__(self, rate: float, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.rate = rate
        self.supports_masking = True

    def call(self, inputs: list[Any], training: bool = False) -> Any:
        """Return the first of (values, ones and zeros), in training scaled and dropped."""
        values, mask = inputs
        return values * (mask / (1 - self.rate)) if training else values

    def compute_mask(self, inputs: list[Any], previous_mask: Any) -> Any:
        """Return the mask of the values."""
        return previous_mask[0] if previous_mask else None

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return the shape of the values."""
        return input_shape[0]


class SharedCellMasks(keras.layers.Layer):
    """A recurrent layer whose `dropout` and `recurrent_dropout` take their masks from inputs.

    Keras's cells keep the mask that they have drawn for a batch and use it at every timestep; here it is put there.
    """

    def __init__(self, layer: keras.layers.Layer, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.layer = layer
        self.supports_masking = True

    def build(self, sequence_shape: Any, *_: Any) -> None:
        """Build the layer."""
        self.layer.build(sequence_shape)
        self.built = True

    def call(
        self,
        sequence: Any,
        masks: dict[str, Any],
        initial_state: list[Any] | None = None,
        mask: Any = None,
        training: bool = False,
    ) -> Any:
        """Run the layer.

        `masks`: "<direction>.input_dropout" and "<direction>.recurrent_dropout" (batch, gates, width) of ones and
        zeros, one for each gate or one for all.
        """
        if training:
            for direction, layer in directions(self.layer):
                cell = layer.cell
                for name, rate, attribute in (
                    ("input_dropout", cell.dropout, "_dropout_mask"),
                    ("recurrent_dropout", cell.recurrent_dropout, "_recurrent_dropout_mask"),
                ):
                    if rate:
                        scaled = masks[f"{direction}.{name}"] / (1 - rate)
                        gates = getattr(cell, "dropout_mask_count", None)
                        by_gate = scaled[:, 0] if gates is None else [scaled[:, gate] for gate in range(gates)]
                        setattr(cell, attribute, by_gate)
        return self.layer(sequence, initial_state=initial_state, mask=mask, training=training)

    def compute_mask(self, *_: Any, **__: Any) -> Any:
        """Leave the mask to the layer within."""
        return None

    def compute_output_shape(self, sequence_shape: Any, *_: Any) -> Any:
        """Return the shape of the layer's outputs."""
        return self.layer.compute_output_shape(sequence_shape)


def inner(layer: keras.layers.Layer) -> keras.layers.Layer:
    """Return the layer itself, out of what gives it its masks."""
    return layer.layer if isinstance(layer, SharedCellMasks) else layer


def directions(layer: keras.layers.Layer) -> list[tuple[str, keras.layers.RNN]]:
    """Name the layers that a recurrent layer consists of by their direction."""
    layer = inner(layer)
    if isinstance(layer, keras.layers.Bidirectional):
        return [("forward", layer.forward_layer), ("backward", layer.backward_layer)]
    return [("forward", layer)]
