"""A training step on JAX, compiled, for operation by operation it takes minutes; it computes what Keras's own does."""

from collections.abc import Sequence
from typing import Any

import jax
import keras
import numpy as np
from keras.src.trainers.data_adapters import data_adapter_utils


def is_own(model: Any) -> bool:
    """Whether the step is Keras's own, not a user's `train_step`."""
    return type(model).train_step is keras.Model.train_step


class JaxStep:
    """Takes Keras's own training step on a model and its optimizer; the states of stateful layers go on."""

    def __init__(self, model: Any) -> None:
        self.model, self.optimizer = model, model.optimizer
        self.states = [
            variable
            for layer in model._flatten_layers()
            if getattr(layer, "stateful", False)
            for variable in keras.tree.flatten(getattr(layer, "states", None))
            if variable is not None
        ]
        self._compiled = jax.jit(self._step)

    def __call__(self, x: Any, y: Any, sample_weight: Any = None, class_weight: Any = None) -> tuple[float, list[Any]]:
        """Update the model; returns the loss and the gradients of its trainable variables."""
        if class_weight is not None:
            sample_weight = data_adapter_utils.class_weight_to_sample_weights(y, class_weight)
        groups = (self.model.trainable_variables, self._others, self.optimizer.variables)
        values = [[variable.value for variable in group] for group in groups]
        loss, gradients, updated = self._compiled(values, x, y, sample_weight)
        for group, new_values in zip(groups, updated, strict=True):
            for variable, value in zip(group, new_values, strict=True):
                variable.assign(value)
        return float(np.ravel(np.asarray(loss))[0]), gradients

    @property
    def _others(self) -> list[Any]:
        """What a forward pass changes; of states Keras's own step on JAX knows nothing."""
        return [*self.model.non_trainable_variables, *self.states]

    def _step(self, values: Sequence[Any], x: Any, y: Any, sample_weight: Any) -> Any:
        trained, others, slots = values

        def compute(trained: Any) -> Any:
            model = self.model
            mapping = [
                *zip(model.trainable_variables, trained, strict=True),
                *zip(self._others, others, strict=True),
            ]
            with keras.StatelessScope(state_mapping=mapping) as scope:
                prediction = model(x, training=True)
                loss = model.compute_loss(x=x, y=y, y_pred=prediction, sample_weight=sample_weight, training=True)
            new = [scope.get_current_value(variable) for variable in self._others]
            return loss, [old if value is None else value for old, value in zip(others, new, strict=True)]

        (loss, others), gradients = jax.value_and_grad(compute, has_aux=True)(trained)
        trained, slots = self.optimizer.stateless_apply(slots, gradients, trained)
        return loss, gradients, (trained, others, slots)
