"""What the Keras side of a pair file does when asked; torch_observer/side.py is its mirror."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from compare.explain.keras_observer import counterfactuals
from compare.explain.keras_observer.description import describe
from compare.explain.keras_observer.session import Session
from compare.explain.observer import Batch, Facts, Observer, Tensors


class Side(Observer):
    """Keeps a user's `keras_side`; every run starts from the beginning with a model of its own.

    Raises TypeError where what is returned is not a compiled keras.Model.
    """

    def __init__(self, make: Callable[[], Any], options: Mapping[str, Any]) -> None:
        self.make, self.options = make, options
        self._described: Session | None = None

    def _checked(self) -> Any:
        model = self.make()
        if not isinstance(model, keras.Model):
            raise TypeError(f"keras_side() returned {type(model).__name__}; return a compiled keras.Model")
        if not model.compiled or model.optimizer is None:
            raise TypeError("keras_side() returned a model that is not compiled; call model.compile(optimizer, loss)")
        return model

    def _session(self, inputs: np.ndarray, dropout: str) -> Session:
        keras.backend.clear_session()
        # Else Keras cuts its own frames out of a traceback, and what it refuses seems to be refused here.
        keras.config.disable_traceback_filtering()
        return Session(self._checked, self.options, inputs, dropout)

    def describe(self, inputs: np.ndarray, targets: np.ndarray) -> tuple[Facts, Tensors]:
        session = self._described = self._session(inputs, "off")
        weights = session.weights()
        return describe(session, session.step(inputs, targets)), weights

    def run(
        self,
        weights: Mapping[str, np.ndarray],
        batches: Sequence[Batch],
        changes: Sequence[Mapping[str, Any]],
        recorded: Sequence[int],
        dropout: str,
    ) -> Tensors:
        """As `Observer.run`; which timesteps are masked, "mask:step", is kept of every step."""
        if self._described is not None and not changes and dropout == "off":
            session, self._described = self._described, None  # what it has compiled is used again
            session.restart()
        else:
            session = self._session(batches[0][0], dropout)
        counterfactuals.apply(session, changes)
        session.load(weights)
        run: Tensors = {}
        losses, rates = [], []
        for number, (x, y) in enumerate(batches):
            record = session.step(x, y)
            losses.append(record["loss"])
            rates.append(record["learning_rate"])
            run |= {f"mask:{number}": value for name, value in record.items() if name.startswith("mask/")}
            if number in recorded:
                run |= {f"{number}/{name}": value for name, value in record.items()}
        run["losses"], run["learning_rates"] = np.array(losses, np.float64), np.array(rates, np.float64)
        return run | {f"end/{name}": value for name, value in session.evaluate(batches[0][0]).items()}

    def state(self, weights: Mapping[str, np.ndarray], inputs: np.ndarray) -> Tensors:
        session = self._session(inputs, "off")
        session.load(weights)
        return {f"keras/{number}": np.array(variable) for number, variable in enumerate(session.model.weights)}
