"""Examples: what any task is trained on and tested with, as arrays; windows of a series give the same parts."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Part:
    """Inputs and targets of the training part or of the held-out part, one example a row.

    Inputs are numbers (examples, time, features) in the case's dtype or token ids (examples, time) as int32. Targets
    are (examples, outputs) in the case's dtype, or int32 class labels: one an example (examples,), or one a timestep
    (examples, time). The mask (examples, time) is False where a timestep is padding; None where nothing is padded.
    """

    inputs: np.ndarray
    targets: np.ndarray
    mask: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Examples:
    """The two parts of a task's data, the sizes that a model for it has, and what the reader must be told.

    `features` is the width of an input at one timestep, `vocabulary` the number of token ids (one of the two is None).
    `outputs` is the width of the head: values to predict, or classes. `symbols` are the words or characters of token
    ids, `labels` the names of the classes, where there are any. `notes` say what was done to the data (gaps filled).
    """

    training: Part
    test: Part
    outputs: int
    features: int | None = None
    vocabulary: int | None = None
    symbols: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def as_examples(self) -> "Examples":
        """Return itself; windows of a series have the same method."""
        return self

    def arrays(self) -> dict[str, np.ndarray]:
        """All arrays by name, as they are hashed and kept on disk; windows of a series have the same method."""
        return {
            f"{name}/{field}": array
            for name, part in {"training": self.training, "test": self.test}.items()
            for field, array in vars(part).items()
            if array is not None
        }
