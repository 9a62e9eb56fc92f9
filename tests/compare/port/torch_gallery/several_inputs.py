"""A series and what is known of it, to a forecast of several steps with its uncertainty."""

import torch
from torch import nn
from torch.nn import functional as F

EXAMPLE = ["16,14,2", "16,5"]


class Several(nn.Module):
    def __init__(self, features=2, known=5, units=18, horizon=3):
        super().__init__()
        self.gru = nn.GRU(features, units, batch_first=True)
        self.static = nn.Sequential(nn.Linear(known, 8), nn.ReLU(), nn.LayerNorm(8))
        self.mean = nn.Linear(units + 8, horizon)
        self.scale = nn.Linear(units + 8, horizon)

    def forward(self, series, known):
        out, h = self.gru(series)
        joined = torch.cat([h[-1], self.static(known)], dim=-1)
        return self.mean(joined), F.softplus(self.scale(joined)) + 1e-3


def loss(outputs, target):
    mean, scale = outputs
    return (torch.log(scale) + 0.5 * ((target - mean) / scale) ** 2).mean()


def factory():
    torch.manual_seed(0)
    model = Several()
    return model, loss, torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-4)
