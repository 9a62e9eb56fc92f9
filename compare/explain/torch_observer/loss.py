"""A user's loss: its arguments and value seen, and changed on their way to the backward pass."""

from typing import Any

import torch

from compare.explain.torch_observer.changes import Changes
from compare.explain.torch_observer.observed import Observed
from compare.explain.torch_observer.recording import copied, row_order


class Loss:
    """Stands for a user's loss, whose attributes it has too."""

    def __init__(self, loss: Any, observed: Observed, changes: Changes) -> None:
        self._loss, self._observed, self._changes = loss, observed, changes

    def __call__(self, prediction: Any, target: Any, *rest: Any, **options: Any) -> Any:
        """Compute the loss, or what it was changed to."""
        self._note(prediction, target)
        target = self._changed_target(prediction, target)
        if self._changes.loss is not None:
            return self._changes.loss(prediction, target)
        return self._loss(prediction, target, *rest, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loss, name)

    def _note(self, prediction: Any, target: Any) -> None:
        if isinstance(prediction, torch.Tensor):
            self._observed.prediction = prediction
            if prediction.requires_grad:
                prediction.retain_grad()
        if isinstance(target, torch.Tensor):
            self._observed.record["loss_target"] = copied(target)
            order = row_order(copied(self._observed.targets), copied(target))
            if order is not None:
                self._observed.record["target_order"] = order

    def _changed_target(self, prediction: Any, target: Any) -> Any:
        targets = self._observed.targets
        if self._changes.own_target:
            target = targets.reshape(target.shape) if targets.numel() == target.numel() else targets
        if self._changes.target_like_prediction and target.numel() == prediction.numel():
            target = target.reshape(prediction.shape)
        return target

    def differentiated(self, loss: torch.Tensor) -> torch.Tensor:
        """What to differentiate instead of a loss; the forward pass is recorded now.

        What a training step computes afterwards, a validation say, is not part of the step.
        """
        observed = self._observed
        observed.before_backward = False
        if self._changes.loss_divisor is not None:
            sizes = {"batch": len(observed.targets), "elements": observed.prediction.numel()}
            loss = loss / {**sizes, "steps": observed.timesteps()}[self._changes.loss_divisor]
        if self._changes.penalty is not None:
            loss = loss + self._changes.penalty()
        observed.record["loss"] = copied(loss)
        observed.record_forward("")
        return loss
