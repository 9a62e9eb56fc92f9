"""A mask in Keras, packed sequences in PyTorch."""

import numpy as np

batch_size = 16


def data():
    rng = np.random.default_rng(73)
    tokens = np.zeros((72, 9), dtype="int64")
    for row in tokens:
        length = rng.integers(3, 10)
        row[:length] = rng.integers(1, 20, length)
    return tokens, (tokens.sum(1, keepdims=True) % 2).astype("float32")


def keras_side():
    import keras
    from keras import layers

    model = keras.Sequential(
        [
            keras.Input((9,)),
            layers.Embedding(20, 6, mask_zero=True),
            layers.GRU(10),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile(optimizer=keras.optimizers.SGD(0.1), loss="binary_crossentropy")
    return model


def torch_side():
    import torch
    from torch import nn
    from torch.nn.utils.rnn import pack_padded_sequence

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(20, 6)
            self.gru = nn.GRU(6, 10, batch_first=True)
            self.fc = nn.Linear(10, 1)

        def forward(self, x):
            lengths = (x != 0).sum(1)
            packed = pack_padded_sequence(self.embedding(x), lengths, batch_first=True, enforce_sorted=False)
            _, h = self.gru(packed)
            return self.fc(h[-1])

    model = Net()
    return model, nn.BCEWithLogitsLoss(), torch.optim.SGD(model.parameters(), lr=0.1)
