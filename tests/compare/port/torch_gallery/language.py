"""A language model whose state goes from batch to batch, with tied weights."""

import torch
from torch import nn

EXAMPLE = ["4,10:int<80", "1,4b,32", "1,4b,32"]


class Language(nn.Module):
    def __init__(self, words=80, units=32, rate=0.2):
        super().__init__()
        self.drop = nn.Dropout(rate)
        self.encoder = nn.Embedding(words, units)
        self.lstm = nn.LSTM(units, units, batch_first=True)
        self.decoder = nn.Linear(units, words)
        self.decoder.weight = self.encoder.weight

    def forward(self, tokens, h, c):
        out, (h, c) = self.lstm(self.drop(self.encoder(tokens)), (h, c))
        return self.decoder(self.drop(out)), (h.detach(), c.detach())


def loss(result, target):
    logits, _ = result
    return nn.functional.cross_entropy(logits.reshape(-1, logits.size(-1)), target.reshape(-1))


def factory():
    torch.manual_seed(0)
    model = Language()
    return model, loss, torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
