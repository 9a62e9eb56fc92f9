"""Sentiment of a review: embedding, packed LSTM, the last state."""

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

EXAMPLE = ["8,12:int<200", "8:1<=int<13"]


class Sentiment(nn.Module):
    def __init__(self, vocabulary=200, size=16, units=24):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, size, padding_idx=0)
        self.lstm = nn.LSTM(size, units, batch_first=True)
        self.dropout = nn.Dropout(0.3)
        self.fc = nn.Linear(units, 1)

    def forward(self, tokens, lengths):
        embedded = self.embedding(tokens)
        packed = pack_padded_sequence(embedded, lengths.cpu(), batch_first=True, enforce_sorted=False)
        _, (hidden, _) = self.lstm(packed)
        return self.fc(self.dropout(hidden[-1])).squeeze(1)


def factory():
    torch.manual_seed(0)
    model = Sentiment()
    return model, nn.BCEWithLogitsLoss(), torch.optim.Adam(model.parameters(), lr=1e-3)
