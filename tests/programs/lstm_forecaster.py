"""An LSTM that forecasts a series: batch_first, h0 and c0 made in forward, the last step's output."""

import torch
import torch.nn as nn


class LSTMModel(nn.Module):
    def __init__(self, input_dim, hidden_dim, layer_dim, output_dim):
        super(LSTMModel, self).__init__()
        self.hidden_dim = hidden_dim
        self.layer_dim = layer_dim
        self.lstm = nn.LSTM(input_dim, hidden_dim, layer_dim, batch_first=True)
        self.fc = nn.Linear(hidden_dim, output_dim)

    def forward(self, x):
        h0 = torch.zeros(self.layer_dim, x.size(0), self.hidden_dim, dtype=x.dtype).requires_grad_()
        c0 = torch.zeros(self.layer_dim, x.size(0), self.hidden_dim, dtype=x.dtype).requires_grad_()
        out, (hn, cn) = self.lstm(x, (h0.detach(), c0.detach()))
        out = self.fc(out[:, -1, :])
        return out


def build(fill, draw):
    model = fill(LSTMModel(1, 12, 2, 1))
    criterion = nn.MSELoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    batches = [(torch.tensor(draw.normal(8, 14, 1)), torch.tensor(draw.normal(8, 1))) for _ in range(10)]
    return model, criterion, optimizer, batches


def run(fill, draw):
    model, criterion, optimizer, batches = build(fill, draw)
    hist = []
    for x_train, y_train in batches:
        y_train_pred = model(x_train)
        loss = criterion(y_train_pred, y_train)
        hist.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return hist
