"""Where in the user's source modules, optimizers and schedulers are made, and parameters are frozen."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from compare.explain.source import Site, users_site

Sites = dict[int, Site | None]


@contextlib.contextmanager
def noting_construction(sites: Sites) -> Iterator[None]:
    """Note the user's line that makes a module, an optimizer or a scheduler, and the last that freezes a tensor.

    `sites` has them by id; a class of the user's is made where it is called, not where its `super().__init__()` stands.
    """
    kinds = (nn.Module, torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler)
    with contextlib.ExitStack() as stack:
        for kind in kinds:
            stack.enter_context(mock.patch.object(kind, "__init__", _noted(kind.__init__, sites)))
        yield


def _noted(original: Callable[..., None], sites: Sites) -> Callable[..., None]:
    def init(instance: Any, *args: Any, **kwargs: Any) -> None:
        original(instance, *args, **kwargs)
        depth, frame = 1, sys._getframe(1)
        while frame.f_code.co_name == "__init__" and _receiver(frame) is instance and frame.f_back is not None:
            depth, frame = depth + 1, frame.f_back
        sites[id(instance)] = users_site(depth + 1)

    return init


def _receiver(frame: Any) -> Any:
    names = frame.f_code.co_varnames
    return frame.f_locals.get(names[0]) if names else None


class Freezing(TorchFunctionMode):
    """Notes where `requires_grad_()` or `requires_grad = …` is said of a tensor, by its id."""

    def __init__(self, sites: Sites) -> None:
        super().__init__()
        self.sites = sites

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(function, "__name__", "")
        owner = getattr(getattr(function, "__self__", None), "__name__", "")
        if args and (name == "requires_grad_" or (name, owner) == ("__set__", "requires_grad")):
            self.sites[id(args[0])] = users_site(2)
        return function(*args, **(kwargs or {}))
