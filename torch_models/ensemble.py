"""Ensemble members: trainings that differ by rounding alone, from which the judge measures what rounding does."""

from collections.abc import Mapping

import numpy as np
import torch

from torch_models.schedules import scheduled_learning_rate
from torch_models.update_rules import KerasOptimizer, cast


def perturb_weights(tensors: Mapping[str, np.ndarray], precision: str, seed: int) -> dict[str, np.ndarray]:
    """Move every number up or down by one ulp of a precision, at random."""
    generator = np.random.default_rng([seed, 3])
    unit = float(np.finfo(precision).eps)
    return {
        name: (tensor * (1 + unit * generator.choice([-1.0, 1.0], tensor.shape))).astype(tensor.dtype)
        for name, tensor in tensors.items()
    }


def perturb_optimizer(optimizer: torch.optim.Optimizer, precision: str, seed: int) -> None:
    """Let a matched optimizer round otherwise: powers, schedules, and with an even seed the form of what has two.

    A power is rounded to one of its two neighbours at random, the nearer one more often, as another `pow` might. Every
    second step's scheduled learning rate is exact. Every second member updates v, and decays weights, in the form that
    Keras's torch backend has.
    Without effect on torch's own optimizers, which have no power in working precision.
    """
    if not isinstance(optimizer, KerasOptimizer):
        return
    generator = np.random.default_rng([seed, 4])
    narrow = np.dtype(precision).type

    def power(base: float, exponent: int, working: type[np.floating]) -> np.floating:
        if working is np.float64 and precision == "float32":
            # Where Keras narrows float64 by itself it does not cast the base, as it does on TensorFlow.
            return working(base**exponent)
        exact = cast(base) ** exponent
        nearest = narrow(exact)
        spacing = float(np.spacing(nearest))
        # In float64 the exact power is not known, nor how far it is from the nearest.
        distance = (exact - float(nearest)) / spacing if precision == "float32" else generator.uniform(-0.5, 0.5)
        step = np.sign(distance) * spacing if generator.random() < abs(distance) else 0.0
        return working(float(nearest) + step)

    def learning_rate(group: dict) -> float:
        exact = scheduled_learning_rate(group, group["iterations"] - 1, np.float64)
        return exact if group["iterations"] % 2 else type(optimizer).learning_rate(optimizer, group)

    optimizer.power = power
    if precision == "float32":
        # Where float64 is compared, Keras computes schedules as the PyTorch side does, to the last bit.
        optimizer.learning_rate = learning_rate
    if seed % 2 == 0:
        _take_other_form(optimizer, narrow)


def _take_other_form(optimizer: KerasOptimizer, narrow: type[np.floating]) -> None:
    def update_velocities(
        velocities: list[torch.Tensor], gradients: list[torch.Tensor], beta_2: float, new: float
    ) -> None:
        old = 1 - new
        if narrow is np.float32:
            # This form has neither factor of a cast beta_2.
            old, new = float(narrow(beta_2)), float(narrow(1 - beta_2))
        torch._foreach_mul_(velocities, old)
        torch._foreach_addcmul_(velocities, gradients, gradients, value=new)

    def decay(parameters: list[torch.Tensor], weight_decay: float, learning_rate: float) -> None:
        torch._foreach_mul_(parameters, float(narrow(1 - weight_decay * learning_rate)))

    optimizer.update_velocities = update_velocities
    optimizer.decay = decay
