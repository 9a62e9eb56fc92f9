"""The same training once more, step by step and written anew: what it records must be what `train` records."""

from collections.abc import Iterator, Mapping

import numpy as np
import torch

from torch_models.training import Arrays, Draw, checksums, to_tensors, total_loss
from torch_models.weights import Model, group_norms, layouts


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
    """Train a model as `train` does, and yield (epoch, rows) after every epoch.

    It shares the model, the loss and the optimizer with `train`, and nothing of its loop.
    """
    parts = layouts(model) if norms else []
    norms_of = group_norms(parts)
    model.train()
    step = 0
    for epoch, order in enumerate(schedule):
        for name, state in model.named_buffers():
            if name.startswith("state"):
                state.zero_()
        rows = []
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            arrays: Arrays = inputs[chosen] if not isinstance(inputs, Mapping) else {}
            if isinstance(inputs, Mapping):
                drawn = draw(step, len(chosen)) if draw else {}
                arrays = {name: array[chosen] for name, array in inputs.items()} | dict(drawn)
            x, y = to_tensors(model, arrays), torch.from_numpy(targets[chosen])
            optimizer.zero_grad()
            error = total_loss(model, loss, model(x), y, x)
            error.backward()
            before = [layout.value().detach().clone() for layout in parts]
            optimizer.step()
            with torch.no_grad():
                updates = [layout.value() - old for layout, old in zip(parts, before, strict=True)]
                gradients = [layout.gradient() for layout in parts]
                figures = torch.cat([error.detach()[None], norms_of(gradients), norms_of(updates)])
            named = arrays if isinstance(arrays, Mapping) else {"sequence": arrays}
            (checksum,) = checksums({name: array[None] for name, array in named.items()}, targets[chosen][None])
            rows.append([*figures.cpu().numpy().astype(np.float64), checksum])
            step += 1
        yield epoch, np.array(rows)
