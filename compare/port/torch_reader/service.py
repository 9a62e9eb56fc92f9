"""What the process of a PyTorch module that is ported does: reads it, and puts it to work for the proof."""

import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from compare.errors import InputError
from compare.explain.nested import packed, unpacked
from compare.port.examples import Example, examples
from compare.port.graph import as_tree
from compare.port.torch_reader.held import Sym
from compare.port.torch_reader.lowering import Lowering
from compare.port.torch_reader.program import Step, Value
from compare.port.torch_reader.reading import BATCHES, read
from compare.port.torch_reader.tracer import Tracer, tracing
from compare.port.torch_reader.training import Target, linear, read_loss, read_optimizer
from compare.workers.protocol import Answer, Doing, Failed, Request

ACTIONS = ("read", "observe", "train", "noise")
ERROR_CHARACTERS = 600
# How often PyTorch computes in float32: once as it is, then from weights that differ in the last place.
MEMBERS = 3
Made = tuple[nn.Module, Any, torch.optim.Optimizer | None]


class TorchModule:
    """The service: `read` comes first."""

    def __init__(self, runner: str) -> None:
        torch.manual_seed(0)
        # In evaluation a fused kernel would take the place of the steps that there are in training.
        torch.backends.mha.set_fastpath_enabled(False)
        self.file = ""
        self.made: Made
        self.examples: list[Example] = []
        self.low: Lowering
        self.target: Target | None = None

    def __call__(self, request: Request, report: Callable[[Doing], None]) -> Answer | Failed:
        """Do what is asked for; what the user's code raises is told with its own line."""
        options = unpacked(request.options, request.tensors)
        if request.action not in ACTIONS:
            return Failed(f"there is no {request.action!r}", "defect")
        try:
            return Answer(*_answer(getattr(self, request.action)(**options)))
        except InputError as error:
            return Failed(str(error), "refused")
        except (Exception, SystemExit) as error:  # the user's code may raise anything
            traceback.print_exc()
            lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == self.file]
            if not lines:
                return Failed(f"{type(error).__name__}: {error}", "defect")
            text = " ".join(str(error).split())[:ERROR_CHARACTERS]
            return Failed(f"{self.file}:{lines[-1]}: {type(error).__name__}: {text}", "refused")

    def read(self, file: str, factory: str, shapes: Sequence[str]) -> dict[str, Any]:
        """Make the module and say what it is in Keras's vocabulary."""
        self.file, self.examples = file, examples(shapes)
        self.made = made_by(file, factory)
        module, loss, optimizer = self.made
        self.low = read(module, self.examples, _name(module))
        answer: dict[str, Any] = {
            "class": type(module).__name__,
            "graph": as_tree(self.low.graph),
            "lines": {name: list(line) for name, line in self.low.lines.items()},
            "weights": {f"{layer}/{name}": list(m.names) for (layer, name), m in self.low.maps.items()},
            "padding": self.low.padding,
            "output_axes": self.low.output_axes,
            "seen": {call: [number, output] for call, (number, output) in self.seen().items()},
            "sources": self._sources(),
            "training": None,
        }
        if optimizer is not None:
            answer["training"] = self._training(loss, optimizer)
        return {**answer, "notes": self.low.notes}

    def _training(self, loss: Any, optimizer: torch.optim.Optimizer) -> dict[str, Any] | None:
        generator = np.random.default_rng(1)
        inputs = {batch: [each.array(batch, generator) for each in self.examples] for batch in BATCHES}
        try:
            rule = read_optimizer(optimizer, self.low, self.made[0])
            low, self.target = read_loss(self.made[0], loss, inputs)
            if rule["coupled_decay"] and any(weight_map.summed for weight_map in self.low.maps.values()):
                self.low.note(
                    "weight_decay pulls at each of PyTorch's two biases, in Keras at their sum: the same where both "
                    "are equal, as they are for the proof"
                )
        except InputError as error:
            self.low.note(f"train.py is not written: {error}")
            return None
        return {"optimizer": rule, "loss": as_tree(low.graph), "lines": {n: list(v) for n, v in low.lines.items()}}

    def _sources(self) -> dict[str, dict[str, Any]]:
        """The user's line for each call that has one."""
        sources = {}
        for call, (number, _) in self.seen().items():
            place = self.low.program.steps[number].place
            if place.file:
                sources[call] = {"file": place.file, "line": place.line, "text": place.text, "side": "torch"}
        return sources

    def seen(self) -> dict[str, tuple[int, int]]:
        """The calls whose values are those of a step's output, as PyTorch sees it."""
        tensors: dict[str, tuple[int, int]] = {}
        for place, held in self.low.values.items():
            if isinstance(held, Sym) and held.tensor.number == 0 and held.axes == tuple(range(held.rank)):
                tensors[held.tensor.call] = place
        return tensors

    # -- at work -----------------------------------------------------------------------------------------------

    def observe(self, batch: int, seed: int) -> dict[str, Any]:
        """Inputs, and what the module makes of them in evaluation, in float32 and float64."""
        generator = np.random.default_rng(seed)
        inputs = [each.array(batch, generator) for each in self.examples]
        results: dict[str, Any] = {"float64": self._observed(inputs, torch.float64)}
        results["float32"] = [self._observed(inputs, torch.float32, member) for member in range(MEMBERS)]
        return {
            "inputs": [np.moveaxis(array, e.batch_axis, 0) for array, e in zip(inputs, self.examples, strict=True)],
            **results,
        }

    def _observed(self, inputs: Sequence[np.ndarray], dtype: torch.dtype, member: int = 0) -> dict[str, Any] | None:
        module = deepcopy(self.made[0]).eval()
        _perturb(module, member)
        with _computing_in(dtype, module) as tensor, torch.no_grad():
            try:
                tensors = [tensor(array) for array in inputs]
                tracer = Tracer(module, len(inputs[0]))
                for number, each in enumerate(tensors):
                    tracer.add(Step("input", (number,)), each, varying=True)
                with tracing(tracer):
                    result = module(*tensors)
            except RuntimeError:
                if dtype == torch.float64:  # the user's code makes float32 tensors of its own
                    return None
                raise
        outputs = [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        values = {value: held for held in tracer.tensors() if isinstance(value := tracer.leaf(held), Value)}
        steps = {}
        for call, (number, output) in self.seen().items():
            held = values.get(Value(number, output))
            if held is not None:
                steps[call] = held.double().numpy() if held.is_floating_point() else held.numpy()
        return {"outputs": [self._moved(i, each) for i, each in enumerate(outputs)], "steps": steps}

    def _moved(self, number: int, output: torch.Tensor) -> np.ndarray:
        array = output.detach().double().numpy() if output.is_floating_point() else output.detach().numpy()
        return np.moveaxis(array, self.low.output_axes[number], 0) if array.ndim else array

    def train(self, batch: int, steps: int, seed: int) -> dict[str, Any]:
        """Batches and what some steps of training made of the weights, without dropout, in float32 and float64."""
        assert self.target is not None
        generator = np.random.default_rng(seed)
        batches = []
        for _ in range(steps):
            inputs = [each.array(batch, generator) for each in self.examples]
            with torch.no_grad():
                result = deepcopy(self.made[0]).eval()(*(torch.tensor(array) for array in inputs))
            first = next(leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor))
            batches.append((inputs, self.target.array(tuple(first.shape), generator)))
        results: dict[str, Any] = {"float64": self._trained(batches, torch.float64)}
        results["float32"] = [self._trained(batches, torch.float32, member) for member in range(MEMBERS)]
        axes = [each.batch_axis for each in self.examples]
        return {
            "batches": [
                {
                    "inputs": [np.moveaxis(a, axis, 0) for a, axis in zip(x, axes, strict=True)],
                    "target": self._batch_first(y),
                }
                for x, y in batches
            ],
            **results,
        }

    def _batch_first(self, target: np.ndarray) -> np.ndarray:
        axis = self.low.output_axes[0]
        return np.moveaxis(target, axis, 0) if axis and target.ndim > axis else target

    def _trained(self, batches: Sequence[Any], dtype: torch.dtype, member: int = 0) -> list[dict[str, Any]] | None:
        module, loss, optimizer = deepcopy(self.made)
        assert optimizer is not None
        self._halve_biases(module, optimizer)
        _perturb(module, member)
        without_dropout(module.train())
        results: list[dict[str, Any]] = []
        with _computing_in(dtype, module, optimizer) as tensor, _no_dropout():
            for inputs, target in batches:
                try:
                    optimizer.zero_grad()
                    value = loss(module(*map(tensor, inputs)), tensor(target))
                    value.backward()
                except RuntimeError:
                    if dtype == torch.float64:
                        return None
                    raise
                gradients = {
                    n: p.grad.double().numpy().copy() for n, p in module.named_parameters() if p.grad is not None
                }
                optimizer.step()
                tensors = [*module.named_parameters(), *module.named_buffers()]
                weights = {name: tensor.detach().double().numpy().copy() for name, tensor in tensors}
                results.append(
                    {
                        "loss": float(value.detach()),
                        "gradients": linear(self.low, gradients),
                        "weights": linear(self.low, weights, sums=True),
                    }
                )
        return results

    def _halve_biases(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Give both biases of a sum one half of it, where each of them decays: so does Keras's one bias."""
        decays = any(group.get("weight_decay") for group in optimizer.param_groups)
        if not decays or isinstance(optimizer, torch.optim.AdamW):
            return
        parameters = dict(module.named_parameters())
        with torch.no_grad():
            for weight_map in self.low.maps.values():
                if weight_map.summed:
                    first, second = (parameters[name] for name in weight_map.names)
                    _make_equal(first, second)
                    own, other = optimizer.state.get(first, {}), optimizer.state.get(second, {})
                    for slot in own.keys() & other.keys():
                        if isinstance(own[slot], torch.Tensor):
                            _make_equal(own[slot], other[slot])

    def noise(self, batch: int, seed: int) -> dict[str, Any]:
        """Whether two passes in training mode differ: whether a dropout is at work."""
        generator = np.random.default_rng(seed)
        inputs = [torch.tensor(each.array(batch, generator)) for each in self.examples]
        module = deepcopy(self.made[0]).train()
        with torch.no_grad():
            passes = [[x for x in tree_leaves(module(*inputs)) if isinstance(x, torch.Tensor)] for _ in range(2)]
        return {"noisy": [not torch.equal(a, b) for a, b in zip(*passes, strict=True)]}


def _make_equal(first: torch.Tensor, second: torch.Tensor) -> None:
    mean = (first + second) / 2
    first.copy_(mean)
    second.copy_(mean)


def _perturb(module: nn.Module, member: int) -> None:
    """Move every weight of an ensemble's member by a unit in its last place; the first stays as it is."""
    generator = torch.Generator().manual_seed(member)
    with torch.no_grad():
        for parameter in module.parameters() if member else ():
            signs = torch.randint(0, 2, parameter.shape, generator=generator) * 2 - 1
            parameter.mul_(1 + torch.finfo(torch.float32).eps * signs.to(parameter.dtype))


def _answer(tree: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    facts, arrays = packed(tree)
    return {"tree": facts}, {name: np.ascontiguousarray(array) for name, array in arrays.items()}


def _name(module: nn.Module) -> str:
    name = type(module).__name__
    return "".join(
        f"_{c.lower()}" if c.isupper() and i and name[i - 1].islower() else c.lower() for i, c in enumerate(name)
    )


def made_by(file: str, factory: str) -> Made:
    """What a factory makes: a module, alone or with its loss and optimizer; raises InputError for anything else."""
    sys.path.insert(0, str(Path(file).parent))
    spec = importlib.util.spec_from_file_location("ported_file", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["ported_file"] = module
    spec.loader.exec_module(module)
    function = getattr(module, factory, None)
    wanted = "an nn.Module, or (nn.Module, loss function, torch optimizer)"
    if not callable(function):
        raise InputError(f"{file}: {factory} is no function; it is to return {wanted}")
    result = function()
    parts = tuple(result) if isinstance(result, tuple | list) else (result,)
    if isinstance(parts[0] if parts else None, nn.Module) and len(parts) == 1:
        return parts[0], None, None
    fits = len(parts) == 3 and isinstance(parts[0], nn.Module) and callable(parts[1])
    if not fits or not isinstance(parts[2], torch.optim.Optimizer):
        told = ", ".join(type(part).__name__ for part in parts)
        raise InputError(f"{file}: {factory}() returned {told}; it is to return {wanted}")
    return parts[0], parts[1], parts[2]


@contextmanager
def _computing_in(
    dtype: torch.dtype, module: nn.Module, optimizer: torch.optim.Optimizer | None = None
) -> Iterator[Callable[[np.ndarray], torch.Tensor]]:
    """Compute in a precision; gives what makes tensors of arrays."""
    module.to(dtype)
    for state in {} if optimizer is None else optimizer.state.values():
        for name, value in state.items():
            if isinstance(value, torch.Tensor) and value.dim():
                state[name] = value.to(dtype)
    before = torch.get_default_dtype()

    def tensor(array: np.ndarray) -> torch.Tensor:
        made = torch.tensor(array)
        return made.to(dtype) if made.is_floating_point() else made

    try:
        torch.set_default_dtype(dtype)
        yield tensor
    finally:
        torch.set_default_dtype(before)


def without_dropout(module: nn.Module) -> None:
    """Switch every dropout off that a module has as a setting."""
    for part in module.modules():
        if isinstance(part, nn.modules.dropout._DropoutNd):
            part.p = 0.0
        elif isinstance(part, nn.RNNBase | nn.MultiheadAttention):
            part.dropout = 0.0


def _no_dropout() -> Any:
    def identity(x: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        return x

    return mock.patch.object(nn.functional, "dropout", identity)
