"""Train a PyTorch model on a given batch schedule, recording every step; `keras_models/training.py` is its mirror."""

import zlib
from collections.abc import Callable, Collection, Iterator
from itertools import pairwise

import numpy as np
import torch

from torch_models.recurrent import Recurrent
from torch_models.weights import Layout, group_norms, layouts

# Steps between two looks at the device, as many as the Keras side runs in one compiled call.
STEPS_PER_CALL = 128


def columns(model: Recurrent) -> list[str]:
    """Name what `train` records at each step: loss, norms of all gradients and updates, a checksum of the batch."""
    tensors = [name for layout in layouts(model) for name in layout.names]
    return ["loss", *(f"gradient/{name}" for name in tensors), *(f"update/{name}" for name in tensors), "batch"]


def train(
    model: Recurrent,
    loss: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    inputs: np.ndarray,
    targets: np.ndarray,
    schedule: np.ndarray,
    batch_size: int = 32,
    pauses: Collection[int] = (),
) -> Iterator[tuple[int, np.ndarray]]:
    """Train a model and yield (epoch, rows) as the steps are done, one row of `columns` a step.

    Inputs (windows, time, features), targets (windows, outputs), schedule (epochs, windows): the order of the windows
    in each epoch. The last, smaller batch of an epoch is kept. At every yield the model holds its current weights, and
    there is one before every step of `pauses`.
    """
    full_batches, rest = divmod(schedule.shape[1], batch_size)
    steps_per_epoch = full_batches + bool(rest)
    run_steps = compile_steps(model, loss, optimizer, layouts(model))
    for epoch, order in enumerate(schedule):
        batches = order[: full_batches * batch_size].reshape(full_batches, batch_size)
        before = {step - epoch * steps_per_epoch for step in pauses}
        bounds = sorted({*range(0, full_batches, STEPS_PER_CALL), full_batches} | (before & set(range(full_batches))))
        for start, end in pairwise(bounds):
            chosen = batches[start:end]
            yield epoch, _record(run_steps, inputs[chosen], targets[chosen])
        if rest:
            chosen = order[None, -rest:]
            yield epoch, _record(run_steps, inputs[chosen], targets[chosen])


def _record(run_steps: Callable[..., np.ndarray], inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Run steps and add a checksum of each batch, so that a difference in what was trained on is seen as such."""
    checksums = [zlib.crc32(y.tobytes(), zlib.crc32(x.tobytes())) for x, y in zip(inputs, targets, strict=True)]
    return np.column_stack([run_steps(inputs, targets), checksums])


def compile_steps(
    model: Recurrent, loss: torch.nn.Module, optimizer: torch.optim.Optimizer, found: list[Layout]
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Return a function that trains on (steps, batch, …) arrays and returns a row of figures for each step."""
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
                gradients = [layout.gradient() for layout in found]
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
