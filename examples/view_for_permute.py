"""A convolution before an LSTM, ported with one mistake: `view` where the axes should be exchanged.

python -m compare explain examples/view_for_permute.py
"""

import numpy as np

batch_size = 16


def data():
    """Forty-eight windows of fourteen timesteps with three features; the target is one number."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(48, 14, 3)).astype("float32")
    return x, x[:, -1:, 0] - x[:, -2:-1, 1]


def keras_side():
    """The model to be ported."""
    import keras

    model = keras.Sequential(
        [
            keras.Input((14, 3)),
            keras.layers.Conv1D(8, 3, activation="relu", padding="same"),
            keras.layers.MaxPooling1D(2),
            keras.layers.LSTM(12),
            keras.layers.Dense(1),
        ]
    )
    model.compile(keras.optimizers.SGD(0.05), "mse")
    return model


def torch_side():
    """The port: PyTorch's convolution makes (batch, channels, time), which the LSTM must not get as it is."""
    import torch

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv1d(3, 8, 3, padding=1)
            self.pool = torch.nn.MaxPool1d(2)
            self.lstm = torch.nn.LSTM(8, 12, batch_first=True)
            self.lstm.bias_hh_l0.data.zero_()
            self.lstm.bias_hh_l0.requires_grad_(False)  # Keras has one bias
            self.dense = torch.nn.Linear(12, 1)

        def forward(self, x):
            x = self.pool(torch.relu(self.conv(x.transpose(1, 2))))
            x = x.view(x.size(0), -1, 8)
            out, _ = self.lstm(x)
            return self.dense(out[:, -1])

    module = Network()
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return module, torch.nn.MSELoss(), torch.optim.SGD(trained, lr=0.05)
