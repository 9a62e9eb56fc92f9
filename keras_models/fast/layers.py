"""SimpleRNN, LSTM and GRU as Keras has them, computed by fast kernels on the torch backend."""

from dataclasses import dataclass
from typing import Any

import keras
from keras.src import api_export


@dataclass(frozen=True)
class Execution:
    """How a layer was computed: the kernel; None for Keras's own code, and then the reason."""

    kernel: str | None
    reason: str | None = None


class Fast:
    """What makes a recurrent layer of Keras fast; mixed in before its class."""

    @property
    def execution(self) -> Execution | None:
        """How the layer was computed when it was called last; None before the first time."""
        return vars(self).get("_last_execution")

    def call(self, sequences: Any, initial_state: Any = None, mask: Any = None, training: bool = False) -> Any:
        cell = self.cell
        if initial_state is None and not (self.stateful or cell.dropout or cell.recurrent_dropout):
            # There is nothing to prepare, and Keras's preparations would take as long as a small kernel.
            computed = self._compute(sequences, None, mask, training)
            if computed is not None:
                last_output, outputs, states = computed
                output = outputs if self.return_sequences else last_output
                return (output, *states) if self.return_state else output
        return super().call(sequences, initial_state=initial_state, mask=mask, training=training)

    def inner_loop(self, sequences: Any, initial_state: Any, mask: Any, training: bool = False) -> Any:
        computed = self._compute(sequences, initial_state, mask, training)
        if computed is None:
            return super().inner_loop(sequences, initial_state, mask, training=training)
        return computed

    def _compute(self, sequences: Any, initial_state: Any, mask: Any, training: bool) -> Any:
        """Return (last output, outputs, states), or None where Keras's own code has to do it."""
        if keras.backend.backend() == "torch":
            from keras_models.fast.on_torch import run

            execution, computed = run(self, sequences, initial_state, mask, bool(training))
        else:
            execution, computed = Execution(None, f"the backend is {keras.backend.backend()}"), None
        if execution is not None:
            # Past Keras's __setattr__, which takes its time to look for variables and layers.
            vars(self)["_last_execution"] = execution
        return computed


class SimpleRNN(Fast, keras.layers.SimpleRNN):
    """`keras.layers.SimpleRNN`, fast on the torch backend."""


class LSTM(Fast, keras.layers.LSTM):
    """`keras.layers.LSTM`, fast on the torch backend."""


class GRU(Fast, keras.layers.GRU):
    """`keras.layers.GRU`, fast on the torch backend."""


# Each layer class of Keras and the fast one that can take its place.
FAST = {keras.layers.SimpleRNN: SimpleRNN, keras.layers.LSTM: LSTM, keras.layers.GRU: GRU}

# Saved under the names of Keras's own layers, so that whoever loads a model needs nothing but Keras. There is no public
# way to say so. Which class a name is loaded as stays as it is.
for stock, fast in FAST.items():
    api_export.REGISTERED_OBJS_TO_NAMES[fast] = f"keras.layers.{stock.__name__}"
