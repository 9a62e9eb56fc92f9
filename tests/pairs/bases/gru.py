"""A correct port of a GRU."""

import numpy as np

batch_size = 16


def data():
    rng = np.random.default_rng(100)
    t = np.arange(90)
    series = np.sin(t / 5) + 0.1 * rng.standard_normal(90)
    windows = np.stack([series[i : i + 10] for i in range(72)])
    return windows[..., None].astype("float32"), series[10:82, None].astype("float32")


def keras_side():
    import keras
    from keras import layers

    model = keras.Sequential(
        [
            keras.Input((10, 1)),
            layers.GRU(12),
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
            self.gru = nn.GRU(1, 12, batch_first=True)
            self.fc = nn.Linear(12, 1)

        def forward(self, x):
            return self.fc(self.gru(x)[0][:, -1])

    model = Net()
    return model, nn.MSELoss(), torch.optim.SGD(model.parameters(), lr=0.05)
