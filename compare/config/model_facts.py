"""What follows from a model's fields, and cases without validation: all that a worker needs, without pydantic."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from compare.config.gates import gate_count

# What `model.dropout_masks` was called in cases and golden traces of earlier versions.
EARLIER_DROPOUT_MASKS = {"given": "shared", "own": "independent"}


class ModelFacts:
    """What follows from the fields of a model; `compare.config.model.ModelConfig` says what these mean."""

    cell: Any
    bidirectional: Any
    head: Any
    zero_output_for_mask: bool
    layers: int
    dropout: float
    input_dropout: float
    recurrent_dropout: float
    dropout_masks: Any

    def zeros_padding(self, layer: int) -> bool:
        """Whether a layer's outputs at padding are zero; Keras's Bidirectional has it so where it returns them all."""
        if self.bidirectional:
            return layer < self.layers - 1 or self.head != "last_state"
        return self.zero_output_for_mask

    @property
    def drops(self) -> bool:
        """Whether there is any dropout."""
        return bool(self.dropout or self.input_dropout or self.recurrent_dropout)

    @property
    def shared_masks(self) -> bool:
        """Whether dropout takes masks that are drawn outside, the same for both sides."""
        return self.drops and self.dropout_masks == "shared"

    @property
    def independent_masks(self) -> bool:
        """Whether each side draws its own dropout masks, so that trainings are comparable as a distribution only."""
        return self.drops and self.dropout_masks == "independent"

    @property
    def mask_gates(self) -> int:
        """How many dropout masks a cell has for its gates: Keras's share one unless the state is dropped too."""
        return gate_count(self.cell) if self.recurrent_dropout else 1

    def layer_inputs(self, *parts: str, layer: int | None = None) -> list[str]:
        """Name inputs of recurrent layers: "layer0.forward.h" for the part "h", of one layer or of all."""
        directions = ("forward", "backward") if self.bidirectional else ("forward",)
        indices = range(self.layers) if layer is None else (layer,)
        return [f"layer{index}.{direction}.{part}" for index in indices for direction in directions for part in parts]


class PlainModel(SimpleNamespace, ModelFacts):
    """A model's fields as they were written, not validated."""


def plain_case(fields: Mapping[str, Any]) -> Any:
    """Return a case with the fields of a `compare.config.case.Case` as JSON has them, validated when written."""
    sections = {"model": PlainModel, "data": SimpleNamespace, "training": SimpleNamespace}
    case = SimpleNamespace(**_tuples(fields) | {name: kind(**_tuples(fields[name])) for name, kind in sections.items()})
    case.model.dropout_masks = EARLIER_DROPOUT_MASKS.get(case.model.dropout_masks, case.model.dropout_masks)
    return case


def _tuples(fields: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has lists where a case has tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
