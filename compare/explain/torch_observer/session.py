"""A user's module, loss and optimizer, trained step by step; keras_observer/session.py is its mirror."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from compare.explain.torch_observer import interception
from compare.explain.torch_observer.changes import Changes
from compare.explain.torch_observer.layers import Layers
from compare.explain.torch_observer.loss import Loss
from compare.explain.torch_observer.observed import Observed
from compare.explain.torch_observer.recording import loose_state, restore_loose_state
from compare.explain.torch_observer.updates import Updates


class Session:
    """One training from the start, with its own module; changes are made before the first step.

    `make` returns (module, loss, optimizer); `options` may hold torch_step, scheduler, clip_norm, seed.
    `dropout` is "shared" for masks that both sides draw alike, "rows" for those of one row in all of them, or "off".
    """

    def __init__(self, make: Callable[[], Any], options: Mapping[str, Any], dropout: str = "shared") -> None:
        interception.install()
        self.options, self.steps = options, 0
        self.changes, self.observed = Changes(dropout), Observed()
        self.layers = Layers(self.observed, self.changes)
        with interception.observing(self):
            torch.manual_seed(int(options.get("seed") or 0))
            self.module, self.user_loss, self.optimizer = make()
            self.scheduler = options["scheduler"](self.optimizer) if options.get("scheduler") else None
        if not hasattr(self.scheduler, "step") and options.get("scheduler"):
            raise TypeError(f"scheduler() returned {type(self.scheduler).__name__}; return a torch scheduler")
        self.layers.watch(self.module)
        self.loss = Loss(self.user_loss, self.observed, self.changes)
        self.updates = Updates(self.module, self.optimizer, self.observed, self.changes)
        self._first_state = loose_state(self.module)

    def step(self, x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
        """Take one training step and return its record."""
        inputs, targets = self._tensor(x), self._tensor(y)
        self.observed.begin(inputs, targets, self.steps)
        self.updates.raw = {}
        if self.changes.reset_state:
            restore_loose_state(self._first_state)
        if self.changes.always_training:
            self.module.train()
        with interception.observing(self):
            custom = None if self.changes.plain_step else self.options.get("torch_step")
            (custom or self._default_step)(self.module, self.loss, self.optimizer, inputs, targets)
            if self.scheduler is not None:
                self.scheduler.step()
        if self.observed.before_backward:
            self.observed.record_forward("")
        self.observed.record_weights()
        self.steps += 1
        return self.observed.record

    def _default_step(self, module: Any, loss: Any, optimizer: Any, x: Any, y: Any) -> None:
        optimizer.zero_grad()
        loss(module(x), y).backward()
        if self.options.get("clip_norm"):
            torch.nn.utils.clip_grad_norm_(module.parameters(), self.options["clip_norm"])
        optimizer.step()

    @torch.no_grad()
    def evaluate(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Compute the layers' outputs as for a prediction; training goes on afterwards as it was."""
        training, dropout = self.module.training, self.changes.dropout
        self.observed.begin(self._tensor(x), None, self.steps)
        if self.changes.reset_state:
            restore_loose_state(self._first_state)
        self.module.eval()
        if self.changes.no_dropout_in_evaluation:
            self.changes.dropout = "off"
        with interception.observing(self):
            self.module(self.observed.batch)
        self.changes.dropout = dropout
        self.observed.record_forward("evaluation/")
        self.module.train(training)
        return self.observed.record

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        if tensor.is_floating_point():
            parameter = next(self.module.parameters(), None)
            return tensor.to(torch.get_default_dtype() if parameter is None else parameter.dtype)
        return tensor.long() if tensor.dtype != torch.bool else tensor
