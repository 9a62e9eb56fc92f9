"""Planted faults: weights that a conversion got wrong. Each changes what a side holds after loading."""

import numpy as np


def _changed(change):
    """Load other weights: change(weights) -> weights."""

    def plant(side):
        load = side.load_weights
        side.load_weights = lambda weights: load(change(dict(weights)))
        side.load_weights(side.experiment.weights)

    return plant


def _each(change, chosen):
    """Change each weight whose name is chosen."""
    return _changed(lambda weights: {n: change(w) if chosen(n) else w for n, w in weights.items()})


def _one(name, change):
    """Change a copy of one weight in place."""

    def changed(weights):
        wrong = weights[name].copy()
        change(wrong)
        return weights | {name: wrong}

    return _changed(changed)


def _swapped(first, second, *tensors):
    """Let two gates of the first layer's tensors change places."""

    def changed(weights):
        pairs = [(f"layer0/forward/{tensor}/{first}", f"layer0/forward/{tensor}/{second}") for tensor in tensors]
        return weights | {a: weights[b] for pair in pairs for a, b in (pair, pair[::-1])}

    return _changed(changed)


def _renamed(names):
    """Let layers change places by the first part of their names."""

    def other(name):
        layer, _, rest = name.partition("/")
        return f"{names.get(layer, layer)}/{rest}"

    return _changed(lambda weights: {name: weights[other(name)] for name in weights})


def _is_recurrent_bias(name):
    return name.startswith("layer0") and "bias" in name


# Gates that were not reordered: of the LSTM's kernel; of its recurrent kernel, as in cuDNN's other orders; of the GRU.
lstm_input_and_forget_swapped = _swapped("input", "forget", "kernel")
lstm_candidate_and_output_swapped = _swapped("candidate", "output", "recurrent_kernel")
gru_update_and_reset_swapped = _swapped("update", "reset", "kernel", "recurrent_kernel")
# The GRU's input bias and recurrent bias are swapped for the candidate, where it matters.
gru_biases_swapped = _changed(
    lambda weights: (
        weights
        | {
            "layer0/forward/input_bias/candidate": weights["layer0/forward/recurrent_bias/candidate"],
            "layer0/forward/recurrent_bias/candidate": weights["layer0/forward/input_bias/candidate"],
        }
    )
)
# Recurrent kernels are transposed, every one or of one gate: square, so that no shape tells.
recurrent_kernel_transposed = _each(np.transpose, lambda name: "recurrent_kernel" in name)
_ONE_GATE = ("layer0/forward/recurrent_kernel/forget", "layer0/forward/recurrent_kernel/reset")
one_gate_transposed = _each(np.transpose, lambda name: name in _ONE_GATE)
# The recurrent layer's biases are left at zero, given to both of PyTorch's, or shifted by one unit.
bias_dropped = _each(np.zeros_like, _is_recurrent_bias)
bias_doubled = _each(lambda bias: bias * 2, _is_recurrent_bias)
bias_shifted = _each(lambda bias: np.roll(bias, 1), _is_recurrent_bias)
# The LSTM's forget bias of one, or the head's bias, is left at zero.
forget_bias_dropped = _each(np.zeros_like, lambda name: name == "layer0/forward/bias/forget")
head_bias_dropped = _each(np.zeros_like, lambda name: name == "head/bias")
# One element of the input gate's recurrent kernel has the wrong sign.
one_element_wrong = _one("layer0/forward/recurrent_kernel/input", lambda w: w.__setitem__((0, 0), -w[0, 0]))
# One element of the head's kernel is off by sixteen units in the last place.
one_element_last_bits = _one("head/kernel", lambda w: w.__setitem__((0, 0), w[0, 0] * (1 + 16 * np.finfo(w.dtype).eps)))
# The head's kernel is larger by one part in ten thousand.
head_scaled = _each(lambda kernel: kernel * kernel.dtype.type(1.0001), lambda name: name == "head/kernel")
# The second and third layers are swapped.
layers_swapped = _renamed({"layer1": "layer2", "layer2": "layer1"})
# The weights went through float16.
half_precision_weights = _each(lambda weight: weight.astype(np.float16).astype(weight.dtype), lambda name: True)
# Two rows of the embedding are swapped, as by a vocabulary in another order.
embedding_rows_swapped = _one("embedding/embeddings", lambda table: table.__setitem__([1, 2], table[[2, 1]]))
