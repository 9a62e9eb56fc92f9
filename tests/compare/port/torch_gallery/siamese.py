"""Two sentences by one encoder, and how alike they are."""

import torch
from torch import nn

EXAMPLE = ["8,10:int<90", "8,10:int<90"]


class Siamese(nn.Module):
    def __init__(self, words=90, size=12, units=14):
        super().__init__()
        self.embedding = nn.Embedding(words, size)
        self.encoder = nn.LSTM(size, units, batch_first=True, bidirectional=True)

    def encode(self, words):
        _, (h, _) = self.encoder(self.embedding(words))
        return torch.cat((h[-2], h[-1]), dim=1)

    def forward(self, left, right):
        left, right = self.encode(left), self.encode(right)
        return torch.exp(-torch.abs(left - right).sum(dim=1))


def factory():
    torch.manual_seed(0)
    model = Siamese()
    return model, nn.MSELoss(), torch.optim.Adadelta(model.parameters())
