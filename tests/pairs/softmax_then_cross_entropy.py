"""nn.CrossEntropyLoss after a softmax."""

import numpy as np

batch_size = 16


def data():
    rng = np.random.default_rng(7)
    x = rng.standard_normal((72, 8, 3)).astype("float32")
    return x, rng.integers(0, 4, 72)


def keras_side():
    import keras
    from keras import layers

    model = keras.Sequential(
        [
            keras.Input((8, 3)),
            layers.GRU(10),
            layers.Dense(4, activation="softmax"),
        ]
    )
    model.compile(optimizer=keras.optimizers.SGD(0.1), loss="sparse_categorical_crossentropy")
    return model


def torch_side():
    import torch
    from torch import nn

    class Classifier(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru = nn.GRU(3, 10, batch_first=True)
            self.fc = nn.Linear(10, 4)
            self.softmax = nn.Softmax(dim=1)

        def forward(self, x):
            _, h = self.gru(x)
            return self.softmax(self.fc(h[-1]))

    model = Classifier()
    return model, nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=0.1)
