"""Train a PyTorch model on a given batch schedule, recording every step; `keras_models/training.py` is its mirror."""

from collections.abc import Callable, Iterator

import numpy as np
import torch

from torch_models.recurrent import Recurrent
from torch_models.weights import Layout, group_norms, layouts

# Steps between two looks at the device, as many as the Keras side runs in one compiled call.
STEPS_PER_CALL = 128


def columns(model: Recurrent) -> list[str]:
    """Name what `train` records at each step: the loss, then the norms of all gradients and of all updates."""
    tensors = [name for layout in layouts(model) for name in layout.names]
    return ["loss", *(f"gradient/{name}" for name in tensors), *(f"update/{name}" for name in tensors)]


def train(
    model: Recurrent,
    loss: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    inputs: np.ndarray,
    targets: np.ndarray,
    schedule: np.ndarray,
    batch_size: int = 32,
) -> Iterator[tuple[int, np.ndarray]]:
    """Train a model and yield (epoch, rows) as the steps are done, one row of `columns` a step.

    Inputs (windows, time, features), targets (windows, outputs), schedule (epochs, windows): the order of the windows
    in each epoch. The last, smaller batch of an epoch is kept. At every yield the model holds its current weights.
    """
    full_batches, rest = divmod(schedule.shape[1], batch_size)
    run_steps = compile_steps(model, loss, optimizer, layouts(model))
    for epoch, order in enumerate(schedule):
        batches = order[: full_batches * batch_size].reshape(full_batches, batch_size)
        for start in range(0, full_batches, STEPS_PER_CALL):
            chosen = batches[start : start + STEPS_PER_CALL]
            yield epoch, run_steps(inputs[chosen], targets[chosen])
        if rest:
            chosen = order[None, -rest:]
            yield epoch, run_steps(inputs[chosen], targets[chosen])


def compile_steps(
    model: Recurrent, loss: torch.nn.Module, optimizer: torch.optim.Optimizer, found: list[Layout]
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Return a function that trains on (steps, batch, …) arrays and returns a row of figures for each step."""
    parameters = [layout.parameter for layout in found]
    norms = group_norms(found)

    def run_steps(inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        rows = []
        for x, y in zip(torch.from_numpy(inputs), torch.from_numpy(targets), strict=True):
            outputs = model(x)
            error = loss(outputs, y)
            optimizer.zero_grad()
            error.backward()
            with torch.no_grad():
                before = [layout.value().clone() for layout in found]
            optimizer.step()
            with torch.no_grad():
                updates = [layout.value() - old for layout, old in zip(found, before, strict=True)]
                gradients = [parameter.grad for parameter in parameters]
                rows.append(torch.cat([error.detach()[None], norms(gradients), norms(updates)]))
        return torch.stack(rows).cpu().numpy().astype(np.float64)

    return run_steps


@torch.no_grad()
def predict(model: Recurrent, inputs: np.ndarray, batch_size: int = 256) -> np.ndarray:
    """Return the model's outputs (windows, outputs) for inputs (windows, time, features)."""
    parts = [
        model(torch.from_numpy(np.ascontiguousarray(inputs[start : start + batch_size])))
        for start in range(0, len(inputs), batch_size)
    ]
    return torch.cat(parts).cpu().numpy()
