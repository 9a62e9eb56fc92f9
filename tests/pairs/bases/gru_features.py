"""A correct port of a GRU that reads three features."""

import numpy as np

batch_size = 16


def data():
    rng = np.random.default_rng(101)
    x = rng.standard_normal((72, 8, 3)).astype("float32")
    y = (x[:, -1, :1] - 0.5 * x[:, 0, 1:2] + 0.1 * rng.standard_normal((72, 1))).astype("float32")
    return x, y


def keras_side():
    import keras
    from keras import layers

    model = keras.Sequential(
        [
            keras.Input((8, 3)),
            layers.GRU(10),
            layers.Dense(1),
        ]
    )
    model.compile(optimizer=keras.optimizers.SGD(0.05), loss="mse")
    return model


def torch_side():
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru = nn.GRU(3, 10, batch_first=True)
            self.fc = nn.Linear(10, 1)

        def forward(self, x):
            return self.fc(self.gru(x)[0][:, -1])

    model = Net()
    return model, nn.MSELoss(), torch.optim.SGD(model.parameters(), lr=0.05)
