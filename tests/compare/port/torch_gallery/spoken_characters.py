"""A linear layer for every timestep before and after a recurrent one, by views."""

import torch
from torch import nn

EXAMPLE = ["8,15,13"]


class Speech(nn.Module):
    def __init__(self, features=13, units=16, characters=29):
        super().__init__()
        self.fc1 = nn.Linear(features, units)
        self.rnn = nn.RNN(units, units, nonlinearity="relu", bidirectional=True)
        self.fc2 = nn.Linear(units, characters)
        self.units = units

    def forward(self, x):
        batch, steps, features = x.size()
        x = x.contiguous().view(batch * steps, features)
        x = torch.clamp(self.fc1(x), 0, 20)
        x = x.view(batch, steps, self.units).transpose(0, 1)
        out, _ = self.rnn(x)
        out = out[:, :, : self.units] + out[:, :, self.units :]
        return self.fc2(out).transpose(0, 1)


def loss(logits, target):
    return nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten())


def factory():
    torch.manual_seed(0)
    model = Speech()
    return model, loss, torch.optim.Adagrad(model.parameters(), lr=0.01)
