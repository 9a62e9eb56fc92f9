"""The training step draws its batches from a DataLoader of its own, which shuffles."""

import numpy as np

batch_size = 16


def data():
    rng = np.random.default_rng(93)
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
    from torch.utils.data import DataLoader, TensorDataset

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru = nn.GRU(1, 12, batch_first=True)
            self.fc = nn.Linear(12, 1)

        def forward(self, x):
            return self.fc(self.gru(x)[0][:, -1])

    model = Net()
    x, y = data()
    model.loader = DataLoader(TensorDataset(torch.tensor(x), torch.tensor(y)), batch_size=batch_size, shuffle=True)
    return model, nn.MSELoss(), torch.optim.SGD(model.parameters(), lr=0.05)


def torch_step(module, loss, optimizer, x, y):
    x, y = next(iter(module.loader))
    optimizer.zero_grad()
    loss(module(x), y).backward()
    optimizer.step()
