"""A tag for every word: two bidirectional layers with dropout between."""

import torch
from torch import nn

EXAMPLE = ["8,11:int<120"]


class Tagger(nn.Module):
    def __init__(self, words=120, tags=9, size=16, units=12):
        super().__init__()
        self.embedding = nn.Embedding(words, size)
        self.lstm = nn.LSTM(size, units, num_layers=2, bidirectional=True, dropout=0.2, batch_first=True)
        self.tags = nn.Linear(2 * units, tags)

    def forward(self, words):
        out, _ = self.lstm(self.embedding(words))
        return self.tags(out).permute(0, 2, 1)


def factory():
    torch.manual_seed(0)
    model = Tagger()
    return model, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=1e-3)
