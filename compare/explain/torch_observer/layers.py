"""A user's layers at work: seen, and computed with changes; keras_observer/layers.py is its mirror."""

from typing import Any

import numpy as np
import torch
from torch import nn

from compare.explain.dropout_masks import kept
from compare.explain.torch_observer.changes import Changes, LayerChanges
from compare.explain.torch_observer.functions import FUNCTIONS, SELECTIONS
from compare.explain.torch_observer.observed import Observed
from compare.explain.torch_observer.parts import CELLS, SEQUENCES, kind_of, parts_of
from compare.explain.torch_observer.recurrent_run import run


class Layers:
    """What stands between a user's module and PyTorch: notes what passes, and passes on what was changed."""

    def __init__(self, observed: Observed, changes: Changes) -> None:
        self.observed, self.changes = observed, changes
        self.module: Any = None

    def watch(self, module: nn.Module) -> None:
        """Watch a module and everything in it."""
        self.module = module
        module.register_forward_pre_hook(lambda *_: self.observed.begin_pass())
        for path, part in module.named_modules():
            self.observed.parts |= {each.key: each for each in parts_of(path, part)}
            if isinstance(part, SEQUENCES):
                self._watch_sequence(path, part)
            elif isinstance(part, CELLS):
                self._watch_cell(path, part)
            elif kind_of(part) is not None:
                self._watch_layer(f"{path}|0|forward", part)
        module.register_forward_hook(lambda _module, _arguments, result: self._predicted(result))

    def _watch_sequence(self, path: str, module: Any) -> None:
        changes = self.changes.layers[path] = LayerChanges()
        original = module.forward

        def forward(sequence: Any, hx: Any = None, *rest: Any) -> Any:
            if isinstance(sequence, torch.Tensor) and sequence.dim() == 2:  # one window without a batch axis
                return original(sequence, hx, *rest)
            return run(module, self, path, changes, sequence, hx)

        module.forward = forward

    def _watch_cell(self, path: str, module: Any) -> None:
        changes = self.changes.layers[path] = LayerChanges()
        original, key = module.forward, f"{path}|0|forward"

        def forward(x: Any, hx: Any = None) -> Any:
            if key not in self.observed.inputs:
                self.observed.started_from(path, hx)
                hx = None if changes.zero_state else hx
            self.observed.entered(key, x)
            result = original(x, hx)
            self.observed.left(key, result[0] if isinstance(result, tuple) else result)
            return result

        module.forward = forward

    def _watch_layer(self, key: str, module: nn.Module) -> None:
        def before(module: nn.Module, arguments: tuple[Any, ...]) -> Any:
            x = self.rewired(key, arguments[0])
            self.observed.entered(key, x)
            return (x, *arguments[1:])

        module.register_forward_pre_hook(before)
        module.register_forward_hook(lambda _module, _arguments, result: self.observed.left(key, result))

    def _predicted(self, result: Any) -> Any:
        self.observed.prediction = result[0] if isinstance(result, tuple | list) else result
        if not isinstance(result, torch.Tensor):
            return None
        result, order = self.rewired("prediction", result), self.observed.order
        if self.changes.restore_order and order is not None and len(result) == len(order):
            result = result[torch.from_numpy(np.argsort(order))]
        self.observed.prediction = result
        return result

    def rewired(self, key: str, x: Any) -> Any:
        """What a part is to be given instead of x; x itself where nothing was changed."""
        change = self.changes.rewire.get(key)
        if change is None:
            return x
        value = SELECTIONS[change["select"]](self.observed.live(change["sources"]))
        value = FUNCTIONS[change["function"]](value, **change.get("arguments", {}))
        last = self.observed.last_called
        for call in [call for call in self.observed.dropout_calls if call["after"] == last]:
            value = nn.functional.dropout(value, call["rate"], call["active"])
        return value.to(x.dtype) if value.numel() != x.numel() else value.reshape(x.shape).to(x.dtype)

    def mask(self) -> torch.Tensor | None:
        """Which timesteps Keras's layer computes at this step; None where it masks nothing."""
        mask = self.changes.masks.get(str(self.observed.step))
        return None if mask is None else torch.from_numpy(mask.astype(bool))

    def dropout(self, x: Any, rate: float, active: bool) -> Any:
        """Drop alike on both sides, or not at all; the rate may be changed."""
        number = len(self.observed.dropout_calls)
        call = {"after": self.observed.last_called, "rate": rate, "shape": list(x.shape), "active": bool(active)}
        self.observed.dropout_calls.append(call)
        rates = self.changes.dropout_rates
        rate, active = rates.get(number, rate), active or (number in rates and self.module.training)
        if self.changes.dropout == "off" or not active or rate == 0:
            return x
        shape, batch = tuple(x.shape), self.observed.batch.shape
        if len(shape) == 3 and len(batch) > 1 and shape[:2] == (batch[1], batch[0]) != (batch[0], batch[1]):
            mask = kept((self._rows(shape[1]), shape[0], shape[2]), rate).swapaxes(0, 1)
        else:
            mask = kept((self._rows(shape[0]), *shape[1:]), rate)
        return x * torch.from_numpy(np.ascontiguousarray(mask)).to(x.dtype) / (1 - rate)

    def _rows(self, count: int) -> int:
        """How many rows a dropout mask needs."""
        return 1 if self.changes.dropout == "rows" else count
