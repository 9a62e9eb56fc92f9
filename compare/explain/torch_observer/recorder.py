"""Every PyTorch function that is called, with its inputs by reference, its values and the user's line; it only looks.

Both sides are observed by it: the user's module, and the Keras model where Keras computes with PyTorch.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from compare.explain.source import Site, users_site

# The name of a leaf or the number of an operation, and which of its outputs.
Key = tuple[Any, int]

DROPOUTS = ("dropout", "dropout_", "dropout1d", "feature_dropout", "alpha_dropout", "feature_alpha_dropout")
# Attention that drops inside: where the rate stands among the arguments.
ATTENTION = {"multi_head_attention_forward": 10, "scaled_dot_product_attention": 4}
FUSED = ("lstm", "gru", "rnn_tanh", "rnn_relu")
# They give what they are given, or nothing that is computed with.
PASSED = {
    "grad",
    "data",
    "requires_grad",
    "is_leaf",
    "detach",
    "requires_grad_",
    "numpy",
    "cpu",
    "zero_",
    "retain_grad",
    "__get__",
    "cuda",
    "set_",
}
DEPTH = 14


@dataclass(frozen=True)
class Argument:
    """A tensor among an operation's arguments: where it comes from and its shape."""

    key: Key
    shape: tuple[int, ...]
    dtype: torch.dtype


@dataclass
class Operation:
    """One call: arguments with tensors as `Argument`, the values it gave, the user's call site."""

    number: int
    name: str
    function: Any
    arguments: Any
    options: Any
    inputs: list[Key]
    site: Site | None
    where: Any
    stack: int = 0
    outputs: list[np.ndarray] = field(default_factory=list)

    @property
    def place(self) -> Any:
        """What is the same in every round of a loop; the number where no line of the user's is known."""
        return (self.site, self.name) if self.site is not None else self.number


@dataclass(frozen=True)
class DropoutCall:
    """One dropout: what it was given, its rate, and whether it was at work."""

    value: np.ndarray | None
    shape: tuple[int, ...]
    rate: float
    active: bool
    site: Site | None
    kind: str
    where: Any = None


Patch = Callable[["Recorder", Operation, Any, Any, Any], Any]


class Recorder(TorchFunctionMode):
    """Records the operations up to `backward`; `patches` by place or number give other results (counterfactuals).

    Dropout is the identity and is noted. `noise` rounds every result at random (Monte Carlo arithmetic); `kernel`
    computes fused kernels by themselves, so that they are rounded inside. `scale` is what the user multiplies the loss
    by for the sum of several backward passes; `loss_value` is the loss without it.
    """

    def __init__(
        self,
        leaves: Mapping[str, torch.Tensor],
        patches: Mapping[Any, Patch] | None = None,
        where: Callable[[], Any] = lambda: None,
        backward: Callable[["Recorder", torch.Tensor, Callable[[torch.Tensor], Any]], Any] | None = None,
        values: bool = True,
        noise: np.random.Generator | None = None,
        stacks: bool = False,
        kernel: Callable[[str, Any, Callable[[torch.Tensor], torch.Tensor]], Any] | None = None,
        attached: bool = False,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.patches, self.where, self.backward = dict(patches or {}), where, backward
        self.values, self.noise, self.stacks, self.kernel = values, noise, stacks, kernel
        self.attached, self.scale = attached, scale
        self.detached: list[Site] = []
        # Where nothing is asked of single operations they are not noted.
        self.light = not values and not self.patches
        self.operations: list[Operation] = []
        self.dropouts: list[DropoutCall] = []
        self.live: dict[Key, torch.Tensor] = {}
        self.on = True
        self.loss: Key | None = None
        self.loss_value = float("nan")
        self._known: dict[int, Key] = {}
        self._held: list[torch.Tensor] = []
        for name, tensor in leaves.items():
            self._know(tensor, (name, 0))

    def _know(self, tensor: torch.Tensor, key: Key) -> None:
        self._known[id(tensor)] = key
        self._held.append(tensor)  # an id is only sure while its tensor lives
        self.live[key] = tensor

    def key_of(self, tensor: torch.Tensor) -> Key:
        """Where a tensor comes from."""
        return self._known.get(id(tensor), (None, 0))

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = kwargs or {}
        name = getattr(function, "__name__", "?")
        if name == "__get__":
            name = getattr(function.__self__, "__name__", name)
        if name == "backward" and (self.on or self.backward is not None):
            return self._begin_backward(function, args, options)
        if not self.on:
            return self._unrecorded(function, name, args, options)
        return self._call(function, name, args, options)

    def _begin_backward(self, function: Any, args: Any, options: Any) -> Any:
        loss = args[0]
        if "loss" in self.patches:
            loss = self.patches["loss"](self, None, args, options, loss)
        if self.on:
            self.loss, self.loss_value = self.key_of(args[0]), float(loss.detach()) / self.scale
        else:  # the step's loss is the sum of all that are differentiated in it
            self.loss_value += float(loss.detach()) / self.scale
        self.on = False

        def call(tensor: torch.Tensor) -> Any:
            return function(tensor, *args[1:], **options)

        return call(loss) if self.backward is None else self.backward(self, loss, call)

    def finish(self, loss: torch.Tensor) -> torch.Tensor:
        """Note a loss that nobody differentiates."""
        if "loss" in self.patches:
            loss = self.patches["loss"](self, None, (), {}, loss)
        self.loss, self.loss_value, self.on = self.key_of(loss), float(loss.detach()), False
        return loss

    def _unrecorded(self, function: Any, name: str, args: Any, options: Any) -> Any:
        """After the first backward pass dropout alone is left out."""
        if name in DROPOUTS:
            return args[0].clone()
        noted = len(self.dropouts)
        args, options = self._undropped(name, args, options)
        del self.dropouts[noted:]
        return function(*args, **options)

    def _undropped(self, name: str, args: Any, options: Any) -> tuple[Any, Any]:
        """The arguments of what drops inside without that."""
        if name in FUSED:
            return self._without_dropout(args), options
        return self._without_attention_dropout(name, args, options) if name in ATTENTION else (args, options)

    def _call(self, function: Any, name: str, args: Any, options: Any) -> Any:
        tensors_in = [tensor for tensor in tree_leaves((args, options)) if isinstance(tensor, torch.Tensor)]
        detaches = self.attached and name in ("detach", "detach_", "data")
        if detaches and tensors_in and tensors_in[0].grad_fn is not None:
            self.detached += [site] if (site := users_site(3)) is not None else []
            return tensors_in[0]
        if name in DROPOUTS:
            return self._dropout(name, args, options)
        args, options = self._undropped(name, args, options)
        if self.light:
            result = self._computed(function, name, args, options)
            if self.noise is not None and name not in PASSED:
                result = tree_map(lambda value: self._rounded(value, tensors_in), result)
            return result
        operation = Operation(
            len(self.operations),
            name,
            shape_checked(function) if name in FUSED else function,
            tree_map(self._described, args),
            tree_map(self._described, options),
            [self.key_of(tensor) for tensor in tensors_in],
            users_site(3),
            self.where(),
        )
        result = self._computed(function, name, args, options)
        tensors = [tensor for tensor in tree_leaves(result) if isinstance(tensor, torch.Tensor)]
        if name in PASSED or not tensors:
            for tensor in tensors:
                if operation.inputs:
                    self._known[id(tensor)] = operation.inputs[0]
                    self._held.append(tensor)
            return result
        if self.stacks:
            operation.stack = _stack()
        for place in dict.fromkeys((operation.number, operation.place)):
            if place in self.patches:
                result = self.patches[place](self, operation, args, options, result)
        if self.noise is not None:
            result = tree_map(lambda value: self._rounded(value, tensors_in), result)
        self.operations.append(operation)
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self._know(tensor, (operation.number, len(operation.outputs)))
                operation.outputs.append(array(tensor) if self.values else np.empty(0))
        return result

    def _computed(self, function: Any, name: str, args: Any, options: Any) -> Any:
        if self.kernel is not None and name in FUSED and not is_packed(args):
            # Rounded at random inside too, timestep by timestep.
            return self.kernel(name, args, lambda value: self._rounded(value, []))
        return function(*args, **options)

    def _described(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return Argument(self.key_of(value), tuple(value.shape), value.dtype)
        return value

    def _dropout(self, name: str, args: Any, options: Any) -> Any:
        rate = float(options.get("p", args[1] if len(args) > 1 else 0.5))
        active = bool(options.get("training", args[2] if len(args) > 2 else True))
        shape = tuple(args[0].shape)
        if name in ("dropout1d", "feature_dropout") and len(shape) > 2:
            shape = (*shape[:2], *(1 for _ in shape[2:]))
        self.dropouts.append(DropoutCall(array(args[0]), shape, rate, active, users_site(4), name, self.where()))
        copy = args[0].clone()
        self._known[id(copy)] = self.key_of(args[0])
        self._held.append(copy)
        return copy

    def _without_dropout(self, args: Any) -> Any:
        """A fused kernel's arguments without the dropout between its layers, which is noted."""
        place = next((i for i, value in enumerate(args) if isinstance(value, float)), None)
        if place is None or not args[place]:
            return args
        x, states = (
            args[0],
            next(value for value in args[1:3] if isinstance(value, tuple | list) or value.is_floating_point()),
        )
        state = states if isinstance(states, torch.Tensor) else states[0]
        shape = (*x.shape[:-1], state.shape[-1] * (2 if args[place + 2] else 1))
        for _ in range(int(args[place - 1]) - 1):
            rate, active = float(args[place]), bool(args[place + 1])
            call = DropoutCall(None, shape, rate, active, users_site(5), "between layers", self.where())
            self.dropouts.append(call)
        return (*args[:place], 0.0, *args[place + 1 :])

    def _without_attention_dropout(self, name: str, args: Any, options: Any) -> tuple[Any, Any]:
        """Attention without the dropout of its weights, which is noted."""
        place = ATTENTION[name]
        rate = float(options.get("dropout_p", args[place] if len(args) > place else 0.0))
        if not rate:
            return args, options
        query, key = (
            options.get(which, args[i] if len(args) > i else None) for i, which in enumerate(("query", "key"))
        )
        shape = (*query.shape[:-1], key.shape[-2])
        if name == "multi_head_attention_forward":  # (timesteps, batch, size)
            heads = int(options.get("num_heads", args[4] if len(args) > 4 else 1))
            shape = (*query.shape[1:-1], heads, query.shape[0], key.shape[0])
        active = bool(options.get("training", True))
        self.dropouts.append(DropoutCall(None, shape, rate, active, users_site(5), "attention", self.where()))
        if len(args) > place:
            return (*args[:place], 0.0, *args[place + 1 :]), options
        return args, {**options, "dropout_p": 0.0}

    def _rounded(self, value: Any, inputs: list[torch.Tensor]) -> Any:
        if self.noise is None or not isinstance(value, torch.Tensor):
            return value
        if not value.is_floating_point() or not value.requires_grad:
            return value
        storages = {tensor.untyped_storage().data_ptr() for tensor in inputs}
        if value.untyped_storage().data_ptr() in storages:  # a view, or in place: nothing was rounded
            return value
        # Half precision is no rounding of the comparison: what it does is a difference.
        unit = min(torch.finfo(value.dtype).eps, torch.finfo(torch.float32).eps) / 2
        signs = torch.from_numpy(self.noise.integers(-1, 2, tuple(value.shape)).astype(np.float32))
        return value * (1 + 2 * unit * signs.to(value.dtype))


def shape_checked(kernel: Callable[..., Any]) -> Callable[..., Any]:
    """A fused kernel that raises ValueError for shapes that do not fit; by itself it corrupts memory, silently."""

    def call(*args: Any) -> Any:
        x = args[0]
        if is_packed(args):
            _, sizes, states, weights, _, layers, _, _, both = args
            batch, dimensions = int(sizes[0]), 2
        else:
            _, states, weights, _, layers, _, _, both, first = args
            batch, dimensions = x.shape[0 if first else 1], 3
        if x.dim() != dimensions:
            raise ValueError(f"inputs of shape {tuple(x.shape)}")
        several = [states] if torch.is_tensor(states) else list(states)
        expected = (layers * (2 if both else 1), batch)
        widths = [weights[1].shape[1], weights[0].shape[0] // 4]
        for state, width in zip(several, widths, strict=False):
            if tuple(state.shape) != (*expected, width):
                raise ValueError(f"a state of shape {tuple(state.shape)}, for {(*expected, width)}")
        if x.shape[-1] != weights[0].shape[1]:
            raise ValueError(f"inputs of {x.shape[-1]} features, for {weights[0].shape[1]}")
        return kernel(*args)

    return call


def is_packed(args: Any) -> bool:
    """Whether a fused kernel is called with a packed sequence: data, batch sizes, states, weights."""
    return not isinstance(args[1], list | tuple) and not args[1].dtype.is_floating_point


def _stack() -> int:
    frame = sys._getframe(4)
    sites: list[tuple[int, int]] = []
    while frame is not None and len(sites) < DEPTH:
        sites.append((id(frame.f_code), frame.f_lasti))
        frame = frame.f_back  # type: ignore[assignment]
    return hash(tuple(sites))


def array(tensor: torch.Tensor) -> np.ndarray:
    """The numbers of a tensor now, half precision as float32."""
    tensor = tensor.detach()
    if tensor.is_sparse:
        tensor = tensor.to_dense()
    if tensor.dtype in (torch.bfloat16, torch.float16):
        tensor = tensor.float()
    return tensor.cpu().numpy().copy()
