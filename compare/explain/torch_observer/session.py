"""A user's module, loss and optimizer, trained step by step while everything on the way is recorded or changed."""

from collections.abc import Callable, Mapping, Sequence
from types import MethodType
from typing import Any

import numpy as np
import torch
from torch import nn

from compare.explain.torch_observer import interception
from compare.explain.torch_observer.functions import FUNCTIONS, SELECTIONS
from compare.explain.torch_observer.masks import kept
from compare.explain.torch_observer.parts import CELLS, SEQUENCES, Part, kind_of, parts_of
from compare.explain.torch_observer.recording import (
    LossWrapper,
    copied,
    copied_or_none,
    loose_state,
    restore_loose_state,
    row_order,
)
from compare.explain.torch_observer.recurrent_run import LayerOptions, run
from compare.explain.torch_observer.update_rule import UpdateRule


class Session:
    """One training from the start, with its own module; changes are made before the first step.

    `make` returns (module, loss, optimizer); `options` may hold torch_step, scheduler, clip_norm, seed.
    `dropout` is "shared" for masks that both sides draw alike, "rows" for those of one row in all of them, or "off".
    """

    def __init__(self, make: Callable[[], Any], options: Mapping[str, Any], dropout: str = "shared") -> None:
        interception.install()
        self.options, self.dropout = options, dropout
        self.parts: dict[str, Part] = {}
        self.called: list[str] = []
        self.inputs: dict[str, list[Any]] = {}
        self.outputs: dict[str, list[Any]] = {}
        self.record: dict[str, np.ndarray] = {}
        self.seen_packed: set[str] = set()
        self.nonzero_states: set[str] = set()
        self.dropout_calls: list[dict[str, Any]] = []
        self.clip_calls: list[dict[str, Any]] = []
        self.layer_options: dict[str, LayerOptions] = {}
        self.rewire: dict[str, dict[str, Any]] = {}
        self.inserted_dropout: dict[str, float] = {}
        self.dropout_rates: dict[int, float] = {}
        self.masks: dict[str, np.ndarray] = {}
        self.step_number = 0
        self.batch: tuple[Any, Any] = (None, None)
        self.before_backward = False
        self.keep_gradient = self.plain_step = self.always_training = self.reset_state = self.own_target = False
        self.no_autocast = self.autocast_seen = self.no_tf32 = self.no_dropout_in_evaluation = False
        self.target_like_prediction = self.restore_order = False
        self.order: np.ndarray | None = None
        self.new_loss: Callable[[Any, Any], Any] | None = None
        self.loss_divisor: str | None = None
        self.penalty: Callable[[], Any] | None = None
        self.clip: dict[str, Any] | None = None
        self.rule: UpdateRule | None = None
        self.rate_noise = 0.0
        self.raw: dict[nn.Parameter, torch.Tensor] = {}
        with interception.of(self):
            torch.manual_seed(int(options.get("seed") or 0))
            self.module, self.user_loss, self.optimizer = make()
            self.scheduler = options["scheduler"](self.optimizer) if options.get("scheduler") else None
        if not hasattr(self.scheduler, "step") and options.get("scheduler"):
            raise TypeError(f"scheduler() returned {type(self.scheduler).__name__}; return a torch scheduler")
        for path, module in self.module.named_modules():
            self._watch(path, module)
        self._watch_steps()
        self._first_state = loose_state(self.module)
        self.loss = LossWrapper(self)

    def _watch(self, path: str, module: nn.Module) -> None:
        for part in parts_of(path, module):
            self.parts[part.key] = part
        if isinstance(module, SEQUENCES):
            options = self.layer_options[path] = LayerOptions()
            original = module.forward

            def forward(sequence: Any, hx: Any = None, *rest: Any) -> Any:
                plain = sequence if isinstance(sequence, torch.Tensor) else None
                if plain is not None and plain.dim() == 2:  # one window without a batch axis
                    return original(sequence, hx, *rest)
                return run(module, self, path, options, sequence, hx)

            module.forward = forward  # type: ignore[method-assign]
        elif isinstance(module, CELLS):
            options = self.layer_options[path] = LayerOptions()
            cell_forward = module.forward

            def cell(x: Any, hx: Any = None) -> Any:
                first = f"{path}|0|forward" not in self.inputs
                if first:
                    self.saw_state(path, hx)
                    hx = None if options.zero_state else hx
                self.entered(f"{path}|0|forward", x)
                result = cell_forward(x, hx)
                self.left(f"{path}|0|forward", result[0] if isinstance(result, tuple) else result)
                return result

            module.forward = cell  # type: ignore[method-assign]
        elif kind_of(module) is not None:
            key = f"{path}|0|forward"

            def before(module: nn.Module, arguments: tuple[Any, ...]) -> Any:
                x = self.rewired(key, arguments[0])
                self.entered(key, x)
                return (x, *arguments[1:])

            def after(module: nn.Module, arguments: tuple[Any, ...], result: Any) -> None:
                self.left(key, result)

            module.register_forward_pre_hook(before)
            module.register_forward_hook(after)
        if path == "":
            module.register_forward_pre_hook(self._forward_begins)
            module.register_forward_hook(self._forward_ended)

    def _forward_begins(self, module: nn.Module, arguments: Any) -> None:
        self.inputs, self.outputs, self.dropout_calls = {}, {}, []
        self.called, self.order = [], None

    def _forward_ended(self, module: nn.Module, arguments: Any, result: Any) -> Any:
        self.prediction = result[0] if isinstance(result, tuple | list) else result
        if not isinstance(result, torch.Tensor):
            return None
        if "prediction" in self.rewire:
            result = self.rewired("prediction", result)
        if self.restore_order and self.order is not None and len(result) == len(self.order):
            result = result[torch.from_numpy(np.argsort(self.order))]
        self.prediction = result
        return result

    def entered(self, key: str, x: Any) -> None:
        """Note what a part is given."""
        if not self.called and isinstance(x, torch.Tensor):
            whole = not isinstance(self.parts[key].module, CELLS)
            self.order = row_order(copied(self.batch[0] if whole else self.batch[0][:, 0]), copied(x))
        if key not in self.called:
            self.called.append(key)
        self.inputs.setdefault(key, []).append(x)

    def left(self, key: str, y: Any) -> None:
        """Note what a part gives."""
        self.outputs.setdefault(key, []).append(y)

    def saw_state(self, path: str, state: Any) -> None:
        """Note whether a recurrent layer starts from another state than zero."""
        states = state if isinstance(state, tuple) else (state,)
        if any(part is not None and bool((part != 0).any()) for part in states):
            self.nonzero_states.add(path)

    def live(self, keys: Sequence[str]) -> Any:
        """What parts gave in this forward pass, directions side by side."""
        values = []
        for key in keys:
            if key == "inputs":
                return self.batch[0]
            calls = self.outputs[key]
            part = self.parts[key]
            values.append(torch.stack(calls, 1) if len(calls) > 1 or isinstance(part.module, CELLS) else calls[-1])
        return torch.cat(values, -1)

    def timesteps(self) -> int:
        """How many timesteps the windows of this batch have; 0 where they have no such axis."""
        return int(self.batch[0].shape[1]) if self.batch[0].dim() > 1 else 0

    def before_packing(self, x: Any) -> Any:
        """The whole sequence that was packed: what the part before gave, or the inputs."""
        return self.live([self.called[-1]]) if self.called else self.batch[0]

    def rewired(self, key: str, x: Any) -> Any:
        """What a part is to be given instead of x; x itself where nothing was changed."""
        change = self.rewire.get(key)
        if change is not None:
            value = SELECTIONS[change["select"]](self.live(change["sources"]))
            value = FUNCTIONS[change["function"]](value, **change.get("arguments", {}))
            for call in [call for call in self.dropout_calls if call["after"] == self._last_called()]:
                value = nn.functional.dropout(value, call["rate"], call["active"])
            x = value.to(x.dtype) if value.numel() != x.numel() else value.reshape(x.shape).to(x.dtype)
        rate = self.inserted_dropout.get(key)
        if rate and self.module.training and self.dropout != "off":
            shape = (self._rows(len(x)), 1, *x.shape[2:]) if x.dim() == 3 else (self._rows(len(x)), *x.shape[1:])
            x = x * torch.from_numpy(kept(shape, rate)).to(x.dtype) / (1 - rate)
        return x

    def _last_called(self) -> str | None:
        return self.called[-1] if self.called else None

    def mask(self, path: str) -> torch.Tensor | None:
        """Which timesteps Keras's layer computes at this step; None where it masks nothing."""
        found = self.masks.get(f"{self.step_number}")
        return None if found is None else torch.from_numpy(found.astype(bool))

    def saw_dropout(self, x: Any, rate: float, active: bool) -> Any:
        """Drop alike on both sides, or not at all; the rate may be changed."""
        number = len(self.dropout_calls)
        call = {"after": self._last_called(), "rate": rate, "shape": list(x.shape), "active": bool(active)}
        self.dropout_calls.append(call)
        rate = self.dropout_rates.get(number, rate)
        active = active or (number in self.dropout_rates and self.module.training)
        if self.dropout == "off" or not active or rate == 0:
            return x
        shape = tuple(x.shape)
        batch = self.batch[0].shape
        if len(shape) == 3 and len(batch) > 1 and shape[:2] == (batch[1], batch[0]) != (batch[0], batch[1]):
            mask = kept((self._rows(shape[1]), shape[0], shape[2]), rate).swapaxes(0, 1)
        else:
            mask = kept((self._rows(shape[0]), *shape[1:]), rate)
        return x * torch.from_numpy(np.ascontiguousarray(mask)).to(x.dtype) / (1 - rate)

    def _rows(self, count: int) -> int:
        """How many rows a dropout mask needs."""
        return 1 if self.dropout == "rows" else count

    def _watch_steps(self) -> None:
        original = self.optimizer.step
        session = self

        def step(optimizer: Any, closure: Any = None) -> Any:
            session._before_update()
            noise, result = 1 + session._rate_noise(), None
            if session.rule is not None:
                session.rule.step(noise)
            else:
                rates = [group["lr"] for group in optimizer.param_groups]
                for group in optimizer.param_groups:
                    group["lr"] = group["lr"] * noise
                result = original() if closure is None else original(closure)
                for group, rate in zip(optimizer.param_groups, rates, strict=True):
                    group["lr"] = rate
            optimizer._opt_called = True
            return result

        self.optimizer.step = MethodType(step, self.optimizer)

    def _rate_noise(self) -> float:
        # What float32 makes of 1 - beta^t, which multiplies an adaptive rule's learning rate.
        _, beta = self.optimizer.param_groups[0].get("betas", (None, None))
        if self.rule is not None:
            beta = self.rule.choices.get("beta_2", None if "rule" in self.rule.choices else beta)
        return 0.0 if beta is None else self.rate_noise / (1 - beta ** (self.step_number + 1))

    def _before_update(self) -> None:
        raw = self.raw or {p: p.grad.clone() for p in self.module.parameters() if p.grad is not None}
        if self.clip is not None:
            for parameter, gradient in raw.items():
                parameter.grad = gradient.clone()
            self._clip_as_keras(self.clip)
        self._record_gradients("gradient", lambda p: raw.get(p))
        self._record_gradients("clip", lambda p: p.grad)
        self.record["learning_rate"] = np.array(self.optimizer.param_groups[0]["lr"], dtype=np.float64)

    def _record_gradients(self, phase: str, of: Callable[[Any], Any]) -> None:
        for part in self.parts.values():
            for name in part.tensors:
                value = part.read_gradient(
                    name, lambda p: copied_or_none(of(p)) if isinstance(p, nn.Parameter) else None
                )
                if value is not None:
                    self.record[f"{phase}/{part.key}/{name}"] = value

    @torch.no_grad()
    def _clip_as_keras(self, clip: Mapping[str, Any]) -> None:
        kind, limit = clip["kind"], clip.get("limit")
        parameters = [p for p in self.module.parameters() if p.grad is not None]
        if kind == "value":
            for parameter in parameters:
                parameter.grad.clamp_(-limit, limit)
        if kind not in ("norm", "global_norm"):
            return
        norms = {}
        for part in self.parts.values():
            for name in part.tensors:
                value = part.read_gradient(
                    name, lambda p: copied_or_none(p.grad) if isinstance(p, nn.Parameter) else None
                )
                if value is not None:
                    norms[part.key, name] = float(np.sqrt(np.sum(np.square(value, dtype=np.float64))))
        whole = float(np.sqrt(sum(norm**2 for norm in norms.values())))
        for (key, name), norm in norms.items():
            norm = whole if kind == "global_norm" else norm
            for attribute in self.parts[key].tensors[name]:
                gradient = self.parts[key].tensor(attribute).grad
                if gradient is not None and norm > limit:
                    gradient.mul_(limit / norm)

    def backward_begins(self, loss: torch.Tensor) -> torch.Tensor:
        """What to differentiate instead of a loss."""
        self.before_backward = False
        if self.loss_divisor is not None:
            x, y = self.batch
            loss = loss / {"batch": len(y), "elements": self.prediction.numel(), "steps": x.shape[1]}[self.loss_divisor]
        if self.penalty is not None:
            loss = loss + self.penalty()
        self.record["loss"] = copied(loss)
        # Now, since what a training step computes afterwards, a validation say, is not part of the step.
        self._record_forward("")
        self._forward_recorded = True
        return loss

    def backward_ended(self) -> None:
        """Note the gradients before anything clips them."""
        gradient = getattr(self.prediction, "grad", None)
        if gradient is not None:
            self.record["output_gradient"] = copied(gradient)
        self.raw = {p: p.grad.clone() for p in self.module.parameters() if p.grad is not None}

    def loss_arguments(self, prediction: Any, target: Any) -> tuple[Any, Any]:
        """What the loss is to be given, both arguments recorded."""
        if isinstance(prediction, torch.Tensor):
            self.prediction = prediction
            if prediction.requires_grad:
                prediction.retain_grad()
        if isinstance(target, torch.Tensor):
            self.record["loss_target"] = copied(target)
            order = row_order(copied(self.batch[1]), copied(target))
            if order is not None:
                self.record["target_order"] = order
        if self.own_target:
            target = self.batch[1].reshape(target.shape) if self.batch[1].numel() == target.numel() else self.batch[1]
        if self.target_like_prediction and target.numel() == prediction.numel():
            target = target.reshape(prediction.shape)
        return prediction, target

    def step(self, x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
        """Take one training step and return its record."""
        self.record, self.raw, self._forward_recorded = {}, {}, False
        self.before_backward = True
        self.called, self.inputs, self.outputs, self.dropout_calls = [], {}, {}, []
        self.batch = inputs, targets = self._tensor(x), self._tensor(y)
        if self.reset_state:
            restore_loose_state(self._first_state)
        if self.always_training:
            self.module.train()
        self.prediction = None
        with interception.of(self):
            custom = None if self.plain_step else self.options.get("torch_step")
            (custom or self._default_step)(self.module, self.loss, self.optimizer, inputs, targets)
            if self.scheduler is not None:
                self.scheduler.step()
        if not self._forward_recorded:
            self._record_forward("")
        self._record_weights()
        self.step_number += 1
        return self.record

    def _default_step(self, module: Any, loss: Any, optimizer: Any, x: Any, y: Any) -> None:
        optimizer.zero_grad()
        loss(module(x), y).backward()
        if self.options.get("clip_norm"):
            torch.nn.utils.clip_grad_norm_(module.parameters(), self.options["clip_norm"])
        optimizer.step()

    @torch.no_grad()
    def evaluate(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Compute the layers' outputs as for a prediction; training goes on afterwards as it was."""
        training = self.module.training
        self.record = {}
        self.batch = (self._tensor(x), None)
        if self.reset_state:
            restore_loose_state(self._first_state)
        self.module.eval()
        self.called, self.inputs, self.outputs, self.dropout_calls = [], {}, {}, []
        dropout = self.dropout
        if self.no_dropout_in_evaluation:
            self.dropout = "off"
        with interception.of(self):
            self.module(self.batch[0])
        self.dropout = dropout
        self._record_forward("evaluation/")
        self.module.train(training)
        return self.record

    def _record_forward(self, prefix: str) -> None:
        for key in self.called:
            part = self.parts[key]
            for name, calls in (("in", self.inputs[key]), ("out", self.outputs.get(key, []))):
                if not calls:
                    continue
                value = torch.stack(calls, 1) if len(calls) > 1 or isinstance(part.module, CELLS) else calls[0]
                if part.kind == "batch_normalization" and value.dim() == 3:
                    value = value.transpose(1, 2)
                self.record[f"{prefix}{name}/{key}"] = copied(value)
        if isinstance(self.prediction, torch.Tensor):
            self.record[f"{prefix}prediction"] = copied(self.prediction)
        if self.order is not None:
            self.record[f"{prefix}order"] = self.order

    def _record_weights(self) -> None:
        for part in self.parts.values():
            for name in part.tensors:
                value = part.read(name, copied_or_none)
                if value is not None:
                    self.record[f"weights/{part.key}/{name}"] = value

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        if tensor.is_floating_point():
            parameter = next(self.module.parameters(), None)
            return tensor.to(torch.get_default_dtype() if parameter is None else parameter.dtype)
        return tensor.long() if tensor.dtype != torch.bool else tensor
