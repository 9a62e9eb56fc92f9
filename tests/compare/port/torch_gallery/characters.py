"""A character model that takes its state and gives it back, time first."""

import torch
from torch import nn

EXAMPLE = ["16,8b:int<40", "2,8b,24", "2,8b,24"]


class CharRNN(nn.Module):
    def __init__(self, characters=40, units=24):
        super().__init__()
        self.encoder = nn.Embedding(characters, units)
        self.rnn = nn.LSTM(units, units, 2)
        self.decoder = nn.Linear(units, characters)

    def forward(self, text, h, c):
        out, (h, c) = self.rnn(self.encoder(text), (h, c))
        return self.decoder(out), h, c


def factory():
    torch.manual_seed(0)
    return CharRNN()
