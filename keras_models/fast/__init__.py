"""Keras's recurrent layers without their slow loop on the torch backend.

`SimpleRNN`, `LSTM` and `GRU` are the layers of `keras.layers`: the same arguments, variables and saved files. On the
torch backend they run in fused kernels wherever those compute the same thing; everywhere else, and on the other
backends, they run Keras's own code. `enable()` puts them in place of Keras's, `executions(model)` says what ran.

| kernel | where | what |
|---|---|---|
| `cudnn` | CUDA | tanh and sigmoid, SimpleRNN also relu; masks that leave every sequence one piece |
| `onednn` | CPU | LSTM, float32, tanh and sigmoid, no mask |
| `bptt` | both | everything else with tanh, sigmoid, relu or linear, any mask: a loop whose way back is written out |
| None | both | what `executions` gives the reason for: other activations, `reset_after=False`, `recurrent_dropout`, … |
"""

from keras_models.fast.layers import GRU, LSTM, Execution, SimpleRNN
from keras_models.fast.switch import disable, enable, executions

__all__ = ["GRU", "LSTM", "Execution", "SimpleRNN", "disable", "enable", "executions"]
