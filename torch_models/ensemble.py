"""Ensemble members: trainings that differ by rounding alone, from which the judge measures what rounding does.

One more is not perturbed: it repeats the training, step by step and with a loop of its own, bit for bit.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import torch

from torch_models.schedules import scheduled_learning_rate
from torch_models.training import Arrays, Draw, checksums, to_tensors, total_loss
from torch_models.update_rules import KerasOptimizer, cast, named_parameters
from torch_models.weights import Model, device_of, group_norms, layouts


def perturb_weights(tensors: Mapping[str, np.ndarray], precision: str, seed: int) -> dict[str, np.ndarray]:
    """Move every number up or down by one ulp of a precision, at random."""
    generator = np.random.default_rng([seed, 3])
    unit = float(np.finfo(precision).eps)
    return {
        name: (tensor * (1 + unit * generator.choice([-1.0, 1.0], tensor.shape))).astype(tensor.dtype)
        for name, tensor in tensors.items()
    }


def perturb_optimizer(optimizer: torch.optim.Optimizer, precision: str, seed: int) -> None:
    """Let an optimizer round otherwise: gradients, powers, schedules, and with an even seed the form of what has two.

    Before every step each number of a gradient moves by up to one ulp of its tensor's root mean square, at random: what
    another order of its sums may do to it. Of gates near saturation a last bit of the weights shows nothing of that.
    A power is rounded to one of its two neighbours at random, the nearer one more often, as another `pow` might. Every
    second step's scheduled learning rate is exact. Every second member updates v, and decays weights, in the form that
    Keras's torch backend has.
    Torch's own optimizers have no power in working precision: of theirs the gradients alone move.
    """
    _perturb_gradients(optimizer, precision, seed)
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

    learning_rate_of = optimizer.learning_rate

    def learning_rate(group: dict) -> float:
        rate = learning_rate_of(group)
        if group["iterations"] % 2 == 0 or group["schedule"] == "constant":
            return rate
        exact, narrowed = (scheduled_learning_rate(group, group["iterations"] - 1, p) for p in (np.float64, np.float32))
        return rate * exact / narrowed if narrowed else rate

    optimizer.power = power
    if precision == "float32":
        # Where float64 is compared, Keras computes schedules as the PyTorch side does, to the last bit.
        optimizer.learning_rate = learning_rate
    if seed % 2 == 0:
        _take_other_form(optimizer, narrow)


def _perturb_gradients(optimizer: torch.optim.Optimizer, precision: str, seed: int) -> None:
    ulp = float(np.finfo(precision).epsneg)
    generators: dict[torch.device, torch.Generator] = {}

    def perturb(*_: object) -> None:
        for _, parameter in named_parameters(optimizer):
            gradient = parameter.grad
            if gradient is not None:
                device = gradient.device
                if device not in generators:
                    generators[device] = torch.Generator(device).manual_seed(seed)
                noise = torch.empty_like(gradient).uniform_(-ulp, ulp, generator=generators[device])
                gradient.add_(noise * gradient.square().mean().sqrt())

    optimizer.register_step_pre_hook(perturb)


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


def repeat(
    model: Model,
    loss: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    inputs: Arrays,
    targets: np.ndarray,
    schedule: np.ndarray,
    batch_size: int = 32,
    draw: Draw | None = None,
    norms: bool = True,
) -> Iterator[tuple[int, np.ndarray]]:
    """Train a model as `train` does, with nothing of its loop, and yield (epoch, rows) after every epoch."""
    parts = layouts(model) if norms else []
    norms_of = group_norms(parts)
    model.train()
    step = 0
    for epoch, order in enumerate(schedule):
        for name, buffer in model.named_buffers():
            if name.startswith("state"):
                buffer.zero_()
        rows = []
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            named = inputs if isinstance(inputs, Mapping) else {"sequence": inputs}
            arrays: dict[str, np.ndarray] = {name: array[chosen] for name, array in named.items()}
            if draw is not None:
                arrays |= draw(step, len(chosen))
            x = to_tensors(model, arrays if isinstance(inputs, Mapping) else arrays["sequence"])
            y = torch.from_numpy(targets[chosen]).to(device_of(model))
            optimizer.zero_grad()
            error = total_loss(model, loss, model(x), y, x)
            error.backward()
            with torch.no_grad():
                before = [layout.value().clone() for layout in parts]
            optimizer.step()
            with torch.no_grad():
                row = [error.detach()[None]]
                if parts:
                    updates = [layout.value() - old for layout, old in zip(parts, before, strict=True)]
                    row += [norms_of([layout.gradient() for layout in parts]), norms_of(updates)]
                figures = torch.cat(row).cpu().numpy().astype(np.float64)
            batch = {name: array[None] for name, array in arrays.items()}
            rows.append([*figures, *checksums(batch, targets[chosen][None])])
            step += 1
        yield epoch, np.array(rows)
