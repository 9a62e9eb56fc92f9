"""A convolution over the signal before an LSTM, with batch normalisation and pooling."""

import torch
import torch.nn.functional as F
from torch import nn

EXAMPLE = ["16,20,3"]


class ConvLSTM(nn.Module):
    def __init__(self, features=3, channels=8, units=12, classes=4):
        super().__init__()
        self.conv = nn.Conv1d(features, channels, kernel_size=3, padding=1)
        self.bn = nn.BatchNorm1d(channels)
        self.pool = nn.MaxPool1d(2)
        self.lstm = nn.LSTM(channels, units, batch_first=True)
        self.fc = nn.Linear(units, classes)

    def forward(self, x):
        x = x.permute(0, 2, 1)
        x = self.pool(F.relu(self.bn(self.conv(x))))
        x = x.permute(0, 2, 1)
        _, (h, _) = self.lstm(x)
        return F.log_softmax(self.fc(h.squeeze(0)), dim=1)


def factory():
    torch.manual_seed(0)
    model = ConvLSTM()
    return model, nn.NLLLoss(), torch.optim.RMSprop(model.parameters(), lr=1e-3)
