"""What `compare.explain` asks of each side of a pair file; `torch_observer` and `keras_observer` have a `Side` each."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

Facts = dict[str, Any]
Tensors = dict[str, np.ndarray]
Batch = tuple[np.ndarray, np.ndarray]


class Observer(Protocol):
    """One side at work in a process of its own; every run starts from the beginning with a model of its own."""

    def describe(self, inputs: np.ndarray, targets: np.ndarray) -> tuple[Facts, Tensors]:
        """Take one step, without dropout, and say what the model, its loss and its optimizer are.

        Facts are what JSON can hold, tensors Keras's initial weights. Raises TypeError, with what to return instead,
        where the user's function returns something of another kind.
        """

    def run(
        self,
        weights: Mapping[str, np.ndarray],
        batches: Sequence[Batch],
        changes: Sequence[Mapping[str, Any]],
        recorded: Sequence[int],
        dropout: str,
    ) -> Tensors:
        """Train on the batches from given weights; the recorded steps are kept whole, of the others the loss.

        `changes` are counterfactuals, dicts with the name as "change". `dropout` is "shared" for masks that both sides
        draw alike, "rows" for those of one row in all of them, or "off".
        """

    def state(self, weights: Mapping[str, np.ndarray], inputs: np.ndarray) -> Tensors:
        """Return the model's own weights, under its own names, with weights loaded; `inputs` build it."""
