"""The reference of a step as a framework's defect has it, by which the defect is proved."""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from compare.judge.step_reference import Computed, StepReference, Tensors
from compare.reference.clipping import by_variable_norm, clip
from compare.reference.network import Network
from compare.reference.sums import sum_rows
from compare.reference.update_rules import apply_update

TABLE = "embedding/embeddings"


class ChangedReference(StepReference):
    """A reference that is made from another one of the same step."""

    @classmethod
    def of(cls, reference: StepReference) -> Self:
        """Compute a step once more, as this class has it."""
        state = reference.weights, reference.slots, reference.non_trainable
        changed = cls(reference.experiment, reference.step, *state, reference.precision)
        changed.state_and_batch = reference.state_and_batch
        return changed


class StartsAtPadding(ChangedReference):
    """A layer puts out the state that it was given at padding that comes first."""

    def _network(self, weights: Tensors, inputs: Tensors, non_trainable: Tensors) -> Network:
        return _StartsAtPadding(self.experiment.case.model, weights, inputs, non_trainable)


class _StartsAtPadding(Network):
    starts_at_padding = True


class KeepsNoState(ChangedReference):
    """A layer starts from zeros, and its state stays as it was given."""

    def _network(self, weights: Tensors, inputs: Tensors, non_trainable: Tensors) -> Network:
        zeros = {name: values * 0 if "/state/" in name else values for name, values in non_trainable.items()}
        network = super()._network(weights, inputs, zeros)
        network.non_trainable |= {name: values for name, values in non_trainable.items() if "/state/" in name}
        return network


class RowByRow(ChangedReference):
    """The rows of an embedding's gradient are squared, measured and clipped one by one, and added then.

    Clipping by the norm of all gradients leaves one gradient, so that the rule squares that; clipping by that of each
    leaves the rows. Source: `elementwise_unary` of `keras/src/backend/tensorflow/sparse.py`, `_clip_by_norm` and
    `clip_by_global_norm` of `keras/src/optimizers/base_optimizer.py`.
    """

    def _network(self, weights: Tensors, inputs: Tensors, non_trainable: Tensors) -> Network:
        self.network = super()._network(weights, inputs, non_trainable)
        return self.network

    @property
    def _training(self) -> Any:
        return self.experiment.case.training

    def _rows(self) -> Any:
        """The gradient of each place where a token was looked up (batch, time, width)."""
        return self.network.d_inputs

    def _clipped_rows(self) -> Any:
        rows, training = self._rows(), self._training
        if training.clipvalue is not None:
            return np.clip(rows, -training.clipvalue, training.clipvalue)
        if training.clipnorm is not None:
            return by_variable_norm(training.clipnorm, {TABLE: rows}, {TABLE: rows})[TABLE]
        return rows

    def _added(self, rows: Any) -> Any:
        return sum_rows(rows, self.inputs["sequence"], len(self.weights[TABLE]))

    def clipped(self, gradients: Tensors) -> Computed:
        """Clip as `StepReference.clipped` does, rows one by one."""
        arrays: dict[str, Any] = self._arithmetic().arrays(gradients)
        clipped: Mapping[str, Any] = clip(self._training, arrays, arrays | {TABLE: self._rows()})
        if self._training.clipvalue is not None:
            clipped = {**clipped, TABLE: self._added(self._clipped_rows())}
        return Computed.of({f"clip/{name}": tensor for name, tensor in clipped.items()})

    def updated(self, gradients: Tensors, learning_rate: float) -> Computed:
        """Update as `StepReference.updated` does, rows squared one by one."""
        computed = super().updated(gradients, learning_rate)
        if self._training.global_clipnorm is not None:
            return computed
        rows, rounding = self._clipped_rows(), self._arithmetic()
        weights, slots = apply_update(
            self._training,
            rounding.arrays({TABLE: self.weights[TABLE]}),
            rounding.arrays({TABLE: gradients[TABLE]}),
            rounding.arrays({name: slot for name, slot in self.slots.items() if "/" not in name or TABLE in name}),
            self.step,
            learning_rate,
            casts=self.experiment.case.dtype == self.precision,
            square=lambda gradient: self._added(rows**2),
            magnitude=lambda gradient: self._added(np.abs(rows)),
        )
        own = {f"slot/{name}": slot for name, slot in slots.items() if TABLE in name}
        of_table = Computed.of({f"update/{TABLE}": weights[TABLE], **own})
        of_table.exact[f"update/{TABLE}"] = of_table.exact[f"update/{TABLE}"] - self.weights[TABLE]
        return Computed(computed.exact | of_table.exact, computed.rounding | of_table.rounding)
