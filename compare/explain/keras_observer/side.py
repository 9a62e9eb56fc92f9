"""What the Keras side of a pair does when asked; `compare/explain/torch_observer/side.py` is its mirror."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from compare.explain.keras_observer import changes as counterfactuals
from compare.explain.keras_observer import tf32
from compare.explain.keras_observer.parts import clipping_of, loss_of, rule_of, settings
from compare.explain.keras_observer.session import Session


class Side:
    """Keeps a user's `keras_side` and its data; every run starts from the beginning with a model of its own.

    Raises TypeError where what is returned is not a compiled keras.Model.
    """

    def __init__(self, make: Callable[[], Any], options: Mapping[str, Any]) -> None:
        self.make, self.options = make, options
        self.described: Session | None = None

    def _checked(self) -> Any:
        model = self.make()
        if not isinstance(model, keras.Model):
            raise TypeError(f"keras_side() returned {type(model).__name__}; return a compiled keras.Model")
        if not model.compiled or model.optimizer is None:
            raise TypeError("keras_side() returned a model that is not compiled; call model.compile(optimizer, loss)")
        return model

    def session(self, inputs: np.ndarray, dropout: str) -> Session:
        """Start anew."""
        keras.backend.clear_session()
        # Else Keras cuts its own frames out of a traceback, and what it refuses seems to be refused here.
        keras.config.disable_traceback_filtering()
        return Session(self._checked, int(self.options.get("seed") or 0), inputs, dropout)

    def describe(self, inputs: np.ndarray, targets: np.ndarray) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Say what the model is, and return its initial weights; dropout is off."""
        session = self.described = self.session(inputs, "off")
        weights = session.weights()
        record = session.step(inputs, targets)
        model, optimizer = session.model, session.optimizer
        described = {
            "parts": [
                {
                    "key": key,
                    "kind": session.parts[key].kind,
                    "direction": session.parts[key].direction,
                    "group": getattr(session.parts[key].wrapper, "name", key),
                    "shapes": {name: list(v.shape) for name, v in session.parts[key].tensors.items()},
                    "variables": {
                        name: f"{session.parts[key].layer.name}/{v.name}"
                        for name, v in session.parts[key].tensors.items()
                    },
                    **settings(session.parts[key]),
                }
                for key in session.called
            ],
            "unused": [key for key in session.parts if key not in session.called],
            "unknown": _unknown(session),
            "optimizer": type(optimizer).__name__,
            "rule": rule_of(optimizer),
            "scheduled": bool(callable(getattr(optimizer, "_learning_rate", None))),
            "clip": clipping_of(optimizer),
            "loss": loss_of(model),
            "dropout_calls": session.dropout_calls,
            "masks": [name.removeprefix("mask/") for name in record if name.startswith("mask/")],
            "prediction_shape": list(record["prediction"].shape),
            "versions": {"keras": keras.__version__},
            "backend": keras.backend.backend(),
            "tf32": tf32.in_use(),
        }
        return described, weights | {f"probe/{name}": value for name, value in record.items()}

    def run(
        self,
        weights: Mapping[str, np.ndarray],
        batches: Sequence[tuple[np.ndarray, np.ndarray]],
        changes: Sequence[Mapping[str, Any]],
        recorded: Sequence[int],
        dropout: str,
    ) -> dict[str, np.ndarray]:
        """Train on the batches from given weights; the recorded steps are kept whole, of the others the loss."""
        if self.described is not None and not changes and dropout == "off":
            session, self.described = self.described, None  # what it has compiled is used again
            session.restart()
        else:
            session = self.session(batches[0][0], dropout)
        counterfactuals.apply(session, changes)
        session.load(weights)
        found: dict[str, np.ndarray] = {}
        losses, rates = [], []
        for number, (x, y) in enumerate(batches):
            record = session.step(x, y)
            losses.append(record["loss"])
            rates.append(record["learning_rate"])
            found |= {f"mask:{number}": value for name, value in record.items() if name.startswith("mask/")}
            if number in recorded:
                found |= {f"{number}/{name}": value for name, value in record.items()}
        found["losses"], found["learning_rates"] = np.array(losses, np.float64), np.array(rates, np.float64)
        return found | {f"end/{name}": value for name, value in session.evaluate(batches[0][0]).items()}

    def state(self, weights: Mapping[str, np.ndarray], inputs: np.ndarray) -> dict[str, np.ndarray]:
        """Return the model's weights, in its own order, with weights loaded."""
        session = self.session(inputs, "off")
        session.load(weights)
        return {f"keras/{number}": np.array(variable) for number, variable in enumerate(session.model.weights)}


def _unknown(session: Session) -> list[str]:
    known = {id(v) for part in session.parts.values() for v in part.tensors.values()}
    return [variable.path for variable in session.model.trainable_variables if id(variable) not in known]
