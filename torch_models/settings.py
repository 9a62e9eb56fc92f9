"""The keywords of `build`, checked; `keras_models/settings.py` is the same text."""

from dataclasses import dataclass

CHOICES = {
    "cell": ("simple_rnn", "lstm", "gru"),
    "bidirectional": (None, "concat", "sum", "mul", "ave"),
    "head": ("last_state", "last_output", "every_output"),
    "dropout_masks": ("independent", "shared"),
    "normalization": (None, "layer", "batch"),
}


@dataclass(frozen=True)
class Settings:
    """The keywords of `build`, checked; raises ValueError for an unknown name or a size below 1."""

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
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                accepted = ", ".join(map(str, choices))
                raise ValueError(f"{name}={getattr(self, name)!r} is unknown; accepted: {accepted}")
        for name in ("features", "units", "outputs", "layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if self.embedding and not self.vocabulary:
            raise ValueError(f"embedding={self.embedding} needs a vocabulary, the number of token ids")
        if self.stateful and not self.batch_size:
            raise ValueError("stateful=True needs a batch_size, the number of sequences whose states are kept")

    @property
    def width(self) -> int:
        """The width of a layer's outputs."""
        return 2 * self.units if self.bidirectional == "concat" else self.units

    @property
    def state_parts(self) -> tuple[str, ...]:
        """What the state of a layer consists of."""
        return ("h", "c") if self.cell == "lstm" else ("h",)

    @property
    def directions(self) -> tuple[str, ...]:
        """The directions in which a layer runs."""
        return ("forward", "backward") if self.bidirectional else ("forward",)
