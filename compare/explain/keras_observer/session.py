"""A user's compiled model, trained step by step; torch_observer/session.py is its mirror."""

import random
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from compare.explain.keras_observer import interception
from compare.explain.keras_observer.backward import loss_and_gradients
from compare.explain.keras_observer.changes import Changes
from compare.explain.keras_observer.layers import Layers
from compare.explain.keras_observer.observed import Observed
from compare.explain.keras_observer.recording import copied


class Session:
    """One training from the start, with its own model; changes are made before the first step.

    `make` returns a compiled keras.Model, built with `inputs` where it is not; `options` may hold seed.
    `dropout` is "shared" for masks that both sides draw alike, "rows" for those of one row in all of them, or "off".
    """

    def __init__(
        self, make: Callable[[], Any], options: Mapping[str, Any], inputs: np.ndarray, dropout: str = "shared"
    ) -> None:
        interception.install()
        self.changes, self.observed = Changes(dropout), Observed()
        self.layers = Layers(self.observed, self.changes)
        # Keras draws the seeds of what was given none from here.
        random.seed(int(options.get("seed") or 0))
        np.random.seed(int(options.get("seed") or 0))
        self.model = make()
        if not self.model.built:
            self.model(keras.ops.convert_to_tensor(inputs))
        self.optimizer = self.model.optimizer
        if not self.optimizer.built:
            self.optimizer.build(self.model.trainable_variables)
        self.layers.watch(self.model)
        self.compiled: Any = None
        held = {id(v): v for v in (*self.model.variables, *self.optimizer.variables)}
        self._first_values = [(variable, copied(variable)) for variable in held.values()]

    def step(self, x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
        """Take one training step and return its record."""
        if self.changes.reset_state:
            for layer in self.model._flatten_layers():
                if getattr(layer, "stateful", False) and hasattr(layer, "reset_state"):
                    layer.reset_state()
        with interception.observing(self):
            loss, gradients, seen = loss_and_gradients(self, x, y)
        variables = self.model.trainable_variables
        locations = {id(variable): location for location, variable in self._variables().items()}
        zeroed = {f"{key}/{name}" for key, name in self.changes.zeroed}
        gradients = [
            keras.ops.zeros_like(gradient) if locations.get(id(variable)) in zeroed else gradient
            for variable, gradient in zip(variables, gradients, strict=True)
        ]
        record = {name: copied(value) for name, value in seen.items()}
        record["loss"] = copied(loss)
        record["learning_rate"] = np.array(
            copied(keras.ops.convert_to_tensor(self.optimizer.learning_rate)), np.float64
        )
        for phase, values in (("gradient", gradients), ("clip", self.optimizer._clip_gradients(gradients))):
            for variable, value in zip(variables, values, strict=True):
                if id(variable) in locations and value is not None:
                    record[f"{phase}/{locations[id(variable)]}"] = copied(value)
        self.optimizer.apply(gradients, variables)
        return record | {f"weights/{location}": value for location, value in self.weights().items()}

    def evaluate(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Compute the layers' outputs as for a prediction."""
        with interception.observing(self):
            prediction = self.forward(keras.ops.convert_to_tensor(x), training=False)
        seen = {**self.observed.seen, "prediction": prediction}
        return {f"evaluation/{name}": copied(value) for name, value in seen.items()}

    def forward(self, x: Any, training: bool) -> Any:
        """Compute the model's outputs; what its layers are given and give is in `observed` afterwards."""
        self.observed.begin_pass()
        return self.model(x, training=training)

    def restart(self) -> None:
        """Set everything back to what it was at first."""
        for variable, value in self._first_values:
            variable.assign(value)

    def load(self, weights: Mapping[str, np.ndarray]) -> None:
        """Load weights, named by part and tensor."""
        for (key, name), variable in self._tensors():
            if f"{key}/{name}" in weights:
                value = weights[f"{key}/{name}"]
                variable.assign(np.zeros_like(value) if (key, name) in self.changes.zeroed else value)

    def weights(self) -> dict[str, np.ndarray]:
        """Read all weights."""
        return {location: copied(variable) for location, variable in self._variables().items()}

    def _variables(self) -> dict[str, Any]:
        return {f"{key}/{name}": variable for (key, name), variable in self._tensors()}

    def _tensors(self) -> list[tuple[tuple[str, str], Any]]:
        parts = self.observed.parts.items()
        return [((key, name), variable) for key, part in parts for name, variable in part.tensors.items()]
