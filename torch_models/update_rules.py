"""Keras's update rules as PyTorch optimizers.

The formulas are those of `keras/src/optimizers/*.py`, in the working precision. Some of it is done only on TensorFlow,
with which float64 is compared: where Keras casts a constant by `ops.cast(constant, dtype)`, TensorFlow makes it float32
first, so that 0.999 is off by 1.3e-8 in float64. Where Keras multiplies with the constant as it is, it is exact.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn
from torch.optim.optimizer import ParamsT

from torch_models.blocks import Tensors, blocks
from torch_models.clipping import clip
from torch_models.schedules import scheduled_learning_rate

Group = dict[str, Any]

# What every rule takes beside the learning rate.
DEFAULTS: Mapping[str, Any] = {
    "weight_decay": None,
    "clipvalue": None,
    "clipnorm": None,
    "global_clipnorm": None,
    "schedule": "constant",
    "decay_steps": None,
    "decay_rate": None,
    "boundaries": (),
    "values": (),
}


def cast(constant: float) -> float:
    """Round a constant to float32, as `ops.cast(constant, "float64")` does on TensorFlow."""
    return float(np.float32(constant))


class KerasOptimizer(torch.optim.Optimizer):
    """What Keras does around every update rule: clipping, decoupled weight decay and a learning rate for each step.

    `params` as torch.optim takes them; clipnorm needs them with their names (`model.named_parameters()`). Clipping is
    of all parameter groups together; every other option may differ between groups.
    Source: `keras/src/optimizers/base_optimizer.py`, `_backend_apply_gradients`.
    """

    def __init__(self, params: ParamsT, lr: float = 1e-3, **options: Any) -> None:
        super().__init__(params, {"lr": lr, "iterations": 0, **DEFAULTS, **options})
        if self.defaults["clipnorm"] is not None and any("param_names" not in group for group in self.param_groups):
            raise ValueError("clipnorm needs the parameters' names: give model.named_parameters()")

    def initial_slots(self, group: Group) -> dict[str, float]:
        """Name the slots of a parameter and what they start with."""
        raise NotImplementedError

    def update(self, group: Group, parameters: Tensors, gradients: Tensors, slots: Mapping[str, Tensors]) -> None:
        """Change parameters and slots in place, as step number `group["iterations"]`, counted from 1."""
        raise NotImplementedError

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update every parameter that has a gradient; the gradients themselves stay as they are."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        named = [(name, parameter.grad) for name, parameter in named_parameters(self) if parameter.grad is not None]
        clipped = iter(self.clip([gradient for _, gradient in named], [name for name, _ in named]))
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if not parameters:
                continue
            gradients = [next(clipped) for _ in parameters]
            states = [self.slots_of(parameter, group) for parameter in parameters]
            group["iterations"] += 1
            if group["weight_decay"] is not None:
                # TensorFlow casts the weight decay: `TFOptimizer._apply_weight_decay`. All variables decay, biases too.
                self.decay(parameters, cast(group["weight_decay"]), self.learning_rate(group))
            self.update(group, parameters, gradients, {name: [state[name] for state in states] for name in states[0]})
        return loss

    def clip(self, gradients: Tensors, names: Sequence[str]) -> Tensors:
        """Return the gradients of parameters with the given names, clipped as Keras does."""
        limits = {limit: self.defaults[limit] for limit in ("clipvalue", "clipnorm", "global_clipnorm")}
        return clip(gradients, names, **limits)

    def slots_of(self, parameter: nn.Parameter, group: Group) -> dict[str, torch.Tensor]:
        """Return the slots of a parameter by name, newly made where there are none yet."""
        state = self.state[parameter]
        if not state:
            state.update({name: torch.full_like(parameter, v) for name, v in self.initial_slots(group).items()})
        return state

    def learning_rate(self, group: Group) -> float:
        """Return the learning rate of step number `group["iterations"]`, counted from 1."""
        return scheduled_learning_rate(group, group["iterations"] - 1)

    def decay(self, parameters: Tensors, weight_decay: float, learning_rate: float) -> None:
        """Compute w -= w * weight_decay * learning_rate, in this form.

        (1 - weight_decay * learning_rate) * w, which Keras's torch backend has, is the same but for rounding: near 1
        float32 has no more than three digits of a product like 4e-6, and every step is off by the same amount.
        """
        torch._foreach_add_(parameters, parameters, alpha=-weight_decay * learning_rate)

    def power(self, base: float, exponent: int, working: type[np.floating]) -> np.floating:
        """Return base^exponent, correctly rounded to the working precision, as the three Keras backends do.

        (NumPy's own float32 power is off by one ulp in a quarter of the first 100 steps.) Keras
        casts the base: `ops.power(ops.cast(base, dtype), step)`.
        """
        return working(cast(base) ** exponent)


def named_parameters(optimizer: torch.optim.Optimizer) -> list[tuple[str, nn.Parameter]]:
    """List the parameters of all groups, each with its name or an empty one."""
    return [
        pair
        for group in optimizer.param_groups
        for pair in zip(group.get("param_names") or [""] * len(group["params"]), group["params"], strict=True)
    ]


def working_precision(dtype: torch.dtype) -> type[np.floating]:
    """Return the NumPy scalar in which Keras computes what is the same for all numbers of a tensor."""
    return np.float64 if dtype == torch.float64 else np.float32


class KerasSGD(KerasOptimizer):
    """Gradient descent: m = momentum * m - lr * g; w += m; with nesterov w += momentum * m - lr * g.

    Source: `keras.optimizers.SGD`; Sutskever et al. 2013 (Nesterov's momentum in this form).
    """

    def __init__(
        self, params: ParamsT, lr: float = 1e-3, momentum: float = 0.0, nesterov: bool = False, **options: Any
    ) -> None:
        super().__init__(params, lr, momentum=momentum, nesterov=nesterov, **options)

    def initial_slots(self, group: Group) -> dict[str, float]:
        return {"momentum": 0.0} if group["momentum"] else {}

    def update(self, group: Group, parameters: Tensors, gradients: Tensors, slots: Mapping[str, Tensors]) -> None:
        learning_rate, momentum = self.learning_rate(group), cast(group["momentum"])
        if not momentum:
            torch._foreach_add_(parameters, gradients, alpha=-learning_rate)
            return
        for w, g, slot in blocks(parameters, gradients, slots):
            torch._foreach_mul_(slot["momentum"], momentum)
            torch._foreach_add_(slot["momentum"], g, alpha=-learning_rate)
            if group["nesterov"]:
                # Added up first: added to the parameters one after the other, they would be rounded twice.
                updates = torch._foreach_mul(slot["momentum"], momentum)
                torch._foreach_add_(updates, g, alpha=-learning_rate)
                torch._foreach_add_(w, updates)
            else:
                torch._foreach_add_(w, slot["momentum"])


class KerasRMSprop(KerasOptimizer):
    """RMSprop: v = rho * v + (1 - rho) * g^2; m = momentum * m + lr * g / sqrt(v + epsilon); w -= m.

    Source: `keras.optimizers.RMSprop`; Hinton 2012, lecture 6e. Neither rho nor the momentum is cast.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        rho: float = 0.9,
        momentum: float = 0.0,
        eps: float = 1e-7,
        **options: Any,
    ) -> None:
        super().__init__(params, lr, rho=rho, momentum=momentum, eps=eps, **options)

    def initial_slots(self, group: Group) -> dict[str, float]:
        return {"velocity": 0.0, "momentum": 0.0} if group["momentum"] else {"velocity": 0.0}

    def update(self, group: Group, parameters: Tensors, gradients: Tensors, slots: Mapping[str, Tensors]) -> None:
        learning_rate = self.learning_rate(group)
        for w, g, slot in blocks(parameters, gradients, slots):
            _average_squares(slot["velocity"], g, group["rho"])
            denominators = _root_mean_squares(slot["velocity"], group["eps"])
            if group["momentum"]:
                torch._foreach_mul_(slot["momentum"], group["momentum"])
                torch._foreach_addcdiv_(slot["momentum"], g, denominators, value=learning_rate)
                torch._foreach_sub_(w, slot["momentum"])
            else:
                torch._foreach_addcdiv_(w, g, denominators, value=-learning_rate)


class _AdamMoments(KerasOptimizer):
    """The two averages of the Adam family and its default constants."""

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-7,
        **options: Any,
    ) -> None:
        super().__init__(params, lr, betas=betas, eps=eps, **options)

    def initial_slots(self, group: Group) -> dict[str, float]:
        return {"momentum": 0.0, "velocity": 0.0}

    def update_velocities(self, velocities: Tensors, gradients: Tensors, beta_2: float, new: float) -> None:
        """Compute v += (g^2 - v) * new, in this form; `new` is 1 - beta_2, of the cast beta_2 where the rule casts it.

        beta_2 * v + (1 - beta_2) * g^2, which Keras's torch backend has, is the same but for rounding: in float32 the
        nearest numbers to 0.999 and 0.001 do not add up to 1, so its v settles 1.3e-5 higher.
        """
        del beta_2  # that is for the other form
        torch._foreach_lerp_(velocities, torch._foreach_mul(gradients, gradients), new)


class KerasAdam(_AdamMoments):
    """Adam as Keras computes it: epsilon is added before the bias correction, which is in working precision.

    w -= lr * sqrt(1 - beta_2^t) / (1 - beta_1^t) * m / (sqrt(v) + epsilon). Source: `keras.optimizers.Adam`'s
    `update_step`; Kingma and Ba 2014, end of section 2 (there called epsilon hat).
    """

    def update(self, group: Group, parameters: Tensors, gradients: Tensors, slots: Mapping[str, Tensors]) -> None:
        beta_1, beta_2 = group["betas"]
        alpha = self.step_size(group, parameters[0].dtype)
        for w, g, slot in blocks(parameters, gradients, slots):
            torch._foreach_lerp_(slot["momentum"], g, 1 - beta_1)
            self.update_velocities(slot["velocity"], g, beta_2, 1 - beta_2)
            denominators = torch._foreach_sqrt(slot["velocity"])
            torch._foreach_add_(denominators, group["eps"])
            torch._foreach_addcdiv_(w, slot["momentum"], denominators, value=-alpha)

    def step_size(self, group: Group, dtype: torch.dtype) -> float:
        """Return lr * sqrt(1 - beta_2^t) / (1 - beta_1^t), rounded at every operation to the working precision.

        1 - beta_2^t loses most of its digits at the first steps, so the precision of the power is part of the rule.
        """
        working = working_precision(dtype)
        power_1, power_2 = (self.power(beta, group["iterations"], working) for beta in group["betas"])
        return float(working(self.learning_rate(group)) * np.sqrt(1 - power_2) / (1 - power_1))


class KerasAdamW(KerasAdam):
    """Adam with Keras's weight decay of 0.004. Source: `keras.optimizers.AdamW`; Loshchilov and Hutter 2017."""

    def __init__(self, params: ParamsT, lr: float = 1e-3, weight_decay: float | None = 0.004, **options: Any) -> None:
        super().__init__(params, lr, weight_decay=0.004 if weight_decay is None else weight_decay, **options)


class KerasAdamax(_AdamMoments):
    """Adamax: u = max(beta_2 * u, |g|); w -= lr * m / ((1 - beta_1^t) * (u + epsilon)).

    Source: `keras.optimizers.Adamax`; Kingma and Ba 2014, section 7.1. Only the base of beta_1^t is cast.
    """

    def initial_slots(self, group: Group) -> dict[str, float]:
        return {"momentum": 0.0, "norm": 0.0}

    def update(self, group: Group, parameters: Tensors, gradients: Tensors, slots: Mapping[str, Tensors]) -> None:
        beta_1, beta_2 = group["betas"]
        working = working_precision(parameters[0].dtype)
        alpha = working(self.learning_rate(group)) / (1 - self.power(beta_1, group["iterations"], working))
        for w, g, slot in blocks(parameters, gradients, slots):
            torch._foreach_lerp_(slot["momentum"], g, 1 - beta_1)
            torch._foreach_mul_(slot["norm"], beta_2)
            torch._foreach_maximum_(slot["norm"], torch._foreach_abs(g))
            denominators = torch._foreach_add(slot["norm"], group["eps"])
            torch._foreach_addcdiv_(w, slot["momentum"], denominators, value=-float(alpha))


class KerasNadam(_AdamMoments):
    """Nadam: Adam with Nesterov's momentum, whose factor u_t = beta_1 * (1 - 0.96^t / 2) grows with the steps.

    w -= lr * m_hat / (sqrt(v / (1 - beta_2^t)) + epsilon) where
    m_hat = u_{t+1} * m / (1 - U_t * u_{t+1}) + (1 - u_t) * g / (1 - U_t) and U_t, the product of all u so far, is the
    slot `u_product`, one number for the whole optimizer. Source: `keras.optimizers.Nadam`; Dozat 2016.
    """

    DECAY: ClassVar[float] = 0.96

    def __init__(self, params: ParamsT, lr: float = 1e-3, **rule: Any) -> None:
        super().__init__(params, lr, u_product=1.0, **rule)

    def update(self, group: Group, parameters: Tensors, gradients: Tensors, slots: Mapping[str, Tensors]) -> None:
        working = working_precision(parameters[0].dtype)
        # Adam has 1 - 0.9 and 1 - 0.999 exact, Nadam has them of the cast constants.
        new_momentum, new_velocity = (float(1 - working(cast(beta))) for beta in group["betas"])
        of_momentum, of_gradient, correction = self.factors(group, working)
        # sqrt(v / c) + epsilon is (sqrt(v) + epsilon * sqrt(c)) / sqrt(c), with one operation less on all of v.
        root = float(np.sqrt(correction))
        alpha = self.learning_rate(group) * root
        for w, g, slot in blocks(parameters, gradients, slots):
            torch._foreach_lerp_(slot["momentum"], g, new_momentum)
            self.update_velocities(slot["velocity"], g, group["betas"][1], new_velocity)
            numerators = torch._foreach_mul(slot["momentum"], of_momentum)
            torch._foreach_add_(numerators, g, alpha=of_gradient)
            denominators = torch._foreach_sqrt(slot["velocity"])
            torch._foreach_add_(denominators, group["eps"] * root)
            torch._foreach_addcdiv_(w, numerators, denominators, value=-alpha)

    def update_velocities(self, velocities: Tensors, gradients: Tensors, beta_2: float, new: float) -> None:
        # 1 - new is exactly the cast beta_2, in float32 too, so that this faster form settles where Keras's does.
        torch._foreach_mul_(velocities, 1 - new)
        torch._foreach_addcmul_(velocities, gradients, gradients, value=new)

    def factors(self, group: Group, working: type[np.floating]) -> tuple[float, float, float]:
        """Multiply the next u into `u_product` and return the factors of m and g and the divisor of v."""
        t = group["iterations"]
        beta_1 = working(cast(group["betas"][0]))
        half, one = working(0.5), working(1)
        # `_backend_update_step` does not cast beta_1 and 0.96, `update_step` does.
        exact_u = working(group["betas"][0]) * (one - half * working(float(working(self.DECAY)) ** t))
        u, u_next = (beta_1 * (one - half * self.power(self.DECAY, step, working)) for step in (t, t + 1))
        product = working(group["u_product"]) * exact_u
        group["u_product"] = float(product)
        of_momentum = u_next / (one - product * u_next)
        of_gradient = (one - u) / (one - product)
        return float(of_momentum), float(of_gradient), float(one - self.power(group["betas"][1], t, working))


class KerasAdagrad(KerasOptimizer):
    """Adagrad: a += g^2; w -= lr * g / sqrt(a + epsilon), with a starting at 0.1.

    Source: `keras.optimizers.Adagrad`; Duchi, Hazan and Singer 2011.
    """

    def __init__(
        self, params: ParamsT, lr: float = 1e-3, initial_accumulator: float = 0.1, eps: float = 1e-7, **options: Any
    ) -> None:
        super().__init__(params, lr, initial_accumulator=initial_accumulator, eps=eps, **options)

    def initial_slots(self, group: Group) -> dict[str, float]:
        # `keras.initializers.Constant` casts its value.
        return {"accumulator": cast(group["initial_accumulator"])}

    def update(self, group: Group, parameters: Tensors, gradients: Tensors, slots: Mapping[str, Tensors]) -> None:
        learning_rate = self.learning_rate(group)
        for w, g, slot in blocks(parameters, gradients, slots):
            torch._foreach_addcmul_(slot["accumulator"], g, g)
            denominators = _root_mean_squares(slot["accumulator"], group["eps"])
            torch._foreach_addcdiv_(w, g, denominators, value=-learning_rate)


class KerasAdadelta(KerasOptimizer):
    """Adadelta: steps as large as the root mean square of earlier steps, divided by that of the gradients.

    a = rho * a + (1 - rho) * g^2; d = g * sqrt(b + epsilon) / sqrt(a + epsilon); b = rho * b + (1 - rho) * d^2;
    w -= lr * d. Source: `keras.optimizers.Adadelta`; Zeiler 2012. Rho is not cast.
    """

    def __init__(self, params: ParamsT, lr: float = 1e-3, rho: float = 0.95, eps: float = 1e-7, **options: Any) -> None:
        super().__init__(params, lr, rho=rho, eps=eps, **options)

    def initial_slots(self, group: Group) -> dict[str, float]:
        return {"accumulated_grad": 0.0, "accumulated_delta_var": 0.0}

    def update(self, group: Group, parameters: Tensors, gradients: Tensors, slots: Mapping[str, Tensors]) -> None:
        rho, epsilon, learning_rate = group["rho"], group["eps"], self.learning_rate(group)
        for w, g, slot in blocks(parameters, gradients, slots):
            _average_squares(slot["accumulated_grad"], g, rho)
            deltas = _root_mean_squares(slot["accumulated_delta_var"], epsilon)
            torch._foreach_mul_(deltas, g)
            torch._foreach_div_(deltas, _root_mean_squares(slot["accumulated_grad"], epsilon))
            _average_squares(slot["accumulated_delta_var"], deltas, rho)
            torch._foreach_add_(w, deltas, alpha=-learning_rate)


def _average_squares(averages: Tensors, values: Tensors, rho: float) -> None:
    """Compute a = rho * a + (1 - rho) * x^2 in place."""
    torch._foreach_mul_(averages, rho)
    torch._foreach_addcmul_(averages, values, values, value=1 - rho)


def _root_mean_squares(averages: Tensors, epsilon: float) -> Tensors:
    """Return sqrt(a + epsilon): epsilon stands inside the root, unlike in torch.optim."""
    roots = torch._foreach_add(averages, epsilon)
    torch._foreach_sqrt_(roots)
    return roots
