"""The optimizer's step of a user's training: gradients seen, clipped as Keras clips, and taken by another rule."""

from collections.abc import Callable, Mapping
from types import MethodType
from typing import Any

import numpy as np
import torch
from torch import nn

from compare.explain.torch_observer.changes import Changes
from compare.explain.torch_observer.observed import Observed
from compare.explain.torch_observer.recording import copied, copied_or_none


class Updates:
    """Takes an optimizer's steps; `rate_noise` is what rounding makes of 1 - beta^t, relative to float32's unit."""

    def __init__(
        self, module: nn.Module, optimizer: torch.optim.Optimizer, observed: Observed, changes: Changes
    ) -> None:
        self.module, self.optimizer, self.observed, self.changes = module, optimizer, observed, changes
        self.rate_noise = 0.0
        self.raw: dict[nn.Parameter, torch.Tensor] = {}
        original = optimizer.step

        def step(optimizer: Any, closure: Any = None) -> Any:
            self._before_update()
            noise, result = 1 + self.noise(), None
            if changes.rule is not None:
                changes.rule.step(noise)
            else:
                rates = [group["lr"] for group in optimizer.param_groups]
                for group in optimizer.param_groups:
                    group["lr"] = group["lr"] * noise
                result = original() if closure is None else original(closure)
                for group, rate in zip(optimizer.param_groups, rates, strict=True):
                    group["lr"] = rate
            optimizer._opt_called = True
            return result

        optimizer.step = MethodType(step, optimizer)

    def noise(self) -> float:
        """What float32 makes of 1 - beta^t, which multiplies an adaptive rule's learning rate."""
        _, beta = self.optimizer.param_groups[0].get("betas", (None, None))
        rule = self.changes.rule
        if rule is not None:
            beta = rule.choices.get("beta_2", None if "rule" in rule.choices else beta)
        return 0.0 if beta is None else self.rate_noise / (1 - beta ** (self.observed.step + 1))

    def backward_ended(self) -> None:
        """Note the gradients before anything clips them."""
        gradient = getattr(self.observed.prediction, "grad", None)
        if gradient is not None:
            self.observed.record["output_gradient"] = copied(gradient)
        self.raw = self._gradients()

    def _gradients(self) -> dict[nn.Parameter, torch.Tensor]:
        return {p: p.grad.clone() for p in self.module.parameters() if p.grad is not None}

    def _before_update(self) -> None:
        raw = self.raw or self._gradients()
        if self.changes.clip is not None:
            for parameter, gradient in raw.items():
                parameter.grad = gradient.clone()
            self._clip_as_keras(self.changes.clip)
        for phase, gradient_of in (("gradient", raw.get), ("clip", lambda p: p.grad)):
            for (key, name), value in self._in_keras_layout(gradient_of).items():
                self.observed.record[f"{phase}/{key}/{name}"] = value
        self.observed.record["learning_rate"] = np.array(self.optimizer.param_groups[0]["lr"], dtype=np.float64)

    def _in_keras_layout(self, gradient_of: Callable[[Any], Any]) -> dict[tuple[str, str], np.ndarray]:
        """The gradients of every part's tensors, by part and name."""

        def read(tensor: Any) -> np.ndarray | None:
            return copied_or_none(gradient_of(tensor)) if isinstance(tensor, nn.Parameter) else None

        gradients = {
            (part.key, name): part.read_gradient(name, read)
            for part in self.observed.parts.values()
            for name in part.tensors
        }
        return {location: gradient for location, gradient in gradients.items() if gradient is not None}

    @torch.no_grad()
    def _clip_as_keras(self, clip: Mapping[str, Any]) -> None:
        """Clip every value, or scale by the norm of each of Keras's tensors or of all of them."""
        kind, limit = clip["kind"], clip.get("limit") or 0.0
        if kind == "value":
            for parameter in self.module.parameters():
                if parameter.grad is not None:
                    parameter.grad.clamp_(-limit, limit)
        if kind not in ("norm", "global_norm"):
            return
        norms = {
            location: float(np.sqrt(np.sum(np.square(gradient, dtype=np.float64))))
            for location, gradient in self._in_keras_layout(lambda p: p.grad).items()
        }
        whole = float(np.sqrt(sum(norm**2 for norm in norms.values())))
        for (key, name), own in norms.items():
            norm, part = whole if kind == "global_norm" else own, self.observed.parts[key]
            for attribute in part.tensors[name]:
                gradient = part.tensor(attribute).grad
                if gradient is not None and norm > limit:
                    gradient.mul_(limit / norm)
