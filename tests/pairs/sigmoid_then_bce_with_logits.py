"""BCEWithLogitsLoss on what has been through a sigmoid."""

import numpy as np

batch_size = 16


def data():
    rng = np.random.default_rng(8)
    x = rng.standard_normal((72, 8, 3)).astype("float32")
    return x, (x[:, -1, :1] > 0).astype("float32")


def keras_side():
    import keras
    from keras import layers

    model = keras.Sequential(
        [
            keras.Input((8, 3)),
            layers.LSTM(10),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile(optimizer=keras.optimizers.SGD(0.1), loss="binary_crossentropy")
    return model


def torch_side():
    import torch
    from torch import nn

    class Sentiment(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(3, 10, batch_first=True)
            self.fc = nn.Linear(10, 1)

        def forward(self, x):
            _, (h, _) = self.lstm(x)
            return torch.sigmoid(self.fc(h.squeeze(0)))

    model = Sentiment()
    for name, parameter in model.named_parameters():
        if "bias_hh" in name:
            parameter.requires_grad_(False)  # Keras has one bias
    return model, nn.BCEWithLogitsLoss(), torch.optim.SGD(model.parameters(), lr=0.1)
