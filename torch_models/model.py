"""SimpleRNN, LSTM and GRU models in native PyTorch; `keras_models/model.py` is the mirror."""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import nn

from torch_models.layers import MERGES, NORMALIZATIONS, State, Stepped, build_layer, run
from torch_models.settings import Settings
from torch_models.weights import MASK_GATES, directions

Inputs = torch.Tensor | Mapping[str, torch.Tensor]


class Recurrent(nn.Module):
    """A stack of recurrent layers with a linear head; `build` has the meaning of the settings."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        dtype = getattr(torch, settings.dtype)
        options = {
            name: getattr(settings, name)
            for name in ("activation", "recurrent_activation", "use_bias", "reset_after", "recurrent_dropout")
        }
        options |= {"batch_first": not settings.sequence_first, "dtype": dtype}
        width = settings.embedding or settings.features
        self.embedding = nn.Embedding(settings.vocabulary, width, dtype=dtype) if settings.embedding else None
        # One module a layer, as Keras stacks them, so that what stands between layers can be the same too.
        self.layers = nn.ModuleList()
        self.normalizations = nn.ModuleList()
        for index in range(settings.layers):
            layers = {
                f"{direction}_layer": build_layer(settings.cell, width, settings.units, **options)
                for direction in settings.directions
            }
            self.layers.append(nn.ModuleDict(layers) if settings.bidirectional else layers["forward_layer"])
            width = settings.width
            if settings.normalization:
                self.normalizations.append(NORMALIZATIONS[settings.normalization](width, dtype=dtype))
            if settings.stateful:
                for part in settings.state_parts:
                    self.register_buffer(
                        f"state{index}_{part}", torch.zeros(settings.batch_size, settings.units, dtype=dtype)
                    )
        self.head = nn.Linear(width, settings.outputs, dtype=dtype)

    def forward(self, inputs: Inputs) -> torch.Tensor:
        """Map (batch, time, features), or a mapping that has it as "sequence", to the head's outputs."""
        *_, (_, outputs) = self.stages(inputs)
        return outputs

    def stages(self, inputs: Inputs) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield what parts compute, by name, in order, up to the last recurrent layer, and what the head does.

        Of recurrent layers it is the outputs at all timesteps, whatever is asked of them.
        """
        settings = self.settings
        inputs = inputs if isinstance(inputs, Mapping) else {"sequence": inputs}
        sequence = inputs["sequence"]
        if settings.sequence_first:
            sequence = sequence.transpose(0, 1)
        if self.embedding is not None:
            sequence = self.embedding(sequence)
            yield "embedding", sequence
        for index in range(settings.layers):
            last = index == settings.layers - 1
            sequence, last_outputs = self._layer(inputs, index, sequence)
            yield f"layer{index}", sequence
            if last and settings.head != "every_output":
                sequence = last_outputs if settings.head == "last_state" else sequence[:, -1]
            if settings.normalization:
                sequence = self.normalizations[index](sequence)
                if not last:
                    yield f"normalization{index}", sequence
            if settings.dropout and self.training:
                sequence = self._dropout(inputs, index, sequence)
        yield "head", self.head(sequence)

    def _layer(
        self, inputs: Mapping[str, torch.Tensor], index: int, sequence: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Run layer `index` on a sequence; return its outputs, and what they are where only the last are asked for."""
        settings = self.settings
        outputs = [
            self._direction(inputs, index, direction, layer, sequence)
            for direction, layer in directions(self.layers[index])
        ]
        if settings.bidirectional is None:
            return outputs[0], outputs[0][:, -1]
        forward, backward = outputs
        merge = MERGES[settings.bidirectional]
        return merge(forward, backward.flip(1)), merge(forward[:, -1], backward[:, -1])

    def _direction(
        self,
        inputs: Mapping[str, torch.Tensor],
        index: int,
        direction: str,
        layer: nn.RNNBase | Stepped,
        sequence: torch.Tensor,
    ) -> torch.Tensor:
        """Run one direction of layer `index`; the outputs stand in the order in which they are computed."""
        settings = self.settings
        location = f"layer{index}.{direction}"
        state: State | None = None
        if settings.stateful:
            state = tuple(getattr(self, f"state{index}_{part}") for part in settings.state_parts)
        elif settings.initial_state:
            state = tuple(inputs[f"{location}.{part}"] for part in settings.state_parts)
        zero_output_for_mask = settings.zero_output_for_mask
        if settings.bidirectional:  # as Keras's Bidirectional has it where it returns outputs at all timesteps
            zero_output_for_mask = index < settings.layers - 1 or settings.head != "last_state"
        outputs, last = run(
            layer,
            sequence,
            state,
            inputs["mask"] if settings.masked else None,
            self._cell_masks(inputs, f"{location}.input_dropout", sequence),
            self._cell_masks(inputs, f"{location}.recurrent_dropout", sequence),
            direction == "backward" if settings.bidirectional else settings.go_backwards,
            zero_output_for_mask,
        )
        if settings.stateful:
            for part, value in zip(settings.state_parts, last, strict=True):
                setattr(self, f"state{index}_{part}", value.detach())
        return outputs

    def _cell_masks(self, inputs: Mapping[str, torch.Tensor], name: str, sequence: torch.Tensor) -> torch.Tensor | None:
        """What multiplies a cell's input or state at every timestep: (batch, gates, width), one gate for all."""
        settings = self.settings
        kind = name.rpartition(".")[2]
        rate = getattr(settings, kind)
        if not rate or not self.training:
            return None
        if settings.dropout_masks == "shared":
            return inputs[name] / (1 - rate)
        # Keras's gates share one mask unless the state is dropped too.
        gates = len(MASK_GATES[settings.cell]) if settings.recurrent_dropout else 1
        width = sequence.shape[-1] if kind == "input_dropout" else settings.units
        return nn.functional.dropout(sequence.new_ones(len(sequence), gates, width), rate)

    def _dropout(self, inputs: Mapping[str, torch.Tensor], index: int, sequence: torch.Tensor) -> torch.Tensor:
        """Drop from what layer `index` hands on."""
        rate = self.settings.dropout
        if self.settings.dropout_masks == "shared":
            return sequence * (inputs[f"dropout{index}"] / (1 - rate))
        return nn.functional.dropout(sequence, rate)

    def penalty(self) -> torch.Tensor | float:
        """What Keras's `l2` regularizers add to the loss: l2 times the sum of the squares of all kernels."""
        if not self.settings.l2:
            return 0.0
        kernels = [
            parameter
            for name, parameter in self.named_parameters()
            if "weight_ih" in name or "weight_hh" in name or name == "head.weight"
        ]
        # Keras casts it as `ops.cast(l2, dtype)`, which on TensorFlow makes it float32 first.
        return float(np.float32(self.settings.l2)) * sum(kernel.square().sum() for kernel in kernels)


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
    sequence_first: bool = False,
) -> Recurrent:
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
        sequence_first: Whether the sequence is (time, batch, features).

    With more than one input the inputs are a dict, in which the sequence is "sequence".

    Example:
        >>> import numpy as np
        >>> from torch_models import build, predict
        >>> model = build(cell="lstm", features=3, units=8, bidirectional="sum", head="every_output")
        >>> predict(model, np.zeros((2, 5, 3), "float32")).shape
        (2, 5, 1)

    """
    return Recurrent(Settings(**locals()))


def train_both_biases(model: Recurrent) -> None:
    """Make the second bias of every layer trainable again, as stock PyTorch has it."""
    for layer in model.layers.modules():
        if isinstance(layer, nn.RNNBase) and layer.bias:
            layer.bias_hh_l0.requires_grad_(True)
