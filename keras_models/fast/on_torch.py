"""Which kernel computes a layer on the torch backend, and the computation."""

from typing import Any

import keras
import torch
from torch import Tensor

from keras_models.fast import native
from keras_models.fast.activations import ACTIVATIONS
from keras_models.fast.differentiable import Arguments, compute
from keras_models.fast.layers import Execution
from keras_models.fast.loops import GRULoop, LSTMLoop, SimpleRNNLoop
from keras_models.fast.onednn import OneDNNLSTM

CELLS = {keras.layers.SimpleRNNCell: "simple_rnn", keras.layers.LSTMCell: "lstm", keras.layers.GRUCell: "gru"}
LOOPS = {"simple_rnn": SimpleRNNLoop, "lstm": LSTMLoop, "gru": GRULoop}

# The same activation may have been given as a function of Keras, or of torch.
NAMES = {
    function: name
    for name in ACTIVATIONS
    for module in (keras.activations, keras.ops, torch)
    if (function := getattr(module, name, None)) is not None
}

# What torch's own layers compute: (cell, activations) and the name there.
STANDARD = {
    ("simple_rnn", "tanh"): "rnn_tanh",
    ("simple_rnn", "relu"): "rnn_relu",
    ("lstm", "tanh", "sigmoid"): "lstm",
    ("gru", "tanh", "sigmoid"): "gru",
}


def run(
    layer: keras.layers.RNN, sequences: Tensor, initial_state: list[Tensor] | None, mask: Any, training: bool
) -> tuple[Execution | None, tuple[Tensor, Tensor, list[Tensor]] | None]:
    """Compute a layer as its `inner_loop` does; return the execution and (last output, outputs, states).

    An initial state of None is zeros. Where no kernel takes the layer, the second is None and the execution says why;
    the execution is None too where Keras only asks for shapes.
    """
    if sequences.is_meta:
        return None, None
    mask = mask[0] if isinstance(mask, list | tuple) else mask
    reason = _why_not_the_layer(layer, training) or _why_not_now(layer, sequences, initial_state or [], mask)
    if reason is not None:
        return Execution(None, reason), None
    arguments = _arguments(layer, sequences, initial_state, mask, training)
    kernel, outputs, states = _compute(layer, arguments)
    last = states[0]
    if arguments.keep is not None:
        # A masked timestep shows the output before it, or zeros: always before the first that is not masked.
        shown = arguments.keep if layer.zero_output_for_mask else arguments.keep.cumsum(0) > 0
        last = torch.where(shown[-1], last, 0)
        outputs = None if outputs is None else torch.where(shown.transpose(0, 1), outputs, 0)
    return Execution(kernel), (last, last if outputs is None else outputs, states)


def _why_not_the_layer(layer: keras.layers.RNN, training: bool) -> str | None:
    """What the layer asks for that no kernel here computes."""
    cell = layer.cell
    if type(cell) not in CELLS:
        return f"its cell is a {type(cell).__name__}, not Keras's own"
    if not getattr(cell, "reset_after", True):
        return "reset_after=False"
    for option in ("activation", "recurrent_activation"):
        function = getattr(cell, option, keras.activations.tanh)
        if function not in NAMES:
            return f"{option}={getattr(function, '__name__', function)!r}"
    if training and cell.recurrent_dropout:
        return f"recurrent_dropout={cell.recurrent_dropout}"
    if training and cell.dropout and getattr(cell, "implementation", 2) == 1:
        return f"dropout={cell.dropout} with implementation=1, which has a mask for every gate"
    if training and cell.dropout == 1:
        return "dropout=1.0"
    return None


def _why_not_now(layer: keras.layers.RNN, sequences: Tensor, states: list[Tensor], mask: Tensor | None) -> str | None:
    """What about a call no kernel here can do."""
    if torch.jit.is_tracing() or torch.compiler.is_compiling():
        return "torch is tracing or compiling"
    if torch._C._are_functorch_transforms_active() or torch.autograd.forward_ad._current_level >= 0:
        return "a transform of torch.func or forward-mode differentiation is at work"
    if type(sequences) not in (Tensor, torch.nn.Parameter):
        return f"the inputs are a {type(sequences).__name__}"
    if sequences.device.type not in ("cpu", "cuda"):
        return f"the device is {sequences.device.type}"
    if torch.is_autocast_enabled(sequences.device.type):
        return "torch's autocast is at work"
    if sequences.ndim != 3 or not sequences.numel():
        return f"the inputs have shape {list(sequences.shape)}"
    shape = (len(sequences), layer.cell.units)
    if any(tuple(state.shape) != shape for state in states):
        return f"initial states of shape {[list(state.shape) for state in states]}, not {list(shape)}"
    if mask is not None and tuple(mask.shape) != tuple(sequences.shape[:2]):
        return f"a mask of shape {list(mask.shape)}, not {list(sequences.shape[:2])}"
    return None


def _arguments(
    layer: keras.layers.RNN, sequences: Tensor, initial_state: list[Tensor] | None, mask: Tensor | None, training: bool
) -> Arguments:
    """Gather what a kernel takes, in the order in which the timesteps are processed."""
    cell = layer.cell
    kernel, recurrent_kernel = cell.kernel.value, cell.recurrent_kernel.value
    if cell.use_bias:
        bias = cell.bias.value
    else:
        bias = kernel.new_zeros((2, kernel.shape[1]) if type(cell) is keras.layers.GRUCell else kernel.shape[1])
    # Keras puts tensors where its variables are, and converts integers.
    inputs = sequences.to(kernel.device, kernel.dtype)
    if initial_state is None:
        states = (kernel.new_zeros(len(inputs), cell.units),) * len(layer.state_size)
    else:
        # Copies where the layer is stateful: its variables take the last states before there are gradients.
        states = tuple(state.to(kernel.device, kernel.dtype, copy=layer.stateful) for state in initial_state)
    if training and cell.dropout:
        inputs = inputs * cell.get_dropout_mask(inputs[:, 0]).unsqueeze(1)
    keep = None if mask is None else mask.to(kernel.device, torch.bool).transpose(0, 1).unsqueeze(2)
    if layer.go_backwards:
        inputs, keep = inputs.flip(1), None if keep is None else keep.flip(0)
    return Arguments(inputs, keep, kernel, recurrent_kernel, bias, states)


def _compute(layer: keras.layers.RNN, arguments: Arguments) -> tuple[str, Tensor | None, list[Tensor]]:
    """Return the kernel's name, the outputs (batch, time, units) if they are asked for, and the last states."""
    cell = CELLS[type(layer.cell)]
    activations = [NAMES[layer.cell.activation]]
    if cell != "simple_rnn":
        activations.append(NAMES[layer.cell.recurrent_activation])
    standard = STANDARD.get((cell, *activations))
    if (
        standard is not None
        and getattr(layer, "use_cudnn", True)
        and torch.backends.cudnn.is_acceptable(arguments.inputs)
    ):
        padded = None if arguments.keep is None else native.padding(arguments.keep.squeeze(2).t())
        if arguments.keep is None or padded is not None:
            return "cudnn", *native.compute(standard, arguments, padded)
    functions = [ACTIVATIONS[name] for name in activations]
    if standard == "lstm" and arguments.keep is None and _onednn_takes(arguments.inputs):
        return "onednn", *compute(OneDNNLSTM(*functions, torch.is_grad_enabled()), arguments, layer.return_sequences)
    if arguments.keep is not None:  # whatever stands in a masked timestep, be it NaN, may not reach a gradient
        arguments = arguments._replace(inputs=torch.where(arguments.keep.transpose(0, 1), arguments.inputs, 0))
    return "bptt", *compute(LOOPS[cell](*functions), arguments, layer.return_sequences)


def _onednn_takes(inputs: Tensor) -> bool:
    return inputs.device.type == "cpu" and inputs.dtype == torch.float32 and torch.backends.mkldnn.enabled
