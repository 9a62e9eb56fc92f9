"""An LSTM autoencoder: the last state, repeated, is unfolded again."""

import torch
from torch import nn

EXAMPLE = ["16,12,2"]


class Autoencoder(nn.Module):
    def __init__(self, features=2, units=16):
        super().__init__()
        self.encoder = nn.LSTM(features, units, batch_first=True)
        self.decoder = nn.LSTM(units, units, batch_first=True)
        self.output = nn.Linear(units, features)

    def forward(self, x):
        batch, steps, _ = x.shape
        _, (code, _) = self.encoder(x)
        code = code[-1].unsqueeze(1).repeat(1, steps, 1)
        decoded, _ = self.decoder(code)
        return self.output(decoded)


def factory():
    torch.manual_seed(0)
    model = Autoencoder()
    return model, nn.L1Loss(), torch.optim.Adam(model.parameters())
