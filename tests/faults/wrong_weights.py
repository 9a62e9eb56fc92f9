"""Planted faults: weights that a conversion got wrong. Each changes what a side holds after loading."""

from collections.abc import Callable

import numpy as np

Tensors = dict[str, np.ndarray]


def _change(side, change: Callable[[Tensors], Tensors]) -> None:
    load = side.load_weights
    side.load_weights = lambda weights: load(change(dict(weights)))
    side.load_weights(side.experiment.weights)


def _is_recurrent_bias(name: str) -> bool:
    return name.startswith("layer0") and "bias" in name


def _swapped(weights: Tensors, tensor: str, gate: str, other_gate: str) -> Tensors:
    first, second = f"layer0/forward/{tensor}/{gate}", f"layer0/forward/{tensor}/{other_gate}"
    return weights | {first: weights[second], second: weights[first]}


def lstm_input_and_forget_swapped(side):
    """The input and forget gates of the LSTM's kernel are swapped."""
    _change(side, lambda weights: _swapped(weights, "kernel", "input", "forget"))


def lstm_candidate_and_output_swapped(side):
    """The candidate and the output gate of the LSTM's recurrent kernel are swapped, as in cuDNN's other orders."""
    _change(side, lambda weights: _swapped(weights, "recurrent_kernel", "candidate", "output"))


def gru_update_and_reset_swapped(side):
    """The GRU's kernels are copied from PyTorch without reordering the gates."""

    def change(weights):
        for tensor in ("kernel", "recurrent_kernel"):
            weights = _swapped(weights, tensor, "update", "reset")
        return weights

    _change(side, change)


def gru_biases_swapped(side):
    """The GRU's input bias and recurrent bias are swapped for the candidate, where it matters."""

    def change(weights):
        first, second = "layer0/forward/input_bias/candidate", "layer0/forward/recurrent_bias/candidate"
        return weights | {first: weights[second], second: weights[first]}

    _change(side, change)


def recurrent_kernel_transposed(side):
    """Every recurrent kernel is transposed: square, so that no shape tells."""
    _change(side, lambda weights: {n: w.T if "recurrent_kernel" in n else w for n, w in weights.items()})


def one_gate_transposed(side):
    """The recurrent kernel of one gate is transposed."""
    ends = ("recurrent_kernel/forget", "recurrent_kernel/reset")
    name = next(name for name in side.experiment.weights if name.endswith(ends))
    _change(side, lambda weights: weights | {name: weights[name].T})


def bias_dropped(side):
    """The recurrent layer's biases are left at zero."""
    _change(side, lambda weights: {n: w * 0 if _is_recurrent_bias(n) else w for n, w in weights.items()})


def forget_bias_dropped(side):
    """The LSTM's forget bias of one is left at zero."""
    _change(side, lambda weights: weights | {"layer0/forward/bias/forget": weights["layer0/forward/bias/forget"] * 0})


def bias_doubled(side):
    """PyTorch's two biases both receive Keras's one."""
    _change(side, lambda weights: {n: w * 2 if _is_recurrent_bias(n) else w for n, w in weights.items()})


def bias_shifted(side):
    """The recurrent layer's biases are shifted by one unit."""
    _change(side, lambda weights: {n: np.roll(w, 1) if _is_recurrent_bias(n) else w for n, w in weights.items()})


def head_bias_dropped(side):
    """The head's bias is left at zero."""
    _change(side, lambda weights: weights | {"head/bias": weights["head/bias"] * 0})


def one_element_wrong(side):
    """One element of the input gate's recurrent kernel has the wrong sign."""
    name = "layer0/forward/recurrent_kernel/input"

    def change(weights):
        wrong = weights[name].copy()
        wrong[0, 0] *= -1
        return weights | {name: wrong}

    _change(side, change)


def one_element_last_bits(side):
    """One element of the head's kernel is off by sixteen units in the last place."""

    def change(weights):
        wrong = weights["head/kernel"].copy()
        wrong[0, 0] *= 1 + 16 * np.finfo(wrong.dtype).eps
        return weights | {"head/kernel": wrong}

    _change(side, change)


def head_scaled(side):
    """The head's kernel is larger by one part in ten thousand."""
    factor = np.dtype(side.experiment.case.dtype).type(1.0001)
    _change(side, lambda weights: weights | {"head/kernel": weights["head/kernel"] * factor})


def layers_swapped(side):
    """The second and third layers are swapped."""

    def change(weights):
        other_gate = {"layer1": "layer2", "layer2": "layer1"}
        return {
            n: weights["/".join([other_gate.get(n.split("/")[0], n.split("/")[0]), *n.split("/")[1:]])] for n in weights
        }

    _change(side, change)


def half_precision_weights(side):
    """The weights went through float16."""
    _change(side, lambda weights: {n: w.astype(np.float16).astype(w.dtype) for n, w in weights.items()})


def embedding_rows_swapped(side):
    """Two rows of the embedding are swapped, as by a vocabulary in another order."""

    def change(weights):
        table = weights["embedding/embeddings"].copy()
        table[[1, 2]] = table[[2, 1]]
        return weights | {"embedding/embeddings": table}

    _change(side, change)
