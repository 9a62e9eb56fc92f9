"""The LSTM of oneDNN, as torch's own LSTM uses it on a CPU."""

from dataclasses import dataclass

import torch

from keras_models.fast.differentiable import Arguments, Gradients, Needed, Outcome, Tensors
from keras_models.fast.loops import LSTMLoop

LSTM = 2  # torch's number for the mode


@dataclass(frozen=True)
class OneDNNLSTM(LSTMLoop):
    """An LSTM with tanh and sigmoid, float32, without masked timesteps; `returns`: whether there may be a way back."""

    returns: bool

    def forward(self, arguments: Arguments) -> tuple[Outcome, Tensors]:
        h, c = (state.detach() for state in arguments.states)
        operands = _operands(arguments)
        with torch.set_grad_enabled(self.returns):  # without, it keeps nothing for the way back
            outputs, last_h, last_c, workspace = torch.ops.aten.mkldnn_rnn_layer(
                *operands, h, c, False, [], LSTM, h.shape[1], 1, True, False, False, True
            )
        saved = (*operands, outputs, last_h, last_c, workspace) if self.returns else ()
        return Outcome(outputs, (last_h, last_c)), saved

    def backward(self, arguments: Arguments, saved: Tensors, slopes: Outcome, needed: Needed) -> Gradients:
        h, c = arguments.states
        *operands, outputs, last_h, last_c, workspace = saved
        by_inputs, by_kernel, by_recurrent_kernel, by_bias, _, by_h, by_c = torch.ops.aten.mkldnn_rnn_layer_backward(
            *operands, h, c, outputs, last_h, last_c, slopes.outputs, *slopes.states,
            False, LSTM, h.shape[1], 1, True, True, False, [], False, workspace,
        )  # fmt: skip
        # Laid out as the weights are: an optimizer's fused update is for tensors of one layout.
        by_kernel, by_recurrent_kernel = (gradient.t().contiguous() for gradient in (by_kernel, by_recurrent_kernel))
        return Gradients(by_inputs.transpose(0, 1), by_kernel, by_recurrent_kernel, by_bias, (by_h, by_c))


def _operands(arguments: Arguments) -> Tensors:
    """Inputs by time, and the weights in torch's layout, whose second bias stays zero."""
    return (
        arguments.inputs.transpose(0, 1).contiguous(),
        arguments.kernel.t().contiguous(),
        arguments.recurrent_kernel.t().contiguous(),
        arguments.bias.detach(),
        torch.zeros_like(arguments.bias),
    )
