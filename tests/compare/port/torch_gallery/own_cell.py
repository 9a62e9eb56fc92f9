"""A cell written by hand, in a loop over time."""

import torch
from torch import nn

EXAMPLE = ["16,6,3"]


class Cell(nn.Module):
    def __init__(self, input_size, hidden_size):
        super().__init__()
        self.x2h = nn.Linear(input_size, 4 * hidden_size)
        self.h2h = nn.Linear(hidden_size, 4 * hidden_size)

    def forward(self, x, state):
        h, c = state
        i, f, g, o = (self.x2h(x) + self.h2h(h)).chunk(4, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        return h, c


class Model(nn.Module):
    def __init__(self, input_size=3, hidden_size=10):
        super().__init__()
        self.hidden_size = hidden_size
        self.cell = Cell(input_size, hidden_size)
        self.fc = nn.Linear(hidden_size, 1)

    def forward(self, x):
        h = x.new_zeros(x.size(0), self.hidden_size)
        c = torch.zeros_like(h)
        outputs = []
        for t in range(x.size(1)):
            h, c = self.cell(x[:, t], (h, c))
            outputs.append(h)
        return self.fc(torch.stack(outputs, dim=1))


def factory():
    torch.manual_seed(0)
    model = Model()
    return model, nn.SmoothL1Loss(), torch.optim.SGD(model.parameters(), lr=0.1)
