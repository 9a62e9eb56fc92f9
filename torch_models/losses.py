"""Losses by name; the mean over what is not masked, as Keras reduces them. `keras_models/losses.py` is the mirror."""

from collections.abc import Callable

import torch
from torch import nn

LOSSES: dict[str, Callable[..., torch.Tensor]] = {
    "mse": nn.functional.mse_loss,
    "mae": nn.functional.l1_loss,
    "huber": nn.functional.huber_loss,
    "sparse_categorical_crossentropy": nn.functional.cross_entropy,
}


class Loss(nn.Module):
    """The mean of a loss over a batch, and over the timesteps that count where there is one label for each."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.function = LOSSES[name]

    def forward(self, outputs: torch.Tensor, targets: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Return the loss of outputs (batch, …, width); a mask (batch, time) is False at timesteps that do not count.

        Targets are like the outputs, or int32 class labels without the last axis; the outputs then are logits.
        """
        if self.name == "sparse_categorical_crossentropy":
            outputs, targets = outputs.flatten(0, -2), targets.flatten().long()
            if mask is None:
                return self.function(outputs, targets)
            values = self.function(outputs, targets, reduction="none").view_as(mask)
        elif mask is None:
            return self.function(outputs, targets)
        else:
            values = self.function(outputs, targets, reduction="none").mean(dim=-1)
        # Of a batch of which nothing counts Keras makes a loss of zero.
        return torch.where(mask, values, 0).sum() / mask.sum().clamp(min=1)


def build_loss(name: str) -> Loss:
    """Build a loss by name; raises ValueError for an unknown one."""
    if name not in LOSSES:
        raise ValueError(f"loss {name!r} is unknown; accepted: {', '.join(LOSSES)}")
    return Loss(name)
