"""A plain port of an LSTM forecaster: PyTorch trains two biases where Keras has one."""

import numpy as np

batch_size = 16


def data():
    rng = np.random.default_rng(0)
    t = np.arange(120)
    series = np.sin(t / 5) + 0.1 * rng.standard_normal(120)
    inputs = np.stack([series[i : i + 12] for i in range(100)])[..., None]
    return inputs.astype("float32"), series[12:112, None].astype("float32")


def keras_side():
    import keras

    model = keras.Sequential([keras.layers.Input((12, 1)), keras.layers.LSTM(16), keras.layers.Dense(1)])
    model.compile(optimizer=keras.optimizers.SGD(0.05), loss="mse")
    return model


def torch_side():
    import torch
    from torch import nn

    class Forecaster(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(1, 16, batch_first=True)
            self.head = nn.Linear(16, 1)

        def forward(self, x):
            out, _ = self.lstm(x)
            return self.head(out[:, -1])

    model = Forecaster()
    return model, nn.MSELoss(), torch.optim.SGD(model.parameters(), lr=0.05)
