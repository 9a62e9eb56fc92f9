"""Softmax and crossentropy in Keras, logits and CrossEntropyLoss in PyTorch."""

import numpy as np

batch_size = 16


def data():
    rng = np.random.default_rng(72)
    x = rng.standard_normal((72, 8, 3)).astype("float32")
    return x, rng.integers(0, 4, 72)


def keras_side():
    import keras
    from keras import layers

    model = keras.Sequential(
        [
            keras.Input((8, 3)),
            layers.SimpleRNN(10),
            layers.Dense(8, activation="relu"),
            layers.Dense(4, activation="softmax"),
        ]
    )
    model.compile(optimizer=keras.optimizers.SGD(0.05), loss="sparse_categorical_crossentropy")
    return model


def torch_side():
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.RNN(3, 10, batch_first=True)
            self.hidden = nn.Linear(10, 8)
            self.fc = nn.Linear(8, 4)

        def forward(self, x):
            _, h = self.rnn(x)
            return self.fc(torch.relu(self.hidden(h[0])))

    model = Net()
    for name, parameter in model.named_parameters():
        if "bias_hh" in name:
            parameter.requires_grad_(False)  # Keras has one bias
    return model, nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=0.05)
