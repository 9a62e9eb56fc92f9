"""A functional model with two layers and a leaky slope."""

import numpy as np

batch_size = 16


def data():
    rng = np.random.default_rng(78)
    x = rng.standard_normal((72, 8, 3)).astype("float32")
    y = (x[:, -1, :1] - 0.5 * x[:, 0, 1:2] + 0.1 * rng.standard_normal((72, 1))).astype("float32")
    return x, y


def keras_side():
    import keras
    from keras import layers

    inputs = keras.Input((8, 3))
    x = layers.Bidirectional(layers.GRU(6, return_sequences=True), merge_mode="concat")(inputs)
    x = layers.GRU(8)(x)
    x = layers.Dense(6)(x)
    x = layers.LeakyReLU(negative_slope=0.01)(x)
    outputs = layers.Dense(1)(x)
    model = keras.Model(inputs, outputs)
    model.compile(optimizer=keras.optimizers.SGD(0.05), loss=keras.losses.Huber(delta=0.5))
    return model


def torch_side():
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.GRU(3, 6, batch_first=True, bidirectional=True)
            self.second = nn.GRU(12, 8, batch_first=True)
            self.hidden = nn.Linear(8, 6)
            self.fc = nn.Linear(6, 1)

        def forward(self, x):
            x, _ = self.first(x)
            _, h = self.second(x)
            return self.fc(nn.functional.leaky_relu(self.hidden(h[-1])))

    model = Net()
    return model, nn.HuberLoss(delta=0.5), torch.optim.SGD(model.parameters(), lr=0.05)
