"""What of torch and of the user's side is watched while a training runs; each is put back as it was."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import nn

from compare.errors import InputError
from compare.explain.source import Site, users_site
from compare.explain.torch_observer import tf32

CLIPPING = ("clip_grad_norm_", "clip_grad_value_")


@contextlib.contextmanager
def watching_clipping(calls: list[dict[str, Any]], left_out: bool) -> Iterator[None]:
    """Note what clips gradients; `left_out` makes it do nothing."""

    def watched(name: str) -> Callable[..., Any]:
        original = getattr(nn.utils, name)

        def clip(parameters: Any, *args: Any, **options: Any) -> Any:
            limit = options.get("max_norm", options.get("clip_value", args[0] if args else float("nan")))
            calls.append({"function": name, "limit": float(limit), "site": users_site(2)})
            return torch.tensor(0.0) if left_out else original(parameters, *args, **options)

        return clip

    with contextlib.ExitStack() as stack:
        for name in CLIPPING:
            stack.enter_context(mock.patch.object(nn.utils, name, watched(name)))
        yield


def leaving_out(flags: frozenset[str], recording: Callable[[], bool], detached: list[Site]) -> contextlib.ExitStack:
    """Leave out what a setup's flags name: autocast, TF32, and no_grad while a forward pass is recorded.

    `detached` gets the user's lines with no_grad in a forward pass.
    """
    stack = contextlib.ExitStack()
    if "keep_gradient" in flags:
        enter = torch.no_grad.__enter__

        def entered(context: Any) -> None:
            enter(context)
            if recording():
                detached.extend([site] if (site := users_site(2)) is not None else [])
                torch.set_grad_enabled(context.prev)

        stack.enter_context(mock.patch.object(torch.no_grad, "__enter__", entered))
    if "no_autocast" in flags:
        original = torch.autocast.__init__

        def disabled(context: Any, *args: Any, **kwargs: Any) -> None:
            original(context, *args, **{**kwargs, "enabled": False})

        stack.enter_context(mock.patch.object(torch.autocast, "__init__", disabled))
    if "no_tf32" in flags:
        stack.enter_context(tf32.without())
    return stack


def checked(returned: Any) -> Any:
    """What torch_side() returned; raises TypeError where it is not (nn.Module, loss function, torch optimizer)."""
    wanted = "return (nn.Module, loss function, torch optimizer)"
    if not isinstance(returned, tuple | list) or len(returned) != 3:
        raise TypeError(f"torch_side() returned {type(returned).__name__}; {wanted}")
    kinds = ((nn.Module, "nn.Module"), (Callable, "function"), (torch.optim.Optimizer, "torch optimizer"))
    for value, (kind, name) in zip(returned, kinds, strict=True):
        if not isinstance(value, kind):
            raise TypeError(f"torch_side() returned {type(value).__name__} where a {name} is due; {wanted}")
    if isinstance(returned[2], torch.optim.LBFGS):
        raise InputError("torch_side() returned LBFGS, which computes several losses a step; Keras has no such rule")
    return returned


def tensor_of(value: np.ndarray, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """An array as a tensor, floats of a type, whole numbers as int64."""
    tensor = torch.from_numpy(np.ascontiguousarray(value))
    if tensor.is_floating_point():
        return tensor.to(dtype)
    return tensor if tensor.dtype == torch.bool else tensor.long()
