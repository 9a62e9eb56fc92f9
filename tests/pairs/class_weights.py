"""Class weights in PyTorch's loss alone."""

import numpy as np

batch_size = 16


def data():
    rng = np.random.default_rng(15)
    x = rng.standard_normal((72, 8, 3)).astype("float32")
    return x, rng.integers(0, 4, 72)


def keras_side():
    import keras
    from keras import layers

    model = keras.Sequential(
        [
            keras.Input((8, 3)),
            layers.LSTM(10),
            layers.Dense(4, activation="softmax"),
        ]
    )
    model.compile(optimizer=keras.optimizers.SGD(0.05), loss="sparse_categorical_crossentropy")
    return model


def torch_side():
    import torch
    from torch import nn

    class Tagger(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(3, 10, batch_first=True)
            self.fc = nn.Linear(10, 4)

        def forward(self, x):
            _, (h, c) = self.lstm(x)
            return self.fc(h[-1])

    model = Tagger()
    for name, parameter in model.named_parameters():
        if "bias_hh" in name:
            parameter.requires_grad_(False)  # Keras has one bias
    return (
        model,
        nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 0.5, 1.5])),
        torch.optim.SGD(model.parameters(), lr=0.05),
    )
