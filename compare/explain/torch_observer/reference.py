"""A PyTorch side in Keras's place: what another PyTorch side is compared with; its trace has the form of Keras's."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from compare.explain.alignment import Value
from compare.explain.batches import named
from compare.explain.pair_data import TracedSide
from compare.explain.torch_observer import tf32
from compare.explain.torch_observer.checked_steps import Training, Work
from compare.explain.torch_observer.recorder import array
from compare.explain.torch_observer.update_rule import rule_of
from compare.explain.transfer import Transfer
from compare.explain.weight_maps import Map
from compare.workers.protocol import Doing

# What it can be asked for, as a Keras side.
ACTIONS = ("trace", "operations")

CLIPPINGS = {"clip_grad_value_": "value", "clip_grad_norm_": "global_norm"}


class Side(TracedSide):
    """Keeps a user's `other_torch_side`, or `torch_side` where the file is another revision's, and its data."""

    def _execute(self) -> dict[str, Any]:
        namespace: dict[str, Any] = self.user_file.execute()
        return {**namespace, "torch_side": namespace.get("other_torch_side", namespace.get("torch_side"))}

    def _training(self, steps: Sequence[Mapping[str, Any]]) -> Training:
        """A training whose every step starts from its own weights."""
        work = Work(self._execute, self.data, {"steps": steps}, self.user_file.text)
        training = Training(work)
        work.transfer = Transfer({name: _same(name) for name in training.named})
        return training

    def trace(self, report: Callable[[Doing], None], zeroed: Sequence[str] = (), exact: bool = False) -> dict[str, Any]:
        """Train the module and say what every step made; nothing is ever `zeroed` here."""
        steps: list[dict[str, Any]] = []
        training = self._training(steps)
        trainable = [name for name, parameter in training.module.named_parameters() if parameter.requires_grad]
        for number, batch in enumerate(self.batches):
            report(Doing(f"the other PyTorch side trains: step {number + 1} of {len(self.batches)}"))
            before = {name: array(tensor) for name, tensor in training.named.items()}
            rate = float(training.optimizer.param_groups[0]["lr"])
            steps.append({"batch": list(batch), "before": before, "gradients": {}, "learning_rate": rate})
            step = training.step(number)
            gradients = {name: value for name, value in step.own.items() if value is not None}
            steps[number] |= {"after": step.after, "gradients": gradients, "loss": step.loss, "penalty": 0.0}
        self.steps = steps
        return {
            "initial": training.initial,
            "trainable": trainable,
            "steps": steps,
            "failure": None,
            "dropouts": _dropouts(self._training(steps).step(0).recording.dropouts),
            "evaluation": _evaluation(training, steps[-1]["after"]),
            "notes": [],
            **_description(training),
        }

    def operations(
        self, report: Callable[[Doing], None], step: int, steps: Sequence[Mapping[str, Any]] | None = None
    ) -> list[dict[str, Any]]:
        """Every value of a step's forward pass."""
        report(Doing(f"every operation of the other side's step {step} is recorded"))
        plain = [{**each, "gradients": {}} for each in self.steps]
        training = self._training(plain)
        for number in range(step):
            training.step(number)
        recorder = training.forward(step).recording
        batch = self.steps[step]["batch"]
        values = [Value(name, value[batch], 0) for name, value in named("x", self.data[0])]
        values += [Value(name, value[batch], 1) for name, value in named("y", self.data[1])]
        for operation in recorder.operations:
            module = operation.where[0] if operation.where and operation.where[0] else "forward"
            values += [Value(f"{module}: {operation.name}", value, 2) for value in operation.outputs]
        return [vars(value) for value in values]


def same_names(named_tensors: Mapping[str, torch.Tensor], variables: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """The map of one PyTorch side's tensors to another's: by name and shape, the rest by shape in their order."""
    left = {name: tuple(shape) for name, shape in variables.items()}
    pairs: dict[str, str] = {}
    for name, tensor in named_tensors.items():
        if left.get(name) == tuple(tensor.shape):
            pairs[name] = name
            del left[name]
    for name, tensor in named_tensors.items():
        if name not in pairs:
            other = next((o for o, shape in left.items() if shape == tuple(tensor.shape)), None)
            if other is not None:
                pairs[name] = other
                del left[other]
    return {name: _same(other).function for name, other in pairs.items()}


def _same(name: str) -> Map:
    return Map(lambda tensors: tensors[name], (name,))


def _description(training: Training) -> dict[str, Any]:
    """What the side is, in the words in which a Keras side is described."""
    calls, steps = training.clip_calls, max(len(training.losses), 1)
    kind = "none"
    if calls:
        kind = CLIPPINGS[calls[0]["function"]]
        kind = "norm" if kind == "global_norm" and len(calls) > steps else kind
    return {
        "backend": "torch",
        "reference": "torch",
        "version": torch.__version__,
        "variables": {name: list(tensor.shape) for name, tensor in training.named.items()},
        "penalties": {},
        "layers": [],
        "optimizer": type(training.optimizer).__name__,
        "rule": rule_of(training.optimizer),
        "clip": {"kind": kind, "limit": calls[0]["limit"] if calls else None},
        "accumulate": 1,
        "loss": {"name": None, "arguments": {}, "class": None, "reduction": None},
        "tf32": tf32.in_use(*{parameter.device.type for parameter in training.module.parameters()}),
        "masked": False,
    }


def _dropouts(calls: Sequence[Any]) -> list[dict[str, Any]]:
    return [
        {"rate": call.rate, "shape": call.shape, "value": call.value, "where": ""}
        for call in calls
        if call.active and call.rate > 0
    ]


def _evaluation(training: Training, weights: Mapping[str, np.ndarray]) -> dict[str, Any]:
    try:
        recorder = training.evaluate(weights)
    except Exception:  # whatever the user's module raises that was never evaluated
        return {}
    dropped = sum(call.active and call.rate > 0 for call in recorder.dropouts)
    return {"weights": dict(weights), "loss": recorder.loss_value, "dropouts": dropped, "penalty": 0.0}
