"""Optimizers for the PyTorch side: Keras's update rules; `keras_models/optimizers.py` is its mirror."""

from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import nn

OPTIMIZERS = ("adam",)


class KerasAdam(torch.optim.Optimizer):
    """Adam as Keras computes it: epsilon is added before the bias correction, which is in working precision.

    w -= lr * sqrt(1 - beta_2^t) / (1 - beta_1^t) * m / (sqrt(v) + epsilon). Source: `keras.optimizers.Adam`'s
    `update_step`; Kingma and Ba 2014, end of section 2 (there called epsilon hat).
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-7,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if parameters:
                self._update(group, parameters)
        return loss

    def _update(self, group: dict, parameters: list[nn.Parameter]) -> None:
        gradients = [parameter.grad for parameter in parameters]
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter] = {
                    "momentum": torch.zeros_like(parameter),
                    "velocity": torch.zeros_like(parameter),
                }
        momenta = [self.state[parameter]["momentum"] for parameter in parameters]
        velocities = [self.state[parameter]["velocity"] for parameter in parameters]
        beta_1, beta_2 = group["betas"]
        group["iterations"] = group.get("iterations", 0) + 1

        torch._foreach_lerp_(momenta, gradients, 1 - beta_1)
        self.update_velocities(velocities, gradients, beta_2)
        denominators = torch._foreach_sqrt(velocities)
        torch._foreach_add_(denominators, group["eps"])
        alpha = self.step_size(group, parameters[0].dtype)
        torch._foreach_addcdiv_(parameters, momenta, denominators, value=-alpha)

    def update_velocities(self, velocities: list[torch.Tensor], gradients: list[torch.Tensor], beta_2: float) -> None:
        """Compute v += (g^2 - v) * (1 - beta_2), in this form.

        beta_2 * v + (1 - beta_2) * g^2, which Keras's torch backend has, is the same but for rounding: in float32 the
        nearest numbers to 0.999 and 0.001 do not add up to 1, so its v settles 1.3e-5 higher.
        """
        torch._foreach_lerp_(velocities, torch._foreach_mul(gradients, gradients), 1 - beta_2)

    def step_size(self, group: dict, dtype: torch.dtype) -> float:
        """Return lr * sqrt(1 - beta_2^t) / (1 - beta_1^t), rounded at every operation to the working precision.

        1 - beta_2^t loses most of its digits at the first steps, so the precision of the power is part of the rule.
        """
        power_1, power_2 = self.beta_powers(group, np.float64 if dtype == torch.float64 else np.float32)
        one = type(power_1)(1)
        return float(type(power_1)(group["lr"]) * np.sqrt(one - power_2) / (one - power_1))

    def beta_powers(self, group: dict, working: type[np.floating]) -> list[np.floating]:
        """Return beta_1^t and beta_2^t, correctly rounded to the working precision, as the three Keras backends do.

        (NumPy's own float32 power is off by one unit in the last place in a quarter of the first 100 steps.) The betas
        are cast to float32 first: on TensorFlow Keras does so even where it computes in float64
        (`ops.cast(0.999, "float64")`), and float64 is compared with TensorFlow.
        """
        return [working(float(np.float32(beta)) ** group["iterations"]) for beta in group["betas"]]


def build_optimizer(
    parameters: Iterable[nn.Parameter], name: str = "adam", learning_rate: float = 1e-3, *, stock: bool = False
) -> torch.optim.Optimizer:
    """Build an optimizer by name: with Keras's update rule, or with `stock` torch's own and its own defaults.

    Raises ValueError for an unknown name.
    """
    trainable = [parameter for parameter in parameters if parameter.requires_grad]
    if name != "adam":
        raise ValueError(f"optimizer={name!r} is unknown; accepted: {', '.join(OPTIMIZERS)}")
    if stock:
        return torch.optim.Adam(trainable, lr=learning_rate)
    return KerasAdam(trainable, lr=learning_rate)
