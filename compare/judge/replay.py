"""The training once more, taken by the float64 reference itself: what neither side has a part in.

Two trainings that are held against one another can be wrong alike, and do not tell which of them is off. The reference
trains from the same weights on the same batches, freely, and both are held against it. So far as that is affordable:
its cost is estimated from the sizes alone, so that a verdict does not depend on the speed of a machine.
"""

import zlib
from dataclasses import replace
from functools import reduce

import numpy as np

from compare.experiment.experiment import Experiment
from compare.judge.margins import ulp
from compare.judge.step_reference import ALL, Tensors, data_loss, in_float64, in_order, joined, numbers_of_batch
from compare.reference.clipping import clip, keras_variable
from compare.reference.network import Network, penalty
from compare.reference.update_rules import apply_update, initial_slots, learning_rate_at
from compare.trace.trace import State, Trace

# Seconds on one core that the replay of a training may take, by the estimate of `_seconds_per_step`: about what one
# member of the ensemble takes for the built-in cases, of whose steps it reaches 150 to 300.
REPLAY_SECONDS = 1.0

# The same where something has been found, or the ensemble parts so far that it has to be seen why.
LONG_REPLAY_SECONDS = 6.0


def affordable_steps(experiment: Experiment, seconds: float) -> int:
    """Return how many steps of a training the reference can take in an estimated time."""
    return min(experiment.steps, int(seconds / _seconds_per_step(experiment)))


def _seconds_per_step(experiment: Experiment) -> float:
    """Estimate what a step takes: calls of NumPy, numbers, and products of matrices, measured on one core."""
    model, inputs = experiment.case.model, experiment.examples.training.inputs
    time = inputs.shape[1]
    examples = min(experiment.case.training.batch_size, len(inputs))
    gates = {"simple_rnn": 1, "gru": 3, "lstm": 4}[model.cell]
    layers = model.layers * (2 if model.bidirectional else 1)
    numbers = examples * model.units * gates
    products = examples * sum(w.size for name, w in experiment.weights.items() if name.startswith("layer"))
    return float(time * (layers * (1.2e-4 + 3e-8 * numbers) + 1.5e-10 * products) + 5e-4)


class Replay:
    """Trains an experiment as the reference does, in float64, with the rows that a trace has.

    With a seed every step rounds at random as a member of the ensemble does: initial weights by an ulp, gradients by up
    to an ulp of the root mean square of their Keras variable.
    """

    def __init__(self, experiment: Experiment, like: Trace, precision: str, seed: int | None = None) -> None:
        self.experiment, self.like, self.precision = experiment, like, precision
        self.random = None if seed is None else np.random.default_rng([seed, 7])
        self.names = list(in_order(experiment.weights))
        self.shapes = {name: np.shape(experiment.weights[name]) for name in self.names}
        self.ends = np.cumsum([int(np.prod(shape)) for shape in self.shapes.values()])
        self.weights: dict[str, np.ndarray] = {}

    def train(self, end: int, start: int = 0, state: State | None = None) -> Trace:
        """Return a trace like the given one, up to a step: with the rows of that before `start`, the reference's after.

        It starts from a state, or with the experiment. It ends before a loss that is not finite. `weights` are those
        after its last step.
        """
        experiment, case = self.experiment, self.experiment.case
        weights = in_float64(experiment.weights if state is None else state.weights)
        slots = initial_slots(case.training, weights) if state is None else in_float64(state.slots)
        non_trainable = {} if state is None else in_float64(state.non_trainable)
        flat = joined({name: weights[name] for name in self.names})
        if self.random is not None:
            flat = flat * (1 + 2 * ulp(self.precision) * self.random.choice([-1.0, 1.0], flat.shape))
        kinds = dict.fromkeys(slot.partition("/")[0] for slot in slots if "/" in slot)
        whole = {f"{kind}/{ALL}": joined({name: slots[f"{kind}/{name}"] for name in self.names}) for kind in kinds}
        whole |= {slot: value for slot, value in slots.items() if "/" not in slot}
        rows, checkpoints = [self.like.rows[:start]], {}
        per_epoch = experiment.steps_per_epoch
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            for step in range(start, end):
                if step % per_epoch == 0:
                    non_trainable = state_at_epoch(experiment, step)
                loss, gradients, non_trainable = loss_and_gradients(experiment, step, self._split(flat), non_trainable)
                gradients = self._rounded(gradients)
                if not np.isfinite(loss):
                    break
                gradient = joined(clip(case.training, gradients))
                rate, casts = learning_rate_at(case.training, step), case.dtype == self.precision
                new, whole = apply_update(case.training, {ALL: flat}, {ALL: gradient}, whole, step, rate, casts)
                rows.append(self._row(step, loss, gradients, self._split(new[ALL] - flat))[None])
                flat = new[ALL]
                epoch, rest = divmod(step + 1, per_epoch)
                if not rest and epoch in experiment.checkpoint_epochs:
                    checkpoints[epoch] = self._split(flat)
        self.weights = self._split(flat)
        trace = replace(self.like, rows=np.concatenate(rows))
        vars(trace).update(checkpoints=checkpoints, _predicted={})
        return trace

    def _rounded(self, gradients: Tensors) -> dict[str, np.ndarray]:
        """The gradients in order, as a member of the ensemble has them where a seed was given."""
        gradients = {name: gradients[name] for name in self.names}
        if self.random is None:
            return gradients
        squares: dict[str, list[float]] = {}
        for name, gradient in gradients.items():
            squares.setdefault(keras_variable(name), []).append(float(np.mean(np.square(gradient))))
        return {
            name: gradient
            + ulp(self.precision)
            * np.sqrt(np.mean(squares[keras_variable(name)]))
            * self.random.uniform(-1, 1, gradient.shape)
            for name, gradient in gradients.items()
        }

    def _row(self, step: int, loss: float, gradients: Tensors, updates: Tensors) -> np.ndarray:
        figures = {"loss": loss, "batch": float(batch_checksum(self.experiment, step))}
        for phase, tensors in {"gradient": gradients, "update": updates}.items():
            figures |= {f"{phase}/{name}": float(np.linalg.norm(tensor)) for name, tensor in tensors.items()}
        return np.array([figures[column] for column in self.like.columns])

    def _split(self, flat: np.ndarray) -> dict[str, np.ndarray]:
        return {
            name: part.reshape(shape)
            for (name, shape), part in zip(self.shapes.items(), np.split(flat, self.ends[:-1]), strict=True)
        }


def batch_checksum(experiment: Experiment, step: int) -> int:
    """Return the checksum that a side records of the batch of a step: of its inputs by name, then of its targets."""
    windows = experiment.batch(step)
    inputs = experiment.batch_inputs(step, windows)
    arrays = [*(inputs[name] for name in sorted(inputs)), experiment.examples.training.targets[windows]]
    return reduce(lambda checksum, array: zlib.crc32(array.tobytes(), checksum), arrays, 0)


def loss_and_gradients(
    experiment: Experiment, step: int, weights: Tensors, non_trainable: Tensors
) -> tuple[float, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return the loss of a step's batch, its penalty included, the gradients, and the non-trainable state after it."""
    model = experiment.case.model
    inputs, targets = numbers_of_batch(experiment, step)
    network = Network(model, weights, inputs, non_trainable)
    loss, d_outputs = data_loss(experiment, network.outputs, inputs, targets)
    if model.l2:
        loss = loss + penalty(model, weights)
    return float(loss), network.backward(d_outputs), network.non_trainable


def state_at_epoch(experiment: Experiment, step: int) -> dict[str, np.ndarray]:
    """Return the non-trainable state before the first step of an epoch: zero states.

    Running figures, which no step in training takes, are as before the first.
    """
    model, size = experiment.case.model, len(experiment.batch(step))
    parts = () if not model.stateful else ("h", "c") if model.cell == "lstm" else ("h",)
    state = {
        f"layer{index}/forward/state/{part}": np.zeros((size, model.units))
        for index in range(model.layers)
        for part in parts
    }
    if model.normalization == "batch":
        for name, gamma in experiment.weights.items():
            if name.endswith("/gamma"):
                prefix = name.removesuffix("/gamma")
                state[f"{prefix}/moving_mean"] = np.zeros(gamma.shape)
                state[f"{prefix}/moving_variance"] = np.ones(gamma.shape)
    return state
