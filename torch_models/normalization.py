"""Normalisation as Keras computes it; `nn.LayerNorm` needs only Keras's epsilon."""

import torch
from torch import nn

# Keras's defaults; torch's own are 1e-5 for both and a momentum of 0.1, with the opposite meaning.
EPSILON = 1e-3
BATCH_MOMENTUM = 0.99


def build_normalization(kind: str, width: int, dtype: torch.dtype) -> nn.Module:
    """Return a "layer" or "batch" normalisation of the last axis with Keras's epsilon and momentum."""
    return NORMALIZATIONS[kind](width, eps=EPSILON, dtype=dtype)


class KerasBatchNorm(nn.BatchNorm1d):
    """Batch normalisation of the last axis over all others, whose running variance is the biased one, as in Keras."""

    def __init__(self, width: int, eps: float, dtype: torch.dtype) -> None:
        super().__init__(width, eps=eps, momentum=1 - BATCH_MOMENTUM, dtype=dtype)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Map (batch, width) or (batch, time, width) to the same shape; in training the running figures move."""
        rows = inputs.reshape(-1, self.num_features)
        if self.training:
            with torch.no_grad():
                variance, mean = torch.var_mean(rows, dim=0, correction=0)
                self.running_mean.mul_(BATCH_MOMENTUM).add_(mean * (1 - BATCH_MOMENTUM))
                self.running_var.mul_(BATCH_MOMENTUM).add_(variance * (1 - BATCH_MOMENTUM))
            normalized = nn.functional.batch_norm(rows, None, None, self.weight, self.bias, True, 0.0, self.eps)
        else:
            normalized = nn.functional.batch_norm(
                rows, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
            )
        return normalized.view_as(inputs)


NORMALIZATIONS = {"layer": nn.LayerNorm, "batch": KerasBatchNorm}
