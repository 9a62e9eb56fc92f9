"""Encoder and decoder with attention, trained with the sentence that is to come."""

import torch
from torch import nn
from torch.nn import functional as F

EXAMPLE = ["6,9:int<50", "6,7:int<60"]


class Encoder(nn.Module):
    def __init__(self, vocabulary, size, units):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, size)
        self.gru = nn.GRU(size, units, batch_first=True)

    def forward(self, tokens):
        return self.gru(self.embedding(tokens))


class Attention(nn.Module):
    def __init__(self, units):
        super().__init__()
        self.query = nn.Linear(units, units, bias=False)

    def forward(self, states, memory):
        scores = torch.bmm(self.query(states), memory.transpose(1, 2))
        return torch.bmm(F.softmax(scores, dim=-1), memory)


class Translator(nn.Module):
    def __init__(self, source=50, target=60, size=12, units=20):
        super().__init__()
        self.encoder = Encoder(source, size, units)
        self.embedding = nn.Embedding(target, size)
        self.decoder = nn.GRU(size, units, batch_first=True)
        self.attention = Attention(units)
        self.fc = nn.Linear(2 * units, target)

    def forward(self, source, target):
        memory, state = self.encoder(source)
        states, _ = self.decoder(self.embedding(target), state)
        context = self.attention(states, memory)
        return self.fc(torch.cat([states, context], dim=-1))


def loss(logits, target):
    return F.cross_entropy(logits.transpose(1, 2), target)


def factory():
    torch.manual_seed(0)
    model = Translator()
    return model, loss, torch.optim.AdamW(model.parameters(), lr=2e-3)
