"""Keras's GRU weights copied without reordering the gates."""

import numpy as np

batch_size = 16
parameter_map = {
    "gru.weight_ih_l0": lambda keras: keras["gru/kernel"].T,
    "gru.weight_hh_l0": lambda keras: keras["gru/recurrent_kernel"].T,
    "gru.bias_ih_l0": lambda keras: keras["gru/bias"][0],
    "gru.bias_hh_l0": lambda keras: keras["gru/bias"][1],
}


def data():
    rng = np.random.default_rng(16)
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
            layers.GRU(12, name="gru"),
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
