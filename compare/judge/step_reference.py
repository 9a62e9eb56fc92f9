"""What one step should compute, exactly and in Monte Carlo arithmetic, from one side's state before it.

Each phase is computed from what a side itself gave to it: the loss from its own outputs, the clipping from its own
gradients, the update and the new slots from its own clipped gradients. So an error is found in the phase that makes it.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from compare.experiment.experiment import Experiment
from compare.judge.margins import LINEAR_LIMIT, MONTE_CARLO_FLOOR_ULPS, MONTE_CARLO_MARGIN, MONTE_CARLO_SAMPLES, ulp
from compare.reference import losses
from compare.reference.clipping import clip
from compare.reference.network import Network, penalty
from compare.reference.rounding import Rounding, deviations, plain, working
from compare.reference.update_rules import apply_update

Tensors = Mapping[str, np.ndarray]

# Names all tensors of a model joined into one.
ALL = "all"


@dataclass(frozen=True)
class Computed:
    """Tensors by name, computed exactly, and how far the Monte Carlo samples are from each at most.

    `rounding` is one number for each tensor, and one for each timestep of a layer's outputs (batch, time, width).
    """

    exact: dict[str, np.ndarray]
    rounding: dict[str, np.ndarray]

    @classmethod
    def of(cls, tensors: Mapping[str, Any]) -> "Computed":
        """Take apart what was computed with rounded arrays."""
        return cls(
            {name: plain(tensor) for name, tensor in tensors.items()},
            {
                name: largest_by_timestep(deviations(tensor, MONTE_CARLO_SAMPLES), tensor.ndim == 3)
                for name, tensor in tensors.items()
            },
        )


class StepReference:
    """The float64 reference of one step, with Monte Carlo samples that show how far rounding may carry a side from it.

    It is made from the state before the step, `weights`, `slots` and `non_trainable` by canonical name, and from the
    precision in which the side that is judged computes, "float32" or "float64". The mask does not reach the layers
    `unmasked`, of which the loss is the last.
    """

    def __init__(
        self,
        experiment: Experiment,
        step: int,
        weights: Tensors,
        slots: Tensors,
        non_trainable: Tensors,
        precision: str,
        unmasked: Collection[int] = (),
    ) -> None:
        self.unmasked = unmasked
        self.step, self.experiment, self.precision = step, experiment, precision
        self.ulp = ulp(precision)
        self.floor = MONTE_CARLO_FLOOR_ULPS * self.ulp
        windows = experiment.batch(step)
        inputs = experiment.batch_inputs(step, windows)
        targets = experiment.examples.training.targets[windows]
        self.state_and_batch = {
            **{f"inputs/{name}": inputs[name] for name in sorted(inputs)},
            "targets": targets,
            **{f"weights/{name}": weights[name] for name in in_order(weights)},
        }
        self.weights, self.slots, self.non_trainable = in_float64(weights), in_float64(slots), in_float64(non_trainable)
        self.inputs, self.targets = numbers_of_batch(experiment, step)
        tensors = self._forward_and_gradients()
        self.computed = Computed.of(tensors)
        self.rounded_norms = self._rounded_norms(tensors)

    @property
    def is_linear(self) -> bool:
        """Whether rounding moves the outputs so little that what follows from them is moved in proportion."""
        outputs = self.computed.exact["forward/head"]
        scale = float(np.sqrt(np.mean(np.square(outputs)))) or 1.0
        return bool(MONTE_CARLO_MARGIN * float(np.max(self.computed.rounding["forward/head"])) / scale < LINEAR_LIMIT)

    def without_mask(self, layers: Collection[int]) -> Self:
        """Return the reference of the same step, in which the mask does not reach some layers."""
        state = self.weights, self.slots, self.non_trainable
        changed = type(self)(self.experiment, self.step, *state, self.precision, layers)
        changed.state_and_batch = self.state_and_batch
        return changed

    def _arithmetic(self) -> Rounding:
        return working(self.precision, MONTE_CARLO_SAMPLES)

    def _rounded_norms(self, tensors: Mapping[str, Any]) -> dict[str, float]:
        """How far rounding alone moves a step: the root of its loss, and the norm of any tensor of its gradient."""
        loss = float(plain(tensors["loss"]))
        losses_of_samples = np.maximum(loss + deviations(tensors["loss"], MONTE_CARLO_SAMPLES), 0)
        gradients = [tensor for name, tensor in tensors.items() if name.startswith("gradient/")]
        norms = [
            np.linalg.norm(deviations(gradient, MONTE_CARLO_SAMPLES).reshape(MONTE_CARLO_SAMPLES, -1), axis=1).max()
            for gradient in gradients
        ]
        return {
            "loss": float(np.abs(np.sqrt(losses_of_samples) - np.sqrt(loss)).max()),
            "gradient": float(max(norms)),
        }

    def loss(self, outputs: np.ndarray) -> Computed:
        """Compute the loss of a model's outputs (batch, ..., outputs), the penalty included, as "loss"."""
        model, rounding = self.experiment.case.model, self._arithmetic()
        value = self._data_loss(rounding.array(outputs))[0]
        return Computed.of({"loss": value + penalty(model, rounding.arrays(self.weights)) if model.l2 else value})

    def clipped(self, gradients: Tensors) -> Computed:
        """Clip gradients, as "clip/<tensor>"."""
        clipped = clip(self.experiment.case.training, self._arithmetic().arrays(gradients))
        return Computed.of({f"clip/{name}": tensor for name, tensor in clipped.items()})

    def updated(self, gradients: Tensors, learning_rate: float) -> Computed:
        """Apply clipped gradients: the new minus the old weights as "update/<tensor>", new slots as "slot/<slot>".

        Raises KeyError where a tensor has no slot of a kind that others have.
        """
        # A rule treats every number alike: all tensors in one are updated much faster than one by one.
        gradient = joined({name: np.broadcast_to(gradients[name], w.shape) for name, w in self.weights.items()})
        weights = joined(self.weights)
        kinds = dict.fromkeys(name.partition("/")[0] for name in self.slots if "/" in name)
        slots = {
            f"{kind}/{ALL}": joined({name: self.slots[f"{kind}/{name}"] for name in self.weights}) for kind in kinds
        }
        rounding = self._arithmetic()
        new_weights, new_slots = apply_update(
            self.experiment.case.training,
            rounding.arrays({ALL: weights}),
            rounding.arrays({ALL: gradient}),
            rounding.arrays(slots | {name: number for name, number in self.slots.items() if "/" not in name}),
            self.step,
            learning_rate,
            casts=self.experiment.case.dtype == self.precision,
        )
        computed = self._split("update", new_weights[ALL])
        for name, values in new_slots.items():
            kind, of_all, _ = name.partition(f"/{ALL}")
            computed |= self._split(f"slot/{kind}", values) if of_all else {f"slot/{name}": values}
        found = Computed.of(computed)
        for name, weight in self.weights.items():
            found.exact[f"update/{name}"] = found.exact[f"update/{name}"] - weight
        return found

    def _forward_and_gradients(self) -> dict[str, Any]:
        weights, inputs, non_trainable = map(self._arithmetic().arrays, (self.weights, self.inputs, self.non_trainable))
        network = self._network(weights, inputs, non_trainable)
        loss, d_outputs = self._data_loss(network.outputs)
        computed = {"loss": loss} | {f"forward/{name}": outputs for name, outputs in network.stages.items()}
        computed |= {f"gradient/{name}": tensor for name, tensor in network.backward(d_outputs).items()}
        return computed | {f"non_trainable/{name}": tensor for name, tensor in network.non_trainable.items()}

    def _network(self, weights: Tensors, inputs: Tensors, non_trainable: Tensors) -> Network:
        return Network(self.experiment.case.model, weights, inputs, non_trainable, self.unmasked)

    def _data_loss(self, outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return data_loss(self.experiment, outputs, self.inputs, self.targets, self.unmasked)

    def _split(self, kind: str, values: Any) -> dict[str, Any]:
        """Split what was joined in the order of the weights."""
        ends = np.cumsum([w.size for w in self.weights.values()])
        return {
            f"{kind}/{name}": values[end - w.size : end].reshape(w.shape)
            for end, (name, w) in zip(ends, self.weights.items(), strict=True)
        }


def numbers_of_batch(experiment: Experiment, step: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return the inputs by name and the targets of a step, those that are no ids, labels or masks in float64."""
    windows = experiment.batch(step)
    inputs = experiment.batch_inputs(step, windows)
    targets = experiment.examples.training.targets[windows]
    return {name: _numbers_in_float64(array) for name, array in inputs.items()}, _numbers_in_float64(targets)


def data_loss(
    experiment: Experiment, outputs: np.ndarray, inputs: Tensors, targets: np.ndarray, unmasked: Collection[int] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """Return the loss of a batch without the penalty, and its gradient by the outputs.

    The mask does not reach the layers `unmasked`, of which the loss is the last.
    """
    model = experiment.case.model
    heeded = model.head == "every_output" and model.layers not in unmasked
    return losses.total(experiment.case.training.loss, outputs, targets, inputs.get("mask") if heeded else None)


def in_order(names: Iterable[str]) -> list[str]:
    """Sort names of tensors in the order of computation: the layers, then the head."""
    first = ("embedding", "layer", "normalization", "head")
    return sorted(names, key=lambda name: (next(i for i, kind in enumerate(first) if name.startswith(kind)), name))


def in_float64(tensors: Tensors) -> dict[str, np.ndarray]:
    """Return tensors as float64."""
    return {name: np.asarray(tensor, dtype=np.float64) for name, tensor in tensors.items()}


def joined(tensors: Tensors) -> np.ndarray:
    """Return the numbers of all tensors, one after the other."""
    return np.concatenate([tensor.ravel() for tensor in tensors.values()])


def largest_by_timestep(values: np.ndarray, timesteps: bool) -> np.ndarray:
    """The largest absolute value at each timestep (..., batch, time, units), or of all where there are none."""
    if not timesteps:
        return np.abs(values).max(initial=0.0)
    return np.abs(values).max(axis=-1).reshape(-1, values.shape[-2]).max(axis=0)


def _numbers_in_float64(array: np.ndarray) -> np.ndarray:
    """Token ids, labels and masks stay as they are."""
    return np.asarray(array, dtype=np.float64) if np.issubdtype(array.dtype, np.floating) else array
