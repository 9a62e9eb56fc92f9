"""Keras's own dropout, watched while a session is at work; torch_observer/interception.py is its mirror."""

import contextlib
from collections.abc import Iterator
from typing import Any

from keras.src import backend

from compare.explain.keras_observer import tf32

_current: list[Any] = []
_original: dict[str, Any] = {}


@contextlib.contextmanager
def observing(session: Any) -> Iterator[None]:
    """Let a session see what is called within."""
    _current.append(session)
    try:
        with tf32.without() if session.changes.no_tf32 else contextlib.nullcontext():
            yield
    finally:
        _current.pop()


def install() -> None:
    """Put a watched dropout in the place of Keras's, once; without a session at work it does as before."""
    if not _original:
        _original["dropout"] = backend.random.dropout
        backend.random.dropout = _dropout


def _dropout(inputs: Any, rate: float, noise_shape: Any = None, seed: Any = None) -> Any:
    if _current:
        return _current[-1].layers.dropout(inputs, rate, noise_shape)
    return _original["dropout"](inputs, rate, noise_shape=noise_shape, seed=seed)
