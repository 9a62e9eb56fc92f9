"""One training step taken apart, from a given state; `keras_models/one_step.py` is its mirror."""

from collections.abc import Mapping

import numpy as np
import torch

from torch_models.optimizers import clip_gradients, learning_rate, load_slots, read_slots
from torch_models.recurrent import Recurrent
from torch_models.weights import layouts, to_canonical


class OneStep:
    """Takes single steps with a model, a loss and an optimizer."""

    def __init__(self, model: Recurrent, loss: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.model, self.loss, self.optimizer = model, loss, optimizer

    def __call__(
        self, slots: Mapping[str, np.ndarray], iterations: int, inputs: np.ndarray, targets: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Train one step on a batch and return everything computed on the way, by phase and canonical name.

        The model already holds the weights to start from. Keys: inputs, targets, weights/…, forward/<layer> (batch,
        time, units), forward/head, loss, learning_rate,
        gradient/…, clip/…, update/…, slot/….
        """
        model, loss, optimizer = self.model, self.loss, self.optimizer
        load_slots(model, optimizer, dict(slots), iterations)
        found = layouts(model)
        before = to_canonical(model)
        x, y = torch.from_numpy(np.ascontiguousarray(inputs)), torch.from_numpy(np.ascontiguousarray(targets))
        record = {"inputs": x.numpy(), "targets": y.numpy()} | {
            f"weights/{name}": part for name, part in before.items()
        }

        with torch.no_grad():
            sequence = x
            for index, layer in enumerate(model.layers):
                sequence, _ = layer(sequence)
                record[f"forward/layer{index}"] = sequence.numpy()
        outputs = model(x)
        record["forward/head"] = outputs.detach().numpy()
        error = loss(outputs, y)
        record["loss"] = error.detach().numpy()

        record["learning_rate"] = np.float64(learning_rate(optimizer))
        optimizer.zero_grad()
        error.backward()
        gradients = [layout.gradient() for layout in found]
        for phase, values in {"gradient": gradients, "clip": clip_gradients(optimizer, gradients)}.items():
            for layout, value in zip(found, values, strict=True):
                record |= {f"{phase}/{name}": part for name, part in layout.split(value.detach().numpy()).items()}
        optimizer.step()
        record |= {f"update/{name}": part - before[name] for name, part in to_canonical(model).items()}
        return record | {f"slot/{name}": part for name, part in read_slots(model, optimizer).items()}
