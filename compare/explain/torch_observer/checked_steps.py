"""The user's PyTorch training, step by step from Keras's weights: each step is compared by itself, and nothing drifts.

Before every step the module gets the weights that Keras had, after every backward pass the gradients that Keras had:
so forward pass, loss, gradients, clipping and update are each compared on equal terms, whatever came before.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from compare.explain.batches import Tree, each, named
from compare.explain.source import Site, Source, source_of, users_site
from compare.explain.step_comparison import applied_gradients
from compare.explain.torch_observer.construction import Freezing, noting_construction
from compare.explain.torch_observer.recorder import Recorder, array
from compare.explain.torch_observer.recurrent_programs import rounded_kernel
from compare.explain.torch_observer.setup import Setup, clip_factors
from compare.explain.torch_observer.update_rule import replace_step
from compare.explain.torch_observer.user_functions import (
    checked,
    leaving_out,
    tensor_of,
    watching_clipping,
)
from compare.explain.transfer import Transfer


class Stopped(BaseException):
    """Ends a step at its backward pass; no Exception, so that a user's handler lets it through."""


@dataclass
class Step:
    """What one step made: by PyTorch's names, None where it made nothing."""

    number: int
    loss: float = float("nan")
    backwards: int = 0
    own: dict[str, np.ndarray | None] = field(default_factory=dict)
    held: dict[str, np.ndarray | None] = field(default_factory=dict)
    clipped: dict[str, np.ndarray] = field(default_factory=dict)
    before: dict[str, np.ndarray] = field(default_factory=dict)
    after: dict[str, np.ndarray] = field(default_factory=dict)
    updates: int = 0
    recorder: Recorder | None = None

    @property
    def recording(self) -> Recorder:
        """What was recorded; a step that was taken has it."""
        assert self.recorder is not None
        return self.recorder


class Work:
    """What does not change from run to run: the pair file, the data, Keras's trace, how weights are transferred."""

    def __init__(
        self,
        execute: Callable[[], dict[str, Any]],
        data: Sequence[Tree],
        trace: Mapping[str, Any],
        text: str,
    ) -> None:
        self.execute = execute
        self.inputs, self.targets, self.sample_weights = data
        self.trace, self.text = trace, text
        self.transfer = Transfer()
        # What the user multiplies the loss by where both sides add up the gradients of several batches.
        self.loss_scale = 1.0

    @property
    def accumulate(self) -> int:
        """Of so many batches Keras takes the mean gradient."""
        return int(self.trace.get("accumulate", 1))

    @property
    def steps(self) -> Sequence[Mapping[str, Any]]:
        """Keras's steps."""
        return self.trace["steps"]


class Training:
    """One training from the start with a module of its own."""

    def __init__(self, work: Work, setup: Setup | None = None, noise: int | None = None, kernel: Any = None) -> None:
        self.work, self.setup = work, setup or Setup()
        self.kernel = kernel or (rounded_kernel if "step_by_step" in self.setup.flags else None)
        self.options = work.execute()
        self.made_at: dict[int, Site | None] = {}
        self.noise = None if noise is None else np.random.default_rng(noise)
        torch.manual_seed(int(self.options.get("seed") or 0))
        with noting_construction(self.made_at):
            with Freezing(self.made_at):
                returned = self.options["torch_side"]()
            self.module, self.loss, self.optimizer = checked(returned)
            make_scheduler = self.options.get("scheduler")
            self.scheduler = make_scheduler(self.optimizer) if make_scheduler else None
        self.named: dict[str, torch.Tensor] = {
            **dict(self.module.named_parameters()),
            **{n: b for n, b in self.module.named_buffers() if n.rpartition(".")[2] in ("running_mean", "running_var")},
        }
        self.initial = {name: array(tensor) for name, tensor in self.named.items()}
        if make_scheduler and not hasattr(self.scheduler, "step"):
            raise TypeError(f"scheduler() returned {type(self.scheduler).__name__}; return a torch scheduler")
        self.stack: list[tuple[str, nn.Module]] = []
        self.step_sites: list[Site] = []
        self.backward_site: Site | None = None
        self.clip_calls: list[dict[str, Any]] = []
        self.current = Step(-1)
        self.losses: list[float] = []
        self.rates: list[float] = []
        self._only_forward = False
        self._gradients: dict[str, torch.Tensor] = {}
        # Where gradients are kept from going back, as a counterfactual finds out.
        self.detached: list[Site] = []
        self._watch()
        self._change()

    def _watch(self) -> None:
        for name, module in self.module.named_modules():
            self._follow(name, module)
        if isinstance(self.loss, nn.Module):
            self._follow("loss", self.loss)
        self.optimizer.register_step_pre_hook(self._before_update)

    def _follow(self, name: str, module: nn.Module) -> None:
        module.register_forward_pre_hook(lambda m, a: self.stack.append((name, m)))
        module.register_forward_hook(lambda m, a, o: self.stack.pop() and None, always_call=True)

    def _change(self) -> None:
        setup = self.setup
        parameters = dict(self.module.named_parameters())
        held = {id(p) for group in self.optimizer.param_groups for p in group["params"]}
        for name in setup.freeze:
            parameters[name].requires_grad_(False)
        for name in setup.train:
            parameters[name].requires_grad_(True)
            if id(parameters[name]) not in held:
                self.optimizer.param_groups[0]["params"].append(parameters[name])
        for path, momentum in setup.momentum.items():
            self.module.get_submodule(path).momentum = momentum
        if setup.rule:
            replace_step(self.optimizer, setup.rule)
        if setup.penalties:
            for group in self.optimizer.param_groups:
                group["weight_decay"] = 0.0
        for patch in setup.patches.values():
            if hasattr(patch, "restart"):
                patch.restart()

    def assign(self, weights: Mapping[str, np.ndarray]) -> None:
        """Load Keras's weights."""
        with torch.no_grad():
            for name, tensor in self.named.items():
                if name in self.work.transfer.maps:
                    value = self.work.transfer.weight(name, weights, tensor.shape)
                elif name in self.work.transfer.alone:
                    value = np.zeros(tuple(tensor.shape), np.float32)
                else:
                    continue
                tensor.copy_(torch.from_numpy(np.ascontiguousarray(value)).view_as(tensor))

    def tensors(self, tree: Tree, batch: Sequence[int]) -> Any:
        """A batch as tensors: floats as the module has them, whole numbers as int64."""
        first = next(self.module.parameters(), None)
        dtype = torch.float32 if first is None else first.dtype
        return each(lambda a: tensor_of(a[batch], dtype), tree)

    def step(self, number: int, values: bool = False) -> Step:
        """Take the user's own step from Keras's weights; with `values` everything that is computed is kept."""
        keras = self.work.steps[number]
        self.assign(keras["before"])
        self.current = step = Step(number)
        x, y = self.tensors(self.work.inputs, keras["batch"]), self.tensors(self.work.targets, keras["batch"])
        x = each(self._rounded, x)
        self.stack.clear()
        if "always_training" in self.setup.flags:
            self.module.train()
        torch.manual_seed(1000 + number)
        first = dict(self.module.named_parameters())
        again = {n: p for n, p in self.module.named_parameters(remove_duplicate=False) if n not in first}
        leaves = {**again, **first, **dict(self.module.named_buffers())}  # a tied parameter by its first name
        leaves |= dict(named("x", x)) | dict(named("y", y))
        recorder = step.recorder = Recorder(
            leaves,
            self.setup.patches,
            lambda: self.stack[-1] if self.stack else ("", None),
            self._backward,
            values,
            self.noise,
            kernel=self.kernel,
            attached="keep_gradient" in self.setup.flags,
            scale=1 / self.work.accumulate if "plain_step" in self.setup.flags else self.work.loss_scale,
        )
        recorder.detached = self.detached
        custom = None if "plain_step" in self.setup.flags else self.options.get("torch_step")
        with self._functions(), recorder:
            if custom is not None:
                custom(self.module, self.loss, self.optimizer, x, y)
            else:
                self._default_step(x, y, keras["batch"], number)
        if not step.backwards and not number:
            raise TypeError("torch_step() never calls backward(); compute the gradients of the loss in it")
        step.loss = recorder.loss_value
        self.losses.append(step.loss)
        if "every_step" in self.setup.flags and not step.updates:
            self.optimizer.step()
        self._step_scheduler(number)
        step.before = {
            n: self.work.transfer.weight(n, keras["before"], t.shape)
            for n, t in self.named.items()
            if n in self.work.transfer.maps
        }
        step.after = {name: array(tensor) for name, tensor in self.named.items()}
        return step

    def _rounded(self, x: torch.Tensor) -> torch.Tensor:
        """In Monte Carlo arithmetic the inputs too: a fused kernel rounds every product of them inside."""
        if self.noise is None or not x.is_floating_point():
            return x
        signs = torch.from_numpy(self.noise.integers(-1, 2, tuple(x.shape)).astype(np.float32))
        return x * (1 + torch.finfo(torch.float32).eps * signs.to(x.dtype))

    def forward(self, number: int, values: bool = True) -> Step:
        """Compute a step's forward pass and loss alone, with all values kept unless told otherwise."""
        self._only_forward = True
        try:
            self.step(number, values)
        except Stopped:
            pass
        finally:
            self._only_forward = False
        return self.current

    def _default_step(self, x: Any, y: Any, batch: Sequence[int], number: int) -> None:
        count = self.work.accumulate if "plain_step" in self.setup.flags else int(self.options.get("accumulate") or 1)
        if number % count == 0:
            self.optimizer.zero_grad()
        extra = []
        if self.work.sample_weights is not None:
            extra = [self.tensors(self.work.sample_weights, batch)]
        loss = self.loss(self.call(x), y, *extra)
        (loss / count if count > 1 else loss).backward()
        if (number + 1) % count:
            return
        if self.options.get("clip_norm"):
            torch.nn.utils.clip_grad_norm_(self.module.parameters(), self.options["clip_norm"])
        self.optimizer.step()

    def call(self, x: Any) -> Any:
        """The module's outputs: several inputs one after the other."""
        predict = self.options.get("torch_predict")
        if predict is not None:
            return predict(self.module, x)
        if isinstance(x, list):
            return self.module(*x)
        return self.module(x)

    def _step_scheduler(self, number: int) -> None:
        if self.scheduler is None:
            return
        if isinstance(self.scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            following = self.work.steps[number + 1]["batch"][0] if number + 1 < len(self.work.steps) else 0
            if following == self.work.steps[0]["batch"][0]:  # an epoch has ended
                self.scheduler.step(float(np.mean(self.losses)))
                self.losses = []
        else:
            self.scheduler.step()

    def _functions(self) -> contextlib.AbstractContextManager[Any]:
        """Watch the functions that clip; leave out what a counterfactual leaves out."""

        def recording() -> bool:
            return self.current.recorder is not None and self.current.recorder.on

        stack = leaving_out(self.setup.flags, recording, self.detached)
        stack.enter_context(watching_clipping(self.clip_calls, left_out=self.setup.clip is not None))
        return stack

    def _backward(self, recorder: Recorder, loss: torch.Tensor, call: Callable[[torch.Tensor], Any]) -> Any:
        """Compute the gradients, note them, and put Keras's in their place for what follows."""
        if self._only_forward:
            raise Stopped
        parameters = dict(self.module.named_parameters())
        old = {name: None if p.grad is None else p.grad.detach().clone() for name, p in parameters.items()}
        for name, coefficient in self.setup.penalties.items():
            loss = loss + coefficient * parameters[name].square().sum()
        if self.setup.penalties:
            recorder.loss_value = float(loss.detach()) / recorder.scale
        self.backward_site = users_site(4)
        result = call(loss)
        step, keras = self.current, self.work.steps[self.current.number]
        step.backwards += 1
        if step.backwards > 1:
            self._add_gradients(parameters, old, recorder.scale)
            return result
        for name, p in parameters.items():
            if p.grad is None:
                step.own[name] = step.held[name] = None
                continue
            gradient = p.grad.detach()
            if gradient.is_sparse:
                gradient = gradient.to_dense()
            step.held[name] = array(gradient / recorder.scale)
            before = old[name]
            step.own[name] = array((gradient if before is None else gradient - before) / recorder.scale)
            wanted = self.work.transfer.gradient(name, keras["gradients"], p.shape)
            if wanted is not None and p.requires_grad:
                new = (torch.from_numpy(wanted) * recorder.scale).to(p.dtype)
                p.grad = new if before is None or "plain_gradients" in self.setup.flags else new + before
                self._gradients[name] = p.grad.clone()
        return result

    def _add_gradients(
        self, parameters: Mapping[str, nn.Parameter], old: Mapping[str, torch.Tensor | None], scale: float
    ) -> None:
        """A further backward pass in a step: its gradients belong to the step's, and Keras's are in place already."""
        step = self.current
        for name, p in parameters.items():
            if p.grad is None:
                continue
            before, own = old[name], step.own.get(name)
            new = array((p.grad if before is None else p.grad - before) / scale)
            step.own[name] = new if own is None else own + new
            step.held[name] = new if step.held.get(name) is None else step.held[name] + new
            if before is not None and self.work.transfer.maps.get(name) is not None:
                p.grad = before

    def _before_update(self, *_: Any) -> None:
        site = users_site(2)
        if site is not None and site not in self.step_sites:
            self.step_sites.append(site)
        self.current.updates += 1
        parameters = dict(self.module.named_parameters())
        if self.setup.clip is not None:
            self._clip_as_keras(self.setup.clip)
        self.current.clipped = {name: array(p.grad) for name, p in parameters.items() if p.grad is not None}

    def _clip_as_keras(self, clip: Mapping[str, Any]) -> None:
        """Clip what the gradients were after the backward pass, whatever the user's code has done to them since."""
        gradients = applied_gradients(self.work.trace, self.current.number)
        factors = clip_factors(gradients, clip)
        shaped = {path: np.full(np.shape(gradients[path]), factor) for path, factor in factors.items()}
        with torch.no_grad():
            for name, p in self.module.named_parameters():
                factor = self.work.transfer.gradient(name, shaped, p.shape)
                if factor is not None and p.grad is not None and name in self._gradients:
                    p.grad = self._gradients[name] * torch.from_numpy(factor).to(p.dtype)
                    if clip["kind"] == "value":
                        p.grad.clamp_(-clip["limit"], clip["limit"])

    def evaluate(self, weights: Mapping[str, np.ndarray]) -> Recorder:
        """The loss of the first batch as for a prediction, from given weights."""
        self.assign(weights)
        batch = self.work.steps[0]["batch"]
        x, y = self.tensors(self.work.inputs, batch), self.tensors(self.work.targets, batch)
        leaves = {**dict(self.module.named_parameters()), **dict(named("x", x)), **dict(named("y", y))}
        was = self.module.training
        self.module.eval()
        self.stack.clear()
        recorder = Recorder(
            leaves,
            self.setup.patches,
            lambda: self.stack[-1] if self.stack else ("", None),
            values=False,
            noise=self.noise,
        )
        extra = [] if self.work.sample_weights is None else [self.tensors(self.work.sample_weights, batch)]
        with torch.no_grad(), self._functions(), recorder:
            recorder.finish(self.loss(self.call(x), y, *extra))
        self.module.train(was)
        return recorder

    def source(self, site: Site | None, where: Any = None) -> Source | None:
        """The user's line of a call; of a call from inside a library the line that made the module."""
        if site is not None:
            return source_of(site)
        module = where[1] if where else None
        made_at = self.made_at.get(id(module)) if module is not None else None
        return None if made_at is None else source_of(made_at)
