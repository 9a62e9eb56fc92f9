"""A correct port of a bidirectional LSTM."""

import numpy as np

batch_size = 16


def data():
    rng = np.random.default_rng(70)
    x = rng.standard_normal((72, 8, 3)).astype("float32")
    y = (x[:, -1, :1] - 0.5 * x[:, 0, 1:2] + 0.1 * rng.standard_normal((72, 1))).astype("float32")
    return x, y


def keras_side():
    import keras
    from keras import layers

    model = keras.Sequential(
        [
            keras.Input((8, 3)),
            layers.Bidirectional(layers.LSTM(7)),
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
            self.lstm = nn.LSTM(3, 7, batch_first=True, bidirectional=True)
            self.fc = nn.Linear(14, 1)

        def forward(self, x):
            _, (h, _) = self.lstm(x)
            return self.fc(torch.cat([h[-2], h[-1]], dim=1))

    model = Net()
    for name, parameter in model.named_parameters():
        if "bias_hh" in name:
            parameter.requires_grad_(False)  # Keras has one bias
    return model, nn.MSELoss(), torch.optim.SGD(model.parameters(), lr=0.05)
