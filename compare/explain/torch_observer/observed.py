"""What is seen of a user's module at work; keras_observer/observed.py is its mirror."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from compare.explain.torch_observer.parts import CELLS, Part
from compare.explain.torch_observer.recording import copied, copied_or_none, row_order


class Observed:
    """The forward pass at work, the record of its step, and what was ever seen.

    Batches are tensors, (batch, time, features) or (batch, features); an evaluation has no targets.
    """

    def __init__(self) -> None:
        self.parts: dict[str, Part] = {}
        self.packed: set[str] = set()
        self.nonzero_states: set[str] = set()
        self.clip_calls: list[dict[str, Any]] = []
        self.autocast = False
        self.begin(None, None, 0)

    def begin(self, batch: Any, targets: Any, step: int) -> None:
        """Start a step or an evaluation: nothing is recorded yet."""
        self.batch, self.targets, self.step = batch, targets, step
        self.record: dict[str, np.ndarray] = {}
        self.prediction: Any = None
        self.before_backward = True
        self.begin_pass()

    def begin_pass(self) -> None:
        """Start a forward pass: nothing is called yet."""
        self.called: list[str] = []
        self.inputs: dict[str, list[Any]] = {}
        self.outputs: dict[str, list[Any]] = {}
        self.dropout_calls: list[dict[str, Any]] = []
        self.order: np.ndarray | None = None

    def entered(self, key: str, x: Any) -> None:
        """Note what a part is given."""
        if not self.called and isinstance(x, torch.Tensor):
            whole = not isinstance(self.parts[key].module, CELLS)
            self.order = row_order(copied(self.batch if whole else self.batch[:, 0]), copied(x))
        if key not in self.called:
            self.called.append(key)
        self.inputs.setdefault(key, []).append(x)

    def left(self, key: str, y: Any) -> None:
        """Note what a part gives."""
        self.outputs.setdefault(key, []).append(y)

    def started_from(self, path: str, state: Any) -> None:
        """Note whether a recurrent layer starts from another state than zero."""
        states = state if isinstance(state, tuple) else (state,)
        if any(part is not None and bool((part != 0).any()) for part in states):
            self.nonzero_states.add(path)

    @property
    def last_called(self) -> str | None:
        """The part that was called last."""
        return self.called[-1] if self.called else None

    def timesteps(self) -> int:
        """How many timesteps the windows of this batch have; 0 where they have no such axis."""
        return int(self.batch.shape[1]) if self.batch.dim() > 1 else 0

    def live(self, keys: Sequence[str]) -> Any:
        """What parts gave in this forward pass, directions side by side; the batch for "inputs"."""
        if "inputs" in keys:
            return self.batch
        return torch.cat([self._whole(key, self.outputs[key], -1) for key in keys], -1)

    def before_packing(self) -> Any:
        """The whole sequence that was packed: what the part before gave, or the inputs."""
        return self.live([self.called[-1]]) if self.called else self.batch

    def _whole(self, key: str, calls: Sequence[Any], index: int) -> Any:
        """What a part was given or gave, at every timestep where it was called at each; else in one of its calls."""
        timewise = len(calls) > 1 or isinstance(self.parts[key].module, CELLS)
        return torch.stack(list(calls), 1) if timewise else calls[index]

    def record_forward(self, prefix: str) -> None:
        """Record what the parts were given and gave, the prediction, and the order of the rows."""
        for key in self.called:
            for name, calls in (("in", self.inputs[key]), ("out", self.outputs.get(key, []))):
                if not calls:
                    continue
                value = self._whole(key, calls, 0)
                if self.parts[key].kind == "batch_normalization" and value.dim() == 3:
                    value = value.transpose(1, 2)
                self.record[f"{prefix}{name}/{key}"] = copied(value)
        if isinstance(self.prediction, torch.Tensor):
            self.record[f"{prefix}prediction"] = copied(self.prediction)
        if self.order is not None:
            self.record[f"{prefix}order"] = self.order

    def record_weights(self) -> None:
        """Record every part's weights, in Keras's layout."""
        for part in self.parts.values():
            for name in part.tensors:
                value = part.read(name, copied_or_none)
                if value is not None:
                    self.record[f"weights/{part.key}/{name}"] = value
