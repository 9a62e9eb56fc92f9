"""The recurrent cells as equations, in NumPy float64, on the canonical form of their weights."""

from collections.abc import Callable, Mapping

import numpy as np

Tensors = Mapping[str, np.ndarray]


def sigmoid(x: np.ndarray) -> np.ndarray:
    """The logistic function."""
    return 1 / (1 + np.exp(-x))


def simple_rnn(x: np.ndarray, w: Tensors, units: int) -> np.ndarray:
    """Elman 1990: all states (batch, time, units) of a SimpleRNN for inputs (batch, time, features)."""
    h = np.zeros((len(x), units))
    states = []
    for x_t in x.swapaxes(0, 1):
        h = np.tanh(x_t @ w["kernel"] + h @ w["recurrent_kernel"] + w["bias"])
        states.append(h)
    return np.stack(states, axis=1)


def lstm(x: np.ndarray, w: Tensors, units: int) -> np.ndarray:
    """Gers, Schmidhuber and Cummins 2000, without peepholes: all states of an LSTM."""
    h, c = np.zeros((2, len(x), units))
    states = []
    for x_t in x.swapaxes(0, 1):

        def gate(name: str, x_t: np.ndarray = x_t, h: np.ndarray = h) -> np.ndarray:
            return x_t @ w[f"kernel/{name}"] + h @ w[f"recurrent_kernel/{name}"] + w[f"bias/{name}"]

        forgotten = sigmoid(gate("forget")) * c
        c = forgotten + sigmoid(gate("input")) * np.tanh(gate("candidate"))
        h = sigmoid(gate("output")) * np.tanh(c)
        states.append(h)
    return np.stack(states, axis=1)


def gru(x: np.ndarray, w: Tensors, units: int) -> np.ndarray:
    """Cho et al. 2014 with the reset applied after the product (version 1 of the paper): all states of a GRU."""
    h = np.zeros((len(x), units))
    states = []
    for x_t in x.swapaxes(0, 1):
        from_input = {g: x_t @ w[f"kernel/{g}"] + w[f"input_bias/{g}"] for g in ("update", "reset", "candidate")}
        from_state = {
            g: h @ w[f"recurrent_kernel/{g}"] + w[f"recurrent_bias/{g}"] for g in ("update", "reset", "candidate")
        }
        z = sigmoid(from_input["update"] + from_state["update"])
        r = sigmoid(from_input["reset"] + from_state["reset"])
        candidate = np.tanh(from_input["candidate"] + r * from_state["candidate"])
        h = z * h + (1 - z) * candidate
        states.append(h)
    return np.stack(states, axis=1)


CELLS: dict[str, Callable[[np.ndarray, Tensors, int], np.ndarray]] = {
    "simple_rnn": simple_rnn,
    "lstm": lstm,
    "gru": gru,
}


def forward(cell: str, tensors: Tensors, inputs: np.ndarray) -> np.ndarray:
    """The outputs (batch, outputs) of a stack of layers and its linear head, in float64."""
    wide = {name: tensor.astype(np.float64) for name, tensor in tensors.items()}
    units = wide["head/kernel"].shape[0]
    sequence = inputs.astype(np.float64)
    for layer in range(len({name.partition("/")[0] for name in wide} - {"head"})):
        prefix = f"layer{layer}/forward/"
        own = {name.removeprefix(prefix): tensor for name, tensor in wide.items() if name.startswith(prefix)}
        sequence = CELLS[cell](sequence, own, units)
    return sequence[:, -1] @ wide["head/kernel"] + wide["head/bias"]


def mean_squared_error(cell: str, tensors: Tensors, inputs: np.ndarray, targets: np.ndarray) -> float:
    """The loss of a batch."""
    return float(np.mean(np.square(forward(cell, tensors, inputs) - targets.astype(np.float64))))


def gradient(cell: str, tensors: Tensors, inputs: np.ndarray, targets: np.ndarray) -> dict[str, np.ndarray]:
    """The gradient of the loss by central differences, good to about nine digits."""
    shift = 1e-5
    obtained = {}
    for name, tensor in tensors.items():
        slope = np.empty(tensor.shape)
        for index in np.ndindex(tensor.shape):
            losses = []
            for sign in (1, -1):
                moved = tensor.astype(np.float64)
                moved[index] += sign * shift
                losses.append(mean_squared_error(cell, {**tensors, name: moved}, inputs, targets))
            slope[index] = (losses[0] - losses[1]) / (2 * shift)
        obtained[name] = slope
    return obtained


class KerasAdam:
    """Adam for one tensor, epsilon added before the bias correction.

    Source: Kingma and Ba 2014, end of section 2, "epsilon hat".
    """

    def __init__(self, learning_rate: float, epsilon: float = 1e-7) -> None:
        self.learning_rate, self.epsilon = learning_rate, epsilon
        self.beta_1, self.beta_2 = 0.9, 0.999
        self.m: np.ndarray | float = 0.0
        self.v: np.ndarray | float = 0.0
        self.t = 0

    def update(self, g: np.ndarray) -> np.ndarray:
        """What is added to the tensor for its next gradient."""
        self.t += 1
        self.m = self.beta_1 * self.m + (1 - self.beta_1) * g
        self.v = self.beta_2 * self.v + (1 - self.beta_2) * g**2
        alpha = self.learning_rate * np.sqrt(1 - self.beta_2**self.t) / (1 - self.beta_1**self.t)
        return -alpha * self.m / (np.sqrt(self.v) + self.epsilon)


def train(
    cell: str,
    tensors: Tensors,
    inputs: np.ndarray,
    targets: np.ndarray,
    batches: list[np.ndarray],
    learning_rate: float,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Train on the batches in turn: the loss at every step and the weights at the end."""
    weights = {name: tensor.astype(np.float64) for name, tensor in tensors.items()}
    adam = {name: KerasAdam(learning_rate) for name in weights}
    losses = []
    for batch in batches:
        losses.append(mean_squared_error(cell, weights, inputs[batch], targets[batch]))
        slopes = gradient(cell, weights, inputs[batch], targets[batch])
        weights = {name: weights[name] + adam[name].update(slope) for name, slope in slopes.items()}
    return np.array(losses), weights
