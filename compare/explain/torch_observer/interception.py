"""PyTorch's own functions, watched while a session is at work; keras_observer/interception.py is its mirror."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from compare.explain.torch_observer import tf32

_current: list[Any] = []
_original: dict[str, Any] = {}


@contextlib.contextmanager
def observing(session: Any) -> Iterator[None]:
    """Let a session see what is called within."""
    _current.append(session)
    try:
        with (
            _KeepGradient() if session.changes.keep_gradient else contextlib.nullcontext(),
            tf32.without() if session.changes.no_tf32 else contextlib.nullcontext(),
        ):
            yield
    finally:
        _current.pop()


class _KeepGradient(TorchFunctionMode):
    """Leaves out `detach` and `.data`, so that gradients go on where a user's code cuts them."""

    def __torch_function__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        cuts = (torch.Tensor.detach, torch.Tensor.data.__get__, torch.detach)
        if function in cuts and _current and _current[-1].observed.before_backward:
            tensor = arguments[0]
            if isinstance(tensor, torch.Tensor) and tensor.grad_fn is not None:
                return tensor
        return function(*arguments, **(options or {}))


def install() -> None:
    """Put watched functions in the places of PyTorch's, once; without a session at work they do as before."""
    if _original:
        return
    _original["dropout"] = torch.nn.functional.dropout
    _original["backward"] = torch.Tensor.backward
    _original["no_grad"] = torch.no_grad.__enter__
    _original["autocast"] = torch.autocast.__init__
    torch.nn.functional.dropout = _dropout
    torch.Tensor.backward = _backward
    torch.no_grad.__enter__ = _enter_no_grad
    torch.autocast.__init__ = _autocast
    for name in ("clip_grad_norm_", "clip_grad_value_"):
        _original[name] = getattr(torch.nn.utils, name)
        watched = _clipping(name)
        setattr(torch.nn.utils, name, watched)
        setattr(torch.nn.utils.clip_grad, name, watched)


def _dropout(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    if _current:
        return _current[-1].layers.dropout(input, p, training)
    return _original["dropout"](input, p, training, inplace)


def _backward(self: Any, *arguments: Any, **options: Any) -> None:
    if not _current:
        return _original["backward"](self, *arguments, **options)
    session = _current[-1]
    with torch.enable_grad():
        loss = session.loss.differentiated(self)
    _original["backward"](loss, *arguments, **options)
    session.updates.backward_ended()
    return None


def _enter_no_grad(self: Any) -> None:
    _original["no_grad"](self)
    # Only before the gradients are computed: what updates weights must not be differentiated.
    if _current and _current[-1].changes.keep_gradient and _current[-1].observed.before_backward:
        torch.set_grad_enabled(self.prev)


def _autocast(self: Any, *arguments: Any, **options: Any) -> None:
    if _current:
        _current[-1].observed.autocast = True
        if _current[-1].changes.no_autocast:
            options["enabled"] = False
    _original["autocast"](self, *arguments, **options)


def _clipping(name: str) -> Any:
    def clip(parameters: Any, limit: float, *arguments: Any, **options: Any) -> Any:
        if not _current:
            return _original[name](parameters, limit, *arguments, **options)
        session = _current[-1]
        session.observed.clip_calls.append({"function": name, "limit": float(limit)})
        parameters = [parameters] if isinstance(parameters, torch.Tensor) else list(parameters)
        if session.changes.clip is not None:
            return torch.tensor(0.0)
        return _original[name](parameters, limit, *arguments, **options)

    return clip
