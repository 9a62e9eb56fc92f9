"""Train a Keras model by `model.fit` itself, recording every step; `keras_models.training` has loops of its own."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

import keras
import numpy as np

from keras_models.training import Arrays, Draw, checksums, gather, prepare, reset_states
from keras_models.weights import Layout, group_norms, layouts


def fit(
    model: keras.Model,
    loss: keras.losses.Loss,
    optimizer: keras.optimizers.Optimizer,
    inputs: Arrays,
    targets: np.ndarray,
    schedule: np.ndarray,
    batch_size: int = 32,
    draw: Draw | None = None,
    norms: bool = True,
) -> Iterator[tuple[int, np.ndarray]]:
    """Train as `keras_models.train` does, and yield (epoch, rows) after each epoch, one row of `columns` a step.

    `model.fit` is called once an epoch, with the windows in the order of the schedule.
    """
    prepare(model, loss, optimizer)
    full_batches, rest = divmod(schedule.shape[1], batch_size)
    step = 0
    with _norms_noted(optimizer, layouts(model)) if norms else nullcontext() as noted:
        for order in schedule:
            reset_states(model)
            whole, last = order[: full_batches * batch_size].reshape(full_batches, batch_size), order[None, -rest:]
            parts, sums = [], []
            for chosen in [*([whole] if full_batches else []), *([last] if rest else [])]:
                x, y = gather(inputs, chosen, step, draw), targets[chosen]
                sums += checksums(x, y)
                parts.append(keras.tree.map_structure(lambda array: array.reshape(-1, *array.shape[2:]), (x, y)))
                step += len(chosen)
            x, y = keras.tree.map_structure(lambda *arrays: np.concatenate(arrays), *parts)
            record = _Record(noted)
            model.fit(x, y, batch_size=batch_size, shuffle=False, verbose=0, callbacks=[record])
            yield step // len(sums) - 1, np.column_stack([record.rows, sums])


class _Record(keras.callbacks.Callback):
    """Collects each step's loss and what the optimizer noted."""

    def __init__(self, norms: keras.Variable | None) -> None:
        super().__init__()
        self.norms = norms
        self.rows: list[np.ndarray] = []

    def on_train_batch_begin(self, batch: int, logs: dict[str, float] | None = None) -> None:
        # `fit` reports the mean loss of the epoch so far; from here on that is the mean of one step.
        self._fetch()
        self.model.reset_metrics()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        assert logs is not None  # `fit` always gives them
        self._fetch()
        norms = [] if self.norms is None else keras.ops.convert_to_numpy(self.norms)
        self.rows.append(np.append(logs["loss"], norms).astype(np.float64))

    def _fetch(self) -> None:
        """On JAX `fit` keeps the variables' values to itself until they are asked for."""
        if keras.backend.backend() == "jax":
            self.model.jax_state_sync()


@contextmanager
def _norms_noted(optimizer: keras.optimizers.Optimizer, parts: Sequence[Layout]) -> Iterator[keras.Variable]:
    """Have an optimizer note the norms of all gradients and updates in a variable, which every backend carries on."""
    norms = group_norms(list(parts))
    width = 2 * sum(len(layout.names) for layout in parts)
    noted = optimizer.add_variable((width,), initializer="zeros", dtype=parts[0].variable.dtype, name="noted_norms")
    apply = optimizer.apply

    def apply_and_note(gradients: list[object], variables: list[keras.Variable] | None = None) -> None:
        variables = variables or [layout.variable for layout in parts]
        before = [keras.ops.copy(variable) for variable in variables]
        apply(gradients, variables)
        updates = [variable - old for variable, old in zip(variables, before, strict=True)]
        # On TensorFlow an embedding's gradient comes as the rows that were looked up; reshaped it is whole.
        dense = [keras.ops.reshape(gradient, old.shape) for gradient, old in zip(gradients, before, strict=True)]
        noted.assign(keras.ops.concatenate([norms(dense), norms(updates)]))

    optimizer.apply = apply_and_note
    try:
        yield noted
    finally:
        optimizer.apply = apply
