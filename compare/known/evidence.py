"""Proof from the checked steps: a side's record of a step against a reference that is changed as a cause has it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from compare.judge.step_errors import StepError, step_errors
from compare.judge.step_reference import StepReference, Tensors
from compare.judge.verdict import Difference

Change = Callable[[StepReference], StepReference]


@dataclass(frozen=True)
class Evidence:
    """The references of the checked steps, and each side's record of a step by its number."""

    references: Sequence[StepReference]
    records: Mapping[str, Callable[[int], Tensors | None]]
    _measured: dict[tuple[str, int, Change], list[StepError]] = field(default_factory=dict)

    def errors(self, side: str, step: int, change: Change) -> list[StepError]:
        """Measure a side's record of a step against the changed reference; nothing where there is no whole record."""
        key = side, step, change
        if key not in self._measured:
            self._measured[key] = self._errors(*key)
        return self._measured[key]

    def _errors(self, side: str, step: int, change: Change) -> list[StepError]:
        record = self.records[side](step) if side in self.records else None
        for reference in self.references:
            if reference.step == step and record is not None:
                try:
                    return list(step_errors(change(reference), record))
                except KeyError:  # a tensor that is missing, which is a difference already
                    return []
        return []

    def explains(self, difference: Difference, change: Change) -> bool:
        """Whether the side that is off is where the changed reference is, in the tensor that differs."""
        of_step = self.errors(difference.off_side, difference.step, change)
        same = [error for error in of_step if (error.phase, _tensor(error)) == (difference.phase, difference.tensor)]
        return bool(same) and all(error.tolerance_ratio <= 1 for error in same)

    def explains_step(self, side: str, step: int, change: Change) -> bool:
        """Whether a side is where the changed reference is, in everything that the step computes."""
        of_step = self.errors(side, step, change)
        return bool(of_step) and all(error.tolerance_ratio <= 1 for error in of_step)


def _tensor(error: StepError) -> str | None:
    return error.tensor.removeprefix("slot/") or None
