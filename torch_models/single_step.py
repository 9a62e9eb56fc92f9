"""One training step taken apart, from a given state; `keras_models/single_step.py` is its mirror."""

from collections.abc import Mapping

import numpy as np
import torch

from torch_models.optimizers import clip_gradients, learning_rate, load_slots, read_slots
from torch_models.recurrent import Recurrent
from torch_models.training import Arrays, to_tensors, total_loss
from torch_models.weights import layouts, load_non_trainable, read_non_trainable, to_canonical


class SingleStep:
    """Takes single steps with a model, a loss and an optimizer."""

    def __init__(self, model: Recurrent, loss: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.model, self.loss, self.optimizer = model, loss, optimizer

    def __call__(
        self,
        slots: Mapping[str, np.ndarray],
        non_trainable: Mapping[str, np.ndarray],
        iterations: int,
        inputs: Arrays,
        targets: np.ndarray,
    ) -> dict[str, np.ndarray]:
        """Train one step on a batch and return everything computed on the way, by phase and canonical name.

        The model already holds the weights to start from. Keys: inputs/…, targets, weights/…, forward/<layer> (batch,
        time, units), forward/head, loss, learning_rate, gradient/…, clip/…, update/…, slot/…, non_trainable/….
        """
        model, loss, optimizer = self.model, self.loss, self.optimizer
        load_slots(model, optimizer, dict(slots), iterations)
        found = layouts(model)
        before = to_canonical(model)
        x, y = to_tensors(model, inputs), torch.from_numpy(np.ascontiguousarray(targets))
        record = {"targets": y.numpy()} | {f"weights/{name}": part for name, part in before.items()}
        given = inputs if isinstance(inputs, Mapping) else {"sequence": inputs}
        record |= {f"inputs/{name}": np.ascontiguousarray(array) for name, array in given.items()}

        model.train()
        load_non_trainable(model, dict(non_trainable))
        stages = dict(model.stages(x))
        record |= {f"forward/{name}": values.detach().numpy().copy() for name, values in stages.items()}
        error = total_loss(model, loss, stages["head"], y, x)
        record["loss"] = error.detach().numpy()

        record["learning_rate"] = np.float64(learning_rate(optimizer))
        optimizer.zero_grad()
        error.backward()
        # The optimizer has the parameters in the order of the modules, normalisations after all layers.
        positions = {parameter: position for position, parameter in enumerate(model.parameters())}
        found = sorted(found, key=lambda layout: positions[layout.parameter])
        gradients = [layout.gradient() for layout in found]
        for phase, values in {"gradient": gradients, "clip": clip_gradients(optimizer, gradients)}.items():
            for layout, value in zip(found, values, strict=True):
                record |= {f"{phase}/{name}": part for name, part in layout.split(value.detach().numpy()).items()}
        optimizer.step()
        record |= {f"update/{name}": part - before[name] for name, part in to_canonical(model).items()}
        record |= {f"slot/{name}": part for name, part in read_slots(model, optimizer).items()}
        return record | {f"non_trainable/{name}": part for name, part in read_non_trainable(model).items()}
