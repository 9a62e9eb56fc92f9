"""The recurrent model of a case."""

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from compare.config.model_facts import EARLIER_DROPOUT_MASKS, ModelFacts
from compare.config.section import Section


class ModelConfig(ModelFacts, Section):
    """The recurrent model; features, vocabulary and outputs follow from the data.

    cell: the kind of every recurrent layer.
    units: the width of each layer's state, for each direction.
    layers: how many recurrent layers are stacked.
    embedding: the width of the token embedding; None where inputs are numbers.
    bidirectional: how the outputs of both directions are merged; None runs forward alone.
    head: what the dense head sees: the last state of the last layer, which is its last output unless it runs both ways,
        its last output, or every output (a label for each timestep).
    activation: of the candidate and of the output.
    recurrent_activation: of the gates.
    reset_after: for gru, whether the reset gate acts after the product with the recurrent kernel.
    use_bias: whether the recurrent layers have biases.
    go_backwards: whether the sequence is read from its end.
    zero_output_for_mask: whether outputs at padding are zero instead of the last one before it.
    initial_state: "zeros", or "given": drawn for every example, the same for both sides.
    stateful: whether states go on from batch to batch along a series.
    dropout: the rate between the layers and before the head.
    input_dropout, recurrent_dropout: the rates on every cell's inputs and state, one mask for all timesteps.
    normalization: what follows each layer.
    l2: c of Keras's penalty: c times the sum of the squares of all kernels is added to the loss.
    sequence_first: whether the PyTorch side takes (time, batch, features).
    dropout_masks: "shared" by both sides, or "independent": each side draws its own.
    """

    cell: Literal["simple_rnn", "lstm", "gru"]
    units: int = Field(default=50, ge=1)
    layers: int = Field(default=1, ge=1)
    embedding: int | None = Field(default=None, ge=1)
    bidirectional: Literal["concat", "sum", "mul", "ave"] | None = None
    head: Literal["last_state", "last_output", "every_output"] = "last_state"
    activation: Literal["tanh", "relu", "linear", "elu", "hard_sigmoid", "sigmoid", "softplus", "softsign"] = "tanh"
    recurrent_activation: Literal["sigmoid", "hard_sigmoid", "tanh"] = "sigmoid"
    reset_after: bool = True
    use_bias: bool = True
    go_backwards: bool = False
    zero_output_for_mask: bool = False
    initial_state: Literal["zeros", "given"] = "zeros"
    stateful: bool = False
    dropout: float = Field(default=0, ge=0, lt=1)
    input_dropout: float = Field(default=0, ge=0, lt=1)
    recurrent_dropout: float = Field(default=0, ge=0, lt=1)
    normalization: Literal["layer", "batch"] | None = None
    l2: float = Field(default=0, ge=0)
    sequence_first: bool = False
    dropout_masks: Literal["shared", "independent"] = "shared"

    @field_validator("dropout_masks", mode="before")
    @classmethod
    def _accept_earlier_words(cls, value: Any) -> Any:
        return EARLIER_DROPOUT_MASKS.get(value, value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _model_makes_sense(self) -> Self:
        if not self.reset_after and self.cell != "gru":
            raise ValueError(f"reset_after = false belongs to gru, not to {self.cell}; leave it out")
        if self.recurrent_activation != "sigmoid" and self.cell == "simple_rnn":
            raise ValueError(
                "recurrent_activation belongs to the gates of lstm and gru; simple_rnn has activation alone"
            )
        if self.bidirectional and self.go_backwards:
            raise ValueError("bidirectional layers run both ways already; leave go_backwards out")
        if self.bidirectional and self.stateful:
            raise ValueError("a backward layer has no state to carry on; keep bidirectional or stateful")
        if self.bidirectional and self.zero_output_for_mask:
            raise ValueError("Keras's Bidirectional sets zero_output_for_mask itself; leave it out")
        if self.stateful and self.initial_state == "given":
            raise ValueError('stateful carries each state on; keep stateful or initial_state = "given"')
        return self
