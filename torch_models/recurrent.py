"""SimpleRNN, LSTM and GRU models in native PyTorch; `keras_models/recurrent.py` is their mirror."""

import torch
from torch import nn

CELLS = {
    "simple_rnn": nn.RNN,
    "lstm": nn.LSTM,
    "gru": nn.GRU,
}


class Recurrent(nn.Module):
    """A stack of recurrent layers with a linear head on the last output."""

    def __init__(self, cell: str, features: int, units: int, outputs: int, layers: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.cell = cell
        # One module a layer, as Keras stacks them, so that what stands between layers can be the same too.
        self.layers = nn.ModuleList(
            CELLS[cell](features if index == 0 else units, units, batch_first=True, dtype=dtype)
            for index in range(layers)
        )
        self.head = nn.Linear(units, outputs, dtype=dtype)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Map (batch, time, features) to (batch, outputs)."""
        sequence = inputs
        for layer in self.layers:
            sequence, _ = layer(sequence)
        return self.head(sequence[:, -1])


def build(
    *,
    cell: str,
    features: int = 1,
    units: int = 50,
    outputs: int = 1,
    layers: int = 1,
    dtype: str = "float32",
) -> Recurrent:
    """Build a stack of recurrent layers with a linear head on the last output.

    Input (batch, time, features), output (batch, outputs); any number of timesteps. LSTM and SimpleRNN get the one
    trainable bias that Keras has; `train_both_biases` undoes that.
    Raises ValueError for an unknown cell or a size below 1.
    """
    if cell not in CELLS:
        raise ValueError(f"cell={cell!r} is unknown; accepted: {', '.join(CELLS)}")
    for name, size in {"features": features, "units": units, "outputs": outputs, "layers": layers}.items():
        if size < 1:
            raise ValueError(f"{name}={size} must be at least 1")

    model = Recurrent(cell, features, units, outputs, layers, getattr(torch, dtype))
    if cell != "gru":  # Keras's GRU has two biases too, because reset_after applies the reset between them
        for layer in model.layers:
            nn.init.zeros_(layer.bias_hh_l0)
            layer.bias_hh_l0.requires_grad_(False)
    return model


def train_both_biases(model: Recurrent) -> None:
    """Make the second bias of every layer trainable again, as stock PyTorch has it."""
    for layer in model.layers:
        layer.bias_hh_l0.requires_grad_(True)
