"""Twins: trainings that differ from another by rounding alone, from which the judge measures what rounding does."""

from collections.abc import Mapping

import numpy as np
import torch

from torch_models.optimizers import KerasAdam


def perturb_weights(tensors: Mapping[str, np.ndarray], precision: str, seed: int) -> dict[str, np.ndarray]:
    """Move every number up or down by one unit in its last place of the given precision, at random."""
    generator = np.random.default_rng([seed, 3])
    unit = float(np.finfo(precision).eps)
    return {
        name: (tensor * (1 + unit * generator.choice([-1.0, 1.0], tensor.shape))).astype(tensor.dtype)
        for name, tensor in tensors.items()
    }


def perturb_adam(optimizer: torch.optim.Optimizer, precision: str, seed: int) -> None:
    """Let Adam round otherwise: the powers of its betas, and with an even seed the form in which v is updated.

    A power is rounded to one of its two neighbours at random, the nearer one more often, as another `pow` might.
    Without effect on torch's own optimizers, which have no power in working precision.
    """
    if not isinstance(optimizer, KerasAdam):
        return
    generator = np.random.default_rng([seed, 4])
    working = np.dtype(precision).type

    def beta_powers(group: dict, compute: type[np.floating]) -> list[np.floating]:
        if compute is np.float64 and precision == "float32":
            # Where Keras narrows float64 by itself it does not cast the betas, as it does on TensorFlow.
            return [compute(beta ** group["iterations"]) for beta in group["betas"]]
        powers = []
        for beta in group["betas"]:
            exact = float(np.float32(beta)) ** group["iterations"]
            nearest = working(exact)
            spacing = float(np.spacing(nearest))
            # In float64 the exact power is not known, nor how far it is from the nearest.
            distance = (exact - float(nearest)) / spacing if precision == "float32" else generator.uniform(-0.5, 0.5)
            step = np.sign(distance) * spacing if generator.random() < abs(distance) else 0.0
            powers.append(working(float(nearest) + step))
        return powers

    def update_velocities(velocities: list[torch.Tensor], gradients: list[torch.Tensor], beta_2: float) -> None:
        old, new = (float(np.dtype(precision).type(factor)) for factor in (beta_2, 1 - beta_2))
        torch._foreach_mul_(velocities, old)
        torch._foreach_addcmul_(velocities, gradients, gradients, value=new)

    optimizer.beta_powers = beta_powers
    if seed % 2 == 0:
        optimizer.update_velocities = update_velocities
