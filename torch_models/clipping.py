"""Gradient clipping as Keras does it."""

import re
from collections import defaultdict
from collections.abc import Sequence

import torch


def clip(
    gradients: list[torch.Tensor],
    names: Sequence[str],
    *,
    clipvalue: float | None = None,
    clipnorm: float | None = None,
    global_clipnorm: float | None = None,
) -> list[torch.Tensor]:
    """Return gradients clipped by value, or by the norm of each Keras variable, or by the norm of all together.

    The gradients themselves are not changed. `names` of their parameters in the model are needed by clipnorm alone.
    Source: `keras/src/optimizers/base_optimizer.py`, `_clip_gradients`, and `tf.clip_by_norm`.
    """
    if clipvalue is not None:
        clipped = torch._foreach_clamp_max(gradients, clipvalue)
        torch._foreach_clamp_min_(clipped, -clipvalue)
        return list(clipped)
    if clipnorm is not None:
        divisors = [norm.clamp_min(clipnorm) for norm in _variable_norms(gradients, names)]
        clipped = torch._foreach_mul(gradients, clipnorm)
        torch._foreach_div_(clipped, divisors)
        return list(clipped)
    if global_clipnorm is not None:
        norm = _joint_norm(torch._foreach_norm(gradients))
        scale = global_clipnorm * torch.clamp_max(1 / norm, 1 / global_clipnorm)
        # Not a number where the norm is infinite, as Keras has it.
        return list(torch._foreach_mul(gradients, scale + (norm - norm)))
    return gradients


def _variable_norms(gradients: list[torch.Tensor], names: Sequence[str]) -> list[torch.Tensor]:
    """Return for each gradient the norm of the Keras variable to which it belongs.

    GRU's two biases are the two rows of one variable in Keras.
    """
    variables = [re.sub(r"bias_[ih]h", "bias", name) for name in names]
    members = defaultdict(list)
    for variable, norm in zip(variables, torch._foreach_norm(gradients), strict=True):
        members[variable].append(norm)
    norms = {variable: _joint_norm(parts) for variable, parts in members.items()}
    return [norms[variable] for variable in variables]


def _joint_norm(norms: Sequence[torch.Tensor]) -> torch.Tensor:
    return norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(list(norms)))
