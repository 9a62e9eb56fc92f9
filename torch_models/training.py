"""Train a PyTorch model on a given batch schedule, recording every step; `keras_models/training.py` is the mirror."""

import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from torch_models.model import Inputs
from torch_models.weights import Layout, Model, device_of, group_norms, layouts

Arrays = np.ndarray | Mapping[str, np.ndarray]
Draw = Callable[[int, int], Mapping[str, np.ndarray]]

# Steps between two looks at the device, as many as the Keras side runs in one compiled call.
STEPS_PER_CALL = 128


def columns(model: Model, norms: bool = True) -> list[str]:
    """Name what `train` records at each step: loss, norms of all gradients and updates, a checksum of the batch."""
    tensors = [name for layout in layouts(model) for name in layout.names] if norms else []
    return ["loss", *(f"gradient/{name}" for name in tensors), *(f"update/{name}" for name in tensors), "batch"]


def train(
    model: Model,
    loss: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    inputs: Arrays,
    targets: np.ndarray,
    schedule: np.ndarray,
    batch_size: int = 32,
    draw: Draw | None = None,
    norms: bool = True,
    pauses: Collection[int] = (),
    programs: dict[str, Any] | None = None,
) -> Iterator[tuple[int, np.ndarray]]:
    """Train a model and yield (epoch, rows) as the steps are done, one row of `columns` a step.

    Inputs (windows, time, features), or a dict of what the model takes, targets (windows, outputs), schedule (epochs,
    windows): the order of the windows in each epoch. The last, smaller batch of an epoch is trained on too. At every
    yield the model holds its current weights, and there is one before every step of `pauses`. `draw` gives what a step
    gets beside the windows, by name, from the number of the step and of its windows: masks for dropout. States are
    reset before every epoch. Without `norms` only the loss and the batch's checksum are recorded. What is compiled is
    put into `programs`, with which the same model can be trained again, with the same loss and optimizer and as many
    batches, without compiling anew.
    """
    full_batches, rest = divmod(schedule.shape[1], batch_size)
    steps_per_epoch = full_batches + bool(rest)
    programs = {} if programs is None else programs
    if "steps" not in programs:
        prepare(model, loss, optimizer)
        programs["steps"] = compile_steps(model, loss, optimizer, layouts(model) if norms else [])
    run_steps = programs["steps"]
    for epoch, order in enumerate(schedule):
        reset_states(model)
        first = epoch * steps_per_epoch
        batches = order[: full_batches * batch_size].reshape(full_batches, batch_size)
        before = {step - first for step in pauses} & set(range(full_batches))
        bounds = sorted({*range(0, full_batches, STEPS_PER_CALL), full_batches} | before)
        for start, end in pairwise(bounds):
            chosen = batches[start:end]
            yield epoch, _record(run_steps, gather(inputs, chosen, first + start, draw), targets[chosen])
        if rest:
            chosen = order[None, -rest:]
            yield epoch, _record(run_steps, gather(inputs, chosen, first + full_batches, draw), targets[chosen])


def prepare(model: Model, loss: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Make a model ready for training."""
    del loss, optimizer  # in PyTorch they are no part of the model
    model.train()


def gather(inputs: Arrays, chosen: np.ndarray, first: int, draw: Draw | None) -> Arrays:
    """Pick the windows of some steps (steps, batch) from each array, and add what is drawn for the steps."""
    if not isinstance(inputs, Mapping):
        return inputs[chosen]
    drawn = [draw(first + step, chosen.shape[1]) for step in range(len(chosen))] if draw else [{}]
    return {name: array[chosen] for name, array in inputs.items()} | {
        name: np.stack([masks[name] for masks in drawn]) for name in drawn[0]
    }


def _record(run_steps: Callable[..., np.ndarray], inputs: Arrays, targets: np.ndarray) -> np.ndarray:
    return np.column_stack([run_steps(inputs, targets), checksums(inputs, targets)])


def checksums(inputs: Arrays, targets: np.ndarray) -> list[int]:
    """Return a checksum of each step's batch, so that a difference in what was trained on is seen as such."""
    arrays = [inputs[name] for name in sorted(inputs)] if isinstance(inputs, Mapping) else [inputs]
    sums = []
    for step, labels in enumerate(targets):
        checksum = 0
        for array in arrays:
            checksum = zlib.crc32(array[step].tobytes(), checksum)
        sums.append(zlib.crc32(labels.tobytes(), checksum))
    return sums


def reset_states(model: Model) -> None:
    """Set the states of a stateful model to zero, as between epochs."""
    if model.settings.stateful:
        for index in range(model.settings.layers):
            for part in model.settings.state_parts:
                getattr(model, f"state{index}_{part}").zero_()


def compile_steps(
    model: Model, loss: torch.nn.Module, optimizer: torch.optim.Optimizer, parts: list[Layout]
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Return a function that trains on (steps, batch, …) arrays and returns a row of figures for each step."""
    norms = group_norms(parts)

    def run_steps(inputs: Arrays, targets: np.ndarray) -> np.ndarray:
        rows = []
        for x, y in zip(batches_of(model, inputs), torch.from_numpy(targets).to(device_of(model)), strict=True):
            outputs = model(x)
            error = total_loss(model, loss, outputs, y, x)
            optimizer.zero_grad()
            error.backward()
            with torch.no_grad():
                before = [layout.value().clone() for layout in parts]
            optimizer.step()
            with torch.no_grad():
                row = [error.detach()[None]]
                if parts:
                    updates = [layout.value() - old for layout, old in zip(parts, before, strict=True)]
                    row += [norms([layout.gradient() for layout in parts]), norms(updates)]
                rows.append(torch.cat(row))
        return torch.stack(rows).cpu().numpy().astype(np.float64)

    return run_steps


def total_loss(
    model: Model, loss: torch.nn.Module, outputs: torch.Tensor, targets: torch.Tensor, inputs: Inputs
) -> torch.Tensor:
    """Return the loss with the model's penalty; padded timesteps that have a label each do not count."""
    masked = model.settings.masked and model.settings.head == "every_output"
    error = loss(outputs, targets, inputs["mask"]) if masked else loss(outputs, targets)
    return error + model.penalty() if model.settings.l2 else error


def batches_of(model: Model, inputs: Arrays) -> Iterator[Inputs]:
    """Yield each step's inputs (steps, batch, …) as tensors, in the layout that the model takes."""
    if not isinstance(inputs, Mapping):
        for array in inputs:
            yield to_tensors(model, array)
        return
    for step in range(len(inputs["sequence"])):
        yield to_tensors(model, {name: array[step] for name, array in inputs.items()})


def to_tensors(model: Model, arrays: Arrays) -> Inputs:
    """Turn a batch's arrays into tensors, in the layout that the model takes."""
    device = device_of(model)
    if isinstance(arrays, Mapping):
        tensors = {name: torch.from_numpy(np.ascontiguousarray(array)).to(device) for name, array in arrays.items()}
        if model.settings.sequence_first:
            tensors["sequence"] = tensors["sequence"].transpose(0, 1)
        return tensors
    tensor = torch.from_numpy(np.ascontiguousarray(arrays)).to(device)
    return tensor.transpose(0, 1) if model.settings.sequence_first else tensor


@torch.no_grad()
def predict(model: Model, inputs: Arrays, batch_size: int = 256) -> np.ndarray:
    """Return the model's outputs (windows, outputs) for inputs (windows, time, features), or a dict of arrays.

    A stateful model starts from zero states and takes the windows in its own batch size.
    """
    model.eval()
    if model.settings.stateful:
        reset_states(model)
        batch_size = model.settings.batch_size
    inputs = inputs if isinstance(inputs, Mapping) else {"sequence": inputs}
    outputs = []
    for start in range(0, len(inputs["sequence"]), batch_size):
        batch = {name: array[start : start + batch_size] for name, array in inputs.items()}
        outputs.append(model(to_tensors(model, batch)))
    model.train()
    return torch.cat(outputs).cpu().numpy()


def train_stock(model: Model, inputs: np.ndarray, targets: np.ndarray, batch_size: int) -> Callable[[int], None]:
    """Return what trains a number of epochs as a framework's users do, with Adam and mse, nothing recorded."""
    loss, optimizer = torch.nn.MSELoss(), torch.optim.Adam(model.parameters())
    x, y = (torch.from_numpy(array).to(device_of(model)) for array in (inputs, targets))

    def train_epochs(epochs: int) -> None:
        for _ in range(epochs):
            for chosen in torch.randperm(len(x)).split(batch_size):
                optimizer.zero_grad()
                loss(model(x[chosen]), y[chosen]).backward()
                optimizer.step()

    return train_epochs
