"""What one step should compute, exactly and in Monte Carlo arithmetic, from one side's state before it.

Each phase is computed from what a side itself gave to it: the loss from its own outputs, the clipping from its own
gradients, the update and the new slots from its own clipped gradients. So an error is found in the phase that makes it.
"""

from collections.abc import Iterable, Mapping
from functools import cached_property

import numpy as np

from compare.experiment.experiment import Experiment
from compare.judge.margins import MONTE_CARLO_FLOOR_ULPS, MONTE_CARLO_SAMPLES, ulp
from compare.reference import losses
from compare.reference.clipping import clip
from compare.reference.network import Network, penalty
from compare.reference.rounding import EXACT, Arithmetic, Rounding, plain, working
from compare.reference.update_rules import apply_update

Tensors = Mapping[str, np.ndarray]

# Names all tensors of a model joined into one.
ALL = "all"


class StepReference:
    """The float64 reference of one step, with Monte Carlo samples that show how far rounding may carry a side from it.

    It is made from the state before the step, `weights`, `slots` and `non_trainable` by canonical name, and from the
    precision in which the side that is judged computes, "float32" or "float64".
    """

    def __init__(
        self,
        experiment: Experiment,
        step: int,
        weights: Tensors,
        slots: Tensors,
        non_trainable: Tensors,
        precision: str,
    ) -> None:
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
        self.inputs = {name: _numbers_in_float64(array) for name, array in inputs.items()}
        self.targets = _numbers_in_float64(targets)
        self.exact = self._forward_and_gradients(EXACT)
        self.samples = [self._forward_and_gradients(rounding) for rounding in self.roundings()]

    def roundings(self) -> list[Rounding]:
        """Return the Monte Carlo arithmetics of the working precision; each draws the same errors anew."""
        return [working(self.precision, seed) for seed in range(MONTE_CARLO_SAMPLES)]

    @cached_property  # the references of a step serve all backends
    def rounded_norms(self) -> dict[str, float]:
        """How far rounding alone moves a step: the root of its loss, and the norm of any tensor of its gradient."""
        gradients = [name for name in self.exact if name.startswith("gradient/")]
        loss = np.sqrt(self.exact["loss"])
        moved = [np.linalg.norm(sample[name] - self.exact[name]) for sample in self.samples for name in gradients]
        return {
            "loss": max(float(abs(np.sqrt(sample["loss"]) - loss)) for sample in self.samples),
            "gradient": float(max(moved)),
        }

    def loss(self, outputs: np.ndarray, arithmetic: Arithmetic) -> float:
        """Compute the loss of a model's outputs (batch, ..., outputs), the penalty included."""
        model = self.experiment.case.model
        value = self._data_loss(arithmetic.arrays({ALL: outputs})[ALL])[0]
        return float(value + penalty(model, arithmetic.arrays(self.weights)) if model.l2 else value)

    def clipped(self, gradients: Tensors, arithmetic: Arithmetic) -> dict[str, np.ndarray]:
        """Clip gradients, as "clip/<tensor>"."""
        return _plain(clip(self.experiment.case.training, arithmetic.arrays(gradients)), "clip/")

    def updated(self, gradients: Tensors, learning_rate: float, arithmetic: Arithmetic) -> dict[str, np.ndarray]:
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
        new_weights, new_slots = apply_update(
            self.experiment.case.training,
            arithmetic.arrays({ALL: weights}),
            arithmetic.arrays({ALL: gradient}),
            arithmetic.arrays(slots | {name: number for name, number in self.slots.items() if "/" not in name}),
            self.step,
            learning_rate,
            casts=self.experiment.case.dtype == self.precision,
        )
        computed = {f"update/{name}": tensor for name, tensor in self._split(plain(new_weights[ALL]) - weights).items()}
        for name, values in _plain(new_slots).items():
            kind, of_all, _ = name.partition(f"/{ALL}")
            tensors = self._split(values) if of_all else {}
            computed |= {f"slot/{kind}/{tensor}": part for tensor, part in tensors.items()} or {f"slot/{name}": values}
        return computed

    def _forward_and_gradients(self, arithmetic: Arithmetic) -> dict[str, np.ndarray]:
        weights, inputs, non_trainable = map(arithmetic.arrays, (self.weights, self.inputs, self.non_trainable))
        network = Network(self.experiment.case.model, weights, inputs, non_trainable)
        loss, d_outputs = self._data_loss(network.outputs)
        computed = {"loss": plain(loss)} | _plain(network.stages, "forward/")
        computed |= _plain(network.backward(d_outputs), "gradient/")
        return computed | _plain(network.non_trainable, "non_trainable/")

    def _data_loss(self, outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the loss without the penalty, and its gradient by the outputs."""
        model = self.experiment.case.model
        mask = self.inputs.get("mask") if model.head == "every_output" else None
        return losses.total(self.experiment.case.training.loss, outputs, self.targets, mask)

    def _split(self, values: np.ndarray) -> dict[str, np.ndarray]:
        """Split what was joined in the order of the weights."""
        parts = np.split(values, np.cumsum([w.size for w in self.weights.values()])[:-1])
        return {name: part.reshape(w.shape) for part, (name, w) in zip(parts, self.weights.items(), strict=True)}


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


def _plain(tensors: Tensors, prefix: str = "") -> dict[str, np.ndarray]:
    """The numbers alone, each name after a prefix."""
    return {f"{prefix}{name}": plain(tensor) for name, tensor in tensors.items()}


def _numbers_in_float64(array: np.ndarray) -> np.ndarray:
    """Token ids, labels and masks stay as they are."""
    return np.asarray(array, dtype=np.float64) if np.issubdtype(array.dtype, np.floating) else array
