"""A sequence classifier of nn.TransformerEncoderLayer with sinusoidal positions."""

import math

import torch
import torch.nn as nn


class PositionalEncoding(nn.Module):
    def __init__(self, d_model, max_len=32):
        super().__init__()
        position = torch.arange(max_len).unsqueeze(1)
        div_term = torch.exp(torch.arange(0, d_model, 2) * (-math.log(10000.0) / d_model))
        pe = torch.zeros(1, max_len, d_model)
        pe[0, :, 0::2] = torch.sin(position * div_term)
        pe[0, :, 1::2] = torch.cos(position * div_term)
        self.register_buffer("pe", pe)

    def forward(self, x):
        return x + self.pe[:, : x.size(1)]


class Classifier(nn.Module):
    def __init__(self, features=3, d_model=16, nhead=4, classes=5):
        super().__init__()
        self.d_model = d_model
        self.embed = nn.Linear(features, d_model)
        self.pos_encoder = PositionalEncoding(d_model)
        layer = nn.TransformerEncoderLayer(d_model, nhead, dim_feedforward=32, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, num_layers=2)
        self.head = nn.Linear(d_model, classes)

    def forward(self, src):
        x = self.embed(src) * math.sqrt(self.d_model)
        x = self.encoder(self.pos_encoder(x))
        return self.head(x.mean(dim=1))


def build(fill, draw):
    model = fill(Classifier())
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, betas=(0.9, 0.98), eps=1e-9)
    batches = [(torch.tensor(draw.normal(6, 10, 3)), torch.tensor(draw.labels(5, 6))) for _ in range(10)]
    return model, nn.CrossEntropyLoss(), optimizer, batches


def run(fill, draw):
    model, criterion, optimizer, batches = build(fill, draw)
    losses = []
    for src, label in batches:
        optimizer.zero_grad()
        loss = criterion(model(src), label)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses
