"""A user's layers at work: seen, and computed with changes; torch_observer/layers.py is its mirror."""

from typing import Any

import keras

from compare.explain.dropout_masks import kept
from compare.explain.keras_observer.changes import Changes
from compare.explain.keras_observer.observed import Observed
from compare.explain.keras_observer.parts import CELLS, Part, parts_of


class Layers:
    """What stands between a user's model and Keras: notes what passes, and passes on what was changed."""

    def __init__(self, observed: Observed, changes: Changes) -> None:
        self.observed, self.changes = observed, changes

    def watch(self, model: Any) -> None:
        """Watch the layers of a model that is built."""
        for part in parts_of(model):
            self.observed.parts[part.key] = part
            if part.kind in CELLS.values():
                self._watch_sequence(part)
            elif part.kind == "dense":
                self._watch_dense(part)
            else:
                self._watch_layer(part)

    def _watch_sequence(self, part: Part) -> None:
        layer = part.layer
        if part.wrapper is not None:
            layer.use_cudnn = False  # a fused bidirectional call would go past the two layers
        original = layer.inner_loop

        def inner_loop(sequences: Any, initial_state: Any, mask: Any, training: bool = False) -> Any:
            self.observed.entered(part.key, sequences)
            if mask is not None:
                self.observed.seen[f"mask/{part.key}"] = mask
            asked, layer.return_sequences = layer.return_sequences, True
            try:
                last, outputs, states = original(sequences, initial_state, mask, training)
            finally:
                layer.return_sequences = asked
            self.observed.left(part.key, keras.ops.flip(outputs, axis=1) if layer.go_backwards else outputs)
            return last, outputs, states

        layer.inner_loop = inner_loop

    def _watch_dense(self, part: Part) -> None:
        """What a Dense layer gives is taken before its activation, which PyTorch has apart."""
        layer, owner = part.layer, part.wrapper or part.layer
        original = owner.call

        def call(x: Any, *arguments: Any, **options: Any) -> Any:
            activation, layer.activation = layer.activation, keras.activations.linear
            self.observed.entered(part.key, x)
            try:
                y = original(x, *arguments, **options)
            finally:
                layer.activation = activation
            self.observed.left(part.key, y)
            return y if activation is None else activation(y)

        owner.call = call

    def _watch_layer(self, part: Part) -> None:
        original = part.layer.call

        def call(x: Any, *arguments: Any, **options: Any) -> Any:
            self.observed.entered(part.key, x)
            y = original(x, *arguments, **options)
            self.observed.left(part.key, y)
            return y

        part.layer.call = call

    def dropout(self, x: Any, rate: float, noise_shape: Any) -> Any:
        """Drop alike on both sides, or not at all."""
        shape = tuple(x.shape) if noise_shape is None else tuple(
            size if asked is None else asked for size, asked in zip(x.shape, noise_shape, strict=True)
        )  # fmt: skip
        call = {"after": self.observed.last_called, "rate": float(rate), "shape": list(shape), "active": True}
        self.observed.dropout_calls.append(call)
        if self.changes.dropout == "off":
            return x
        shape = (1, *shape[1:]) if self.changes.dropout == "rows" else shape
        mask = keras.ops.convert_to_tensor(kept(shape, rate).astype("float32"))
        return x * keras.ops.cast(mask, x.dtype) / (1 - rate)
