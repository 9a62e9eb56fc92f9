"""Counterfactuals on the Keras side; torch_observer/counterfactuals.py is its mirror.

Each changes exactly one thing of a session before its first step.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from compare.explain.keras_observer.description import loss_of
from compare.explain.keras_observer.session import Session


def apply(session: Session, changes: Sequence[Mapping[str, Any]]) -> None:
    """Make changes, given as dicts with the name as "change"; raises KeyError for an unknown one."""
    for change in changes:
        options = {name: value for name, value in change.items() if name != "change"}
        CHANGES[change["change"]](session, **options)


def _activation(session: Session, key: str, attribute: str, name: str) -> None:
    setattr(session.observed.parts[key].layer.cell, attribute, keras.activations.get(name))


def _flag(name: str) -> Any:
    def change(session: Session) -> None:
        setattr(session.changes, name, True)

    return change


def _zero(session: Session, key: str, tensor: str) -> None:
    session.changes.zeroed.add((key, tensor))


def _dropout_off(session: Session) -> None:
    session.changes.dropout = "off"


def _from_logits(session: Session, value: bool) -> None:
    loss = session.model.loss
    if isinstance(loss, str):
        loss = keras.losses.get(loss)
    if not isinstance(loss, keras.losses.Loss):
        classes = {"binary_crossentropy": "BinaryCrossentropy", "categorical_crossentropy": "CategoricalCrossentropy"}
        classes |= {"sparse_categorical_crossentropy": "SparseCategoricalCrossentropy"}
        loss = getattr(keras.losses, classes[str(loss_of(session.model)["name"])])()
    new = type(loss).from_config({**loss.get_config(), "from_logits": value})
    session.model.compile(optimizer=session.optimizer, loss=new)


CHANGES: dict[str, Any] = {
    "activation": _activation,
    "no_tf32": _flag("no_tf32"),
    "reset_state": _flag("reset_state"),
    "zero": _zero,
    "dropout_off": _dropout_off,
    "from_logits": _from_logits,
}
