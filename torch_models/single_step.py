"""A single training step from a given state, all of it recorded; `keras_models/single_step.py` is the mirror."""

from collections.abc import Mapping

import numpy as np
import torch

from torch_models.optimizers import clip_gradients, learning_rate, load_slots, read_slots
from torch_models.training import Arrays, prepare, to_tensors, total_loss
from torch_models.update_rules import KerasOptimizer
from torch_models.weights import Model, device_of, layouts, load_non_trainable, read_non_trainable, to_canonical


class SingleStep:
    """Takes single steps with a model, a loss and an optimizer."""

    def __init__(self, model: Model, loss: torch.nn.Module, optimizer: KerasOptimizer) -> None:
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

        The model already holds the weights before the step. Keys: inputs/…, targets, weights/…, forward/<layer> (batch,
        time, units), forward/head, loss, learning_rate, gradient/…, clip/…, update/…, slot/…, non_trainable/….
        """
        model, optimizer = self.model, self.optimizer
        prepare(model, self.loss, optimizer)
        load_slots(model, optimizer, slots, iterations)
        before = to_canonical(model)
        x = to_tensors(model, inputs)
        y = torch.from_numpy(np.ascontiguousarray(targets)).to(device_of(model))
        arrays = inputs if isinstance(inputs, Mapping) else {"sequence": inputs}
        record = {"targets": _numpy(y)} | {f"weights/{name}": tensor for name, tensor in before.items()}
        record |= {f"inputs/{name}": np.ascontiguousarray(array) for name, array in arrays.items()}

        load_non_trainable(model, non_trainable)
        stages = dict(model.stages(x))
        record |= {f"forward/{name}": _numpy(outputs) for name, outputs in stages.items()}
        error = total_loss(model, self.loss, stages["head"], y, x)
        optimizer.zero_grad()
        error.backward()
        record["loss"] = _numpy(error)

        record["learning_rate"] = np.float64(learning_rate(optimizer))
        # The optimizer has the parameters in the order of the modules, normalisations after all layers.
        positions = {parameter: position for position, parameter in enumerate(model.parameters())}
        parts = sorted(layouts(model), key=lambda layout: positions[layout.variable])
        gradients = [layout.gradient() for layout in parts]
        for phase, values in {"gradient": gradients, "clip": clip_gradients(optimizer, gradients)}.items():
            for layout, value in zip(parts, values, strict=True):
                record |= {f"{phase}/{name}": tensor for name, tensor in layout.split(_numpy(value)).items()}
        optimizer.step()
        record |= {f"update/{name}": tensor - before[name] for name, tensor in to_canonical(model).items()}
        record |= {f"slot/{name}": tensor for name, tensor in read_slots(model, optimizer).items()}
        return record | {f"non_trainable/{name}": tensor for name, tensor in read_non_trainable(model).items()}


def _numpy(value: torch.Tensor) -> np.ndarray:
    # A copy: a step changes in place what stands here.
    return value.detach().cpu().numpy().copy()
