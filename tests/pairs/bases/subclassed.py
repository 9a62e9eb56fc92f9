"""A subclassed Keras model and a schedule, per step on both sides."""

import numpy as np

batch_size = 16


def data():
    rng = np.random.default_rng(77)
    x = rng.standard_normal((72, 8, 2)).astype("float32")
    return x, np.cumsum(x[..., :1], axis=1).astype("float32") / 4


def keras_side():
    import keras
    from keras import layers

    class Tagger(keras.Model):
        def __init__(self):
            super().__init__()
            self.recurrent = layers.SimpleRNN(9, return_sequences=True)
            self.head = layers.TimeDistributed(layers.Dense(1))

        def call(self, x, training=False):
            return self.head(self.recurrent(x))

    model = Tagger()
    schedule = keras.optimizers.schedules.ExponentialDecay(0.05, 1, 0.9)
    model.compile(optimizer=keras.optimizers.SGD(schedule), loss="mse")
    return model


def torch_side():
    import torch
    from torch import nn

    class Tagger(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.RNN(2, 9, batch_first=True)
            self.head = nn.Linear(9, 1)

        def forward(self, x):
            return self.head(self.rnn(x)[0])

    model = Tagger()
    for name, parameter in model.named_parameters():
        if "bias_hh" in name:
            parameter.requires_grad_(False)  # Keras has one bias
    return model, nn.MSELoss(), torch.optim.SGD(model.parameters(), lr=0.05)


def scheduler(optimizer):
    import torch

    return torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.9)
