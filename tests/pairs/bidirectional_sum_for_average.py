"""Keras averages both directions, the port adds them."""

import numpy as np

batch_size = 16


def data():
    rng = np.random.default_rng(5)
    x = rng.standard_normal((72, 8, 3)).astype("float32")
    y = (x[:, -1, :1] - 0.5 * x[:, 0, 1:2] + 0.1 * rng.standard_normal((72, 1))).astype("float32")
    return x, y


def keras_side():
    import keras
    from keras import layers

    model = keras.Sequential(
        [
            keras.Input((8, 3)),
            layers.Bidirectional(layers.GRU(7), merge_mode="ave"),
            layers.Dense(1),
        ]
    )
    model.compile(optimizer=keras.optimizers.SGD(0.05), loss="mse")
    return model


def torch_side():
    import torch
    from torch import nn

    class BiGRU(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru = nn.GRU(3, 7, batch_first=True, bidirectional=True)
            self.fc = nn.Linear(7, 1)

        def forward(self, x):
            _, h = self.gru(x)
            return self.fc(h[0] + h[1])

    model = BiGRU()
    return model, nn.MSELoss(), torch.optim.SGD(model.parameters(), lr=0.05)
