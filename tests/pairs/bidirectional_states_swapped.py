"""The last states are joined in the wrong order."""

import numpy as np

batch_size = 16


def data():
    rng = np.random.default_rng(6)
    x = rng.standard_normal((72, 8, 3)).astype("float32")
    y = (x[:, -1, :1] - 0.5 * x[:, 0, 1:2] + 0.1 * rng.standard_normal((72, 1))).astype("float32")
    return x, y


def keras_side():
    import keras
    from keras import layers

    model = keras.Sequential(
        [
            keras.Input((8, 3)),
            layers.Bidirectional(layers.GRU(7)),
            layers.Dense(1),
        ]
    )
    model.compile(optimizer=keras.optimizers.SGD(0.05), loss="mse")
    return model


def torch_side():
    import torch
    from torch import nn

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.GRU(3, 7, batch_first=True, bidirectional=True)
            self.fc = nn.Linear(14, 1)

        def forward(self, x):
            _, h = self.rnn(x)
            return self.fc(torch.cat((h[1], h[0]), dim=1))

    model = Encoder()
    return model, nn.MSELoss(), torch.optim.SGD(model.parameters(), lr=0.05)
