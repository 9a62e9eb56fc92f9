"""The window is transposed for a layer that is batch first."""

import numpy as np

batch_size = 16


def data():
    rng = np.random.default_rng(3)
    x = rng.standard_normal((72, 8, 3)).astype("float32")
    y = (x[:, -1, :1] - 0.5 * x[:, 0, 1:2] + 0.1 * rng.standard_normal((72, 1))).astype("float32")
    return x, y


def keras_side():
    import keras
    from keras import layers

    model = keras.Sequential(
        [
            keras.Input((8, 3)),
            layers.GRU(9),
            layers.Dense(1),
        ]
    )
    model.compile(optimizer=keras.optimizers.SGD(0.05), loss="mse")
    return model


def torch_side():
    import torch
    from torch import nn

    class Regressor(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru = nn.GRU(3, 9, batch_first=True)
            self.out = nn.Linear(9, 1)

        def forward(self, x):
            x = x.permute(1, 0, 2)  # (seq, batch, feature)
            output, hidden = self.gru(x)
            return self.out(output[-1])

    model = Regressor()
    return model, nn.MSELoss(), torch.optim.SGD(model.parameters(), lr=0.05)
