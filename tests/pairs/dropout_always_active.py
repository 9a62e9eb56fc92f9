"""F.dropout is not told whether the module trains."""

import numpy as np

batch_size = 16


def data():
    rng = np.random.default_rng(41)
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
            layers.Dropout(0.4),
            layers.Dense(1),
        ]
    )
    model.compile(optimizer=keras.optimizers.SGD(0.05), loss="mse")
    return model


def torch_side():
    import torch
    import torch.nn.functional as F
    from torch import nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru = nn.GRU(3, 10, batch_first=True)
            self.fc = nn.Linear(10, 1)

        def forward(self, x):
            out, _ = self.gru(x)
            return self.fc(F.dropout(out[:, -1], p=0.4))

    model = Net()
    return model, nn.MSELoss(), torch.optim.SGD(model.parameters(), lr=0.05)
