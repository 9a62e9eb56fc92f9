"""SimpleRNN, LSTM and GRU models in native PyTorch; `keras_models/recurrent.py` is their mirror."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from torch_models.cells import MASK_GATES, State, Stepped
from torch_models.normalization import NORMALIZATIONS, build_normalization
from torch_models.recurrence import FUSED, build_layer, run

CELLS = FUSED
MERGES = {
    "concat": lambda forward, backward: torch.cat([forward, backward], dim=-1),
    "sum": lambda forward, backward: forward + backward,
    "mul": lambda forward, backward: forward * backward,
    "ave": lambda forward, backward: (forward + backward) / 2,
}
HEADS = ("last_state", "last_output", "every_output")
DROPOUT_MASKS = ("own", "given")

Inputs = torch.Tensor | Mapping[str, torch.Tensor]


class Bidirectional(nn.Module):
    """Two layers over the same inputs, one of them backwards."""

    def __init__(self, forward_layer: nn.Module, backward_layer: nn.Module) -> None:
        super().__init__()
        self.forward_layer, self.backward_layer = forward_layer, backward_layer


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
    sequence_first: bool

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

    def zeros_padding(self, layer: int) -> bool:
        """Whether a layer's outputs at padding are zero; Keras's Bidirectional has it so where it returns them all."""
        if self.bidirectional:
            return layer < self.layers - 1 or self.head != "last_state"
        return self.zero_output_for_mask

    @property
    def mask_gates(self) -> int:
        """How many dropout masks a cell has for its gates: Keras's share one unless the state is dropped too."""
        return len(MASK_GATES[self.cell]) if self.recurrent_dropout else 1


class Recurrent(nn.Module):
    """A stack of recurrent layers with a linear head; `build` has the meaning of the settings."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        self.cell = settings.cell
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
            directions = [
                build_layer(settings.cell, width, settings.units, **options)
                for _ in range(2 if settings.bidirectional else 1)
            ]
            self.layers.append(Bidirectional(*directions) if settings.bidirectional else directions[0])
            width = settings.width
            if settings.normalization:
                self.normalizations.append(build_normalization(settings.normalization, width, dtype))
            if settings.stateful:
                for part in settings.state_parts:
                    self.register_buffer(
                        f"carried{index}_{part}", torch.zeros(settings.batch_size, settings.units, dtype=dtype)
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
        parts = inputs if isinstance(inputs, Mapping) else {"sequence": inputs}
        sequence, mask = parts["sequence"], parts["mask"] if self.settings.masked else None
        if self.settings.sequence_first:
            sequence = sequence.transpose(0, 1)
        if self.embedding is not None:
            sequence = self.embedding(sequence)
            yield "embedding", sequence
        for index, layer in enumerate(self.layers):
            sequence, last = self._run_layer(index, layer, sequence, mask, parts)
            yield f"layer{index}", sequence
            if index == len(self.layers) - 1 and self.settings.head != "every_output":
                sequence = last if self.settings.head == "last_state" else sequence[:, -1]
            if self.normalizations:
                sequence = self.normalizations[index](sequence)
                if index < len(self.layers) - 1:
                    yield f"normalization{index}", sequence
            if self.settings.dropout and self.training:
                sequence = self._drop(sequence, parts, index)
        yield "head", self.head(sequence)

    def _run_layer(
        self,
        index: int,
        layer: nn.Module,
        sequence: torch.Tensor,
        mask: torch.Tensor | None,
        parts: Mapping[str, torch.Tensor],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a layer's outputs at every timestep, and what it returns where only the last is asked for."""
        if self.settings.bidirectional is None:
            outputs = self._run_direction(index, "forward", layer, sequence, mask, parts, self.settings.go_backwards)
            return outputs, outputs[:, -1]
        forward = self._run_direction(index, "forward", layer.forward_layer, sequence, mask, parts, False)
        backward = self._run_direction(index, "backward", layer.backward_layer, sequence, mask, parts, True)
        merge = MERGES[self.settings.bidirectional]
        return merge(forward, backward.flip(1)), merge(forward[:, -1], backward[:, -1])

    def _run_direction(
        self,
        index: int,
        direction: str,
        layer: nn.RNNBase | Stepped,
        sequence: torch.Tensor,
        mask: torch.Tensor | None,
        parts: Mapping[str, torch.Tensor],
        go_backwards: bool,
    ) -> torch.Tensor:
        place = f"layer{index}.{direction}"
        state: State | None = None
        if self.settings.stateful:
            state = tuple(getattr(self, f"carried{index}_{part}") for part in self.settings.state_parts)
        elif self.settings.initial_state:
            state = tuple(parts[f"{place}.{part}"] for part in self.settings.state_parts)
        outputs, last = run(
            layer,
            sequence,
            state,
            mask,
            self._cell_masks(f"{place}.input_dropout", sequence, self.settings.input_dropout, parts),
            self._cell_masks(f"{place}.recurrent_dropout", sequence, self.settings.recurrent_dropout, parts),
            go_backwards,
            self.settings.zeros_padding(index),
        )
        if self.settings.stateful:
            for part, value in zip(self.settings.state_parts, last, strict=True):
                setattr(self, f"carried{index}_{part}", value.detach())
        return outputs

    def _cell_masks(
        self, name: str, sequence: torch.Tensor, rate: float, parts: Mapping[str, torch.Tensor]
    ) -> torch.Tensor | None:
        """What multiplies a cell's input or state at every timestep: (batch, gates, width), one gate for all."""
        if not rate or not self.training:
            return None
        if self.settings.dropout_masks == "given":
            return parts[name] / (1 - rate)
        width = sequence.shape[-1] if name.endswith("input_dropout") else self.settings.units
        return nn.functional.dropout(sequence.new_ones(len(sequence), self.settings.mask_gates, width), rate)

    def _drop(self, sequence: torch.Tensor, parts: Mapping[str, torch.Tensor], index: int) -> torch.Tensor:
        if self.settings.dropout_masks == "given":
            return sequence * (parts[f"dropout{index}"] / (1 - self.settings.dropout))
        return nn.functional.dropout(sequence, self.settings.dropout)

    def reset_states(self) -> None:
        """Set the carried states to zero, as between epochs."""
        for name, buffer in self.named_buffers():
            if name.startswith("carried"):
                buffer.zero_()

    def penalty(self) -> torch.Tensor | float:
        """What Keras's `l2` regularizers add to the loss: l2 times the sum of the squares of all kernels."""
        if not self.settings.l2:
            return 0.0
        kernels = [parameter for name, parameter in self.named_parameters() if _is_kernel(name)]
        # Keras casts it as `ops.cast(l2, dtype)`, which on TensorFlow makes it float32 first.
        return float(np.float32(self.settings.l2)) * sum(kernel.square().sum() for kernel in kernels)


def _is_kernel(name: str) -> bool:
    return "weight_ih" in name or "weight_hh" in name or name == "head.weight"


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
    sequence_first: bool = False,
) -> Recurrent:
    """Build a stack of recurrent layers with a linear head.

    Input (batch, time, features), or token ids (batch, time) with an `embedding` of a `vocabulary`; output (batch,
    outputs), or (batch, time, outputs) with head "every_output"; any number of timesteps. With `masked`,
    `initial_state` or `dropout_masks` "given" the input is a dict: "sequence", "mask" (batch, time) that is False at
    padding, initial states "layer0.forward.h", "….c" (batch, units), and the masks of ones and zeros.
    `bidirectional` is a merge mode; `stateful` carries states over batches of `batch_size`. With `sequence_first` the
    sequence is (time, batch, features). LSTM and SimpleRNN get the one
    trainable bias that Keras has; `train_both_biases` undoes that.
    Raises ValueError for an unknown name or a size below 1.
    """
    return Recurrent(Settings(**locals()))


def train_both_biases(model: Recurrent) -> None:
    """Make the second bias of every layer trainable again, as stock PyTorch has it."""
    for layer in model.layers.modules():
        if isinstance(layer, nn.RNNBase) and layer.bias:
            layer.bias_hh_l0.requires_grad_(True)
