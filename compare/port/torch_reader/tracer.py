"""A module's forward pass as steps: modules of torch.nn are single steps, so are the functions between them.

The module runs on real tensors, as it is: what `torch.export` refuses (packed sequences, lengths on the CPU) is seen as
well, and every step has the user's line.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from inspect import signature
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import nn
from torch.nn.utils import rnn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from compare.errors import InputError
from compare.explain.source import source_of, users_site
from compare.port.torch_reader.modules import config_of
from compare.port.torch_reader.program import Constant, Parameter, Place, Program, Step, Value

# What makes Python's numbers of a tensor's.
NUMBERS = {"__bool__", "__int__", "__float__", "__index__", "__complex__", "item", "tolist", "numpy", "__contains__"}
# They give what they are given, as far as values go.
SAME = {
    "contiguous", "clone", "detach", "cpu", "cuda", "to_dense", "requires_grad_", "data", "__deepcopy__", "alias",
    "detach_", "positive", "__pos__", "retain_grad",
}  # fmt: skip
# What they give follows from the shape or type of what they are given, not from its values.
BY_SHAPE = {
    "zeros_like", "ones_like", "full_like", "empty_like", "new_zeros", "new_ones", "new_full", "new_empty",
    "zero_", "fill_",
}  # fmt: skip
# What makes packed sequences of padded ones, and back: their calls in between only sort and unsort.
PACKING = {rnn.pack_padded_sequence.__code__, rnn.pad_packed_sequence.__code__}
SORTING = {rnn.invert_permutation.__code__, rnn._packed_sequence_init_args.__code__}
# Modules of torch.nn that are made of others, whose parts are steps.
MADE_OF_OTHERS = (
    nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.TransformerEncoder, nn.TransformerDecoder,
    nn.TransformerEncoderLayer, nn.TransformerDecoderLayer, nn.Transformer,
)  # fmt: skip


def is_unit(module: nn.Module) -> bool:
    """Whether a module is one step: it is PyTorch's own, and not made of others."""
    return type(module).__module__.startswith("torch.nn.") and not isinstance(module, MADE_OF_OTHERS)


class Tracer(TorchFunctionMode):
    """Notes the steps of a forward pass."""

    def __init__(self, root: nn.Module, batch: int) -> None:
        super().__init__()
        self.root, self.batch = root, batch
        self.steps: list[Step] = []
        self.paths = {id(module): path for path, module in root.named_modules()}
        self.stack: list[str] = []
        self._known: dict[int, Any] = {}
        self._held: list[Any] = []
        self._varying: set[int] = set()
        self._inside = False
        for name, tensor in [*root.named_parameters(), *root.named_buffers()]:
            self._known[id(tensor)] = Parameter(name)

    # -- values ------------------------------------------------------------------------------------------------

    def know(self, tensor: torch.Tensor, value: Any) -> None:
        """From now on a tensor stands for a value; it is kept, since an id is only sure while its tensor lives."""
        self._known[id(tensor)] = value
        self._held.append(tensor)

    def leaf(self, value: Any) -> Any:
        """What a program has in the place of an argument."""
        if isinstance(value, torch.Tensor):
            if id(value) not in self._known:
                self.know(value, Constant(value.detach().cpu().numpy().copy()))
            return self._known[id(value)]
        if isinstance(value, torch.dtype | torch.device):
            return str(value)
        if isinstance(value, slice):
            return slice(*(self.leaf(end) for end in (value.start, value.stop, value.step)))
        if isinstance(value, np.ndarray):
            return Constant(value.copy())
        return value.item() if isinstance(value, np.generic) else value

    def tree(self, tree: Any) -> Any:
        """A tree of arguments as a program has it: packed sequences as their data."""
        if isinstance(tree, rnn.PackedSequence):
            return self.leaf(tree.data)
        if isinstance(tree, Mapping):
            return {str(name): self.tree(value) for name, value in tree.items()}
        if isinstance(tree, torch.Size):
            return tuple(tree)
        if isinstance(tree, list | tuple):
            return type(tree)(map(self.tree, tree)) if type(tree) in (list, tuple) else tuple(map(self.tree, tree))
        return self.leaf(tree)

    def tensors(self) -> list[torch.Tensor]:
        """All tensors that stand for a value."""
        return [held for held in self._held if isinstance(held, torch.Tensor)]

    def varies(self, value: Any) -> bool:
        """Whether a value follows from the inputs or from parameters."""
        return isinstance(value, Parameter) or (isinstance(value, Value) and value.step in self._varying)

    def add(self, step: Step, result: Any, varying: bool) -> None:
        """Note a step and what it gave."""
        number = len(self.steps)
        if varying:
            self._varying.add(number)
        flat = [leaf for leaf in tree_leaves(_unpacked(result)) if isinstance(leaf, torch.Tensor)]
        for output, tensor in enumerate(flat):
            self.know(tensor, Value(number, output))
            step.shapes.append(tuple(tensor.shape))
            step.dtypes.append(str(tensor.dtype).removeprefix("torch."))
            step.constants.append(None if varying else tensor.detach().cpu().numpy().copy())
        self.steps.append(step)

    def place(self) -> Place:
        """Where the user's code is at work."""
        site = users_site(3)
        module = f"{self.stack[-1] or 'the module itself'}" if self.stack else ""
        if site is None:
            return Place(module)
        source = source_of(site)
        return Place(module, source.file.rpartition("/")[2], source.line, source.text)

    # -- functions ---------------------------------------------------------------------------------------------

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = kwargs or {}
        if self._inside:
            return function(*args, **options)
        name = getattr(function, "__name__", "?")
        if name in ("__get__", "__set__"):
            name = getattr(function.__self__, "__name__", name)
        caller = sys._getframe(1).f_code
        if caller in SORTING or (caller in PACKING and name not in ("_pack_padded_sequence", "_pad_packed_sequence")):
            return self._sorted(function, name, args, options)
        if name in NUMBERS:
            self._number(name, args)
        return self._function(function, name, args, options)

    def _sorted(self, function: Any, name: str, args: Any, options: Any) -> Any:
        """Packing sorts by length and unsorts afterwards: what it sorts stands for what it was."""
        result = function(*args, **options)
        first = args[0] if args and isinstance(args[0], torch.Tensor) else None
        if first is not None and name in ("sort", "index_select", "to", "__getitem__", "cpu"):
            tensor = result[0] if isinstance(result, tuple) else result
            self.know(tensor, self.leaf(first))
        return result

    def _number(self, name: str, args: Any) -> None:
        value = self.leaf(args[0])
        if self.varies(value):
            made = "the values of an input or a weight decide what is computed, or are taken out as Python's numbers"
            raise InputError(
                f"{self.place()}: {made} ({name.strip('_')}); Keras's graph cannot follow that: write it with tensors "
                "(torch.where, a mask, an index)"
            )

    def _function(self, function: Any, name: str, args: Any, options: Any) -> Any:
        arguments, keywords = self.tree(tuple(args)), self.tree(dict(options))
        if name == "_pad_packed_sequence":  # its second argument follows from the lengths
            arguments = (arguments[0], None, *arguments[2:])
        result = function(*args, **options)
        if name in SAME and args and isinstance(result, torch.Tensor):
            self.know(result, self.leaf(args[0]))
            return result
        outputs = [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        if name == "__setitem__" or (name.endswith("_") and not name.startswith("__") and args):
            outputs = [args[0]]
        if not outputs:
            return result
        if name == "_pack_padded_sequence":
            outputs = outputs[:1]
        given = [leaf for leaf in tree_leaves([arguments, keywords]) if isinstance(leaf, Parameter | Value)]
        varying = name not in BY_SHAPE and any(map(self.varies, given))
        step = Step(name, arguments, keywords, place=self.place())
        self.add(step, outputs, varying)
        if name == "_pad_packed_sequence":
            self.know(outputs[1], Value(len(self.steps) - 1, 1))
        return result

    # -- modules -----------------------------------------------------------------------------------------------

    def module(self, original: Any, module: nn.Module, args: Any, options: Any) -> Any:
        """A module's call: one step, or those of its parts."""
        path = self.paths.get(id(module), type(module).__name__)
        if self._inside:
            return original(module, *args, **options)
        if not is_unit(module):
            self.stack.append(path)
            try:
                return original(module, *args, **options)
            finally:
                self.stack.pop()
        place = self.place()
        arguments, keywords = self.tree(tuple(args)), self.tree(dict(options))
        self._inside = True
        try:
            result = original(module, *args, **options)
        finally:
            self._inside = False
        config = {**config_of(module), "training": module.training}
        step = Step(type(module).__name__, arguments, keywords, path, config, place=place)
        given = [leaf for leaf in tree_leaves([arguments, keywords]) if isinstance(leaf, Parameter | Value)]
        varying = any(map(self.varies, given)) or bool(list(module.parameters()))
        self.add(step, result, varying)
        return result


def _unpacked(result: Any) -> Any:
    """What a module returned, packed sequences as their data alone."""
    if isinstance(result, rnn.PackedSequence):
        return result.data
    if isinstance(result, tuple | list):
        return [_unpacked(each) for each in result]
    return result


@contextmanager
def tracing(tracer: Tracer) -> Iterator[None]:
    """Every call of a module goes by the tracer."""
    original = nn.Module.__call__

    def call(module: nn.Module, *args: Any, **options: Any) -> Any:
        return tracer.module(original, module, args, options)

    with mock.patch.object(nn.Module, "__call__", call), tracer:
        yield


def trace(module: nn.Module, inputs: Sequence[np.ndarray], batch: int, training: bool = True) -> Program:
    """The steps of `module(*inputs)`; the module itself stays as it is. Raises InputError with the user's line."""
    copy = deepcopy(module).train(training)
    tensors = [torch.tensor(array) for array in inputs]
    program = trace_call(copy, lambda: copy(*tensors), tensors, batch)
    # As they were before the forward pass, which may have moved running statistics.
    program.parameters.update(_arrays(module))
    program.frozen = frozenset(name for name, tensor in module.named_parameters() if not tensor.requires_grad)
    program.names = tuple(signature(module.forward).parameters)
    program.tied = _tied(module)
    return program


def trace_call(root: nn.Module, call: Callable[[], Any], inputs: Sequence[torch.Tensor], batch: int) -> Program:
    """The steps of a call that takes some tensors; parameters are those of `root`."""
    tracer = Tracer(root, batch)
    for number, tensor in enumerate(inputs):
        tracer.add(Step("input", (number,)), tensor, varying=True)
    with tracing(tracer), torch.random.fork_rng(devices=[]):
        result = call()
    buffers = frozenset(name for name, _ in root.named_buffers(remove_duplicate=False))
    return Program(tracer.steps, len(inputs), tracer.tree(_outputs(result)), batch, _arrays(root), buffers=buffers)


def _arrays(module: nn.Module) -> dict[str, np.ndarray]:
    named = [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in named}


def _tied(module: nn.Module) -> dict[str, str]:
    first: dict[int, str] = {}
    names = [
        (name, first.setdefault(id(tensor), name)) for name, tensor in module.named_parameters(remove_duplicate=False)
    ]
    return {name: other for name, other in names if name != other}


def _outputs(result: Any) -> Any:
    """What a module returned; raises InputError where there is no tensor in it, or what no model returns."""
    leaves = tree_leaves(result)
    if not any(isinstance(leaf, torch.Tensor) for leaf in leaves):
        raise InputError(f"forward() returned {type(result).__name__}, which has no tensor in it")
    return tree_map(lambda leaf: leaf if isinstance(leaf, torch.Tensor) else None, _dict_of(result))


def _dict_of(result: Any) -> Any:
    """A data class or an object of tensors (as transformers' outputs are) as the dict of its fields."""
    return dict(vars(result)) if hasattr(result, "__dataclass_fields__") else result
