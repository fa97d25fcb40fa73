"""Multi-label classification: BCEWithLogitsLoss with pos_weight, F1 by thresholds."""

import torch
import torch.nn as nn


class MultiLabelNet(nn.Module):
    def __init__(self, features=16, labels=5):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(features, 32), nn.LayerNorm(32), nn.Softplus(), nn.Dropout(0.0), nn.Linear(32, labels)
        )

    def forward(self, x):
        return self.net(x)


def f1(outputs, targets):
    preds = (torch.sigmoid(outputs) > 0.5).float()
    tp = (preds * targets).sum(0)
    fp = (preds * (1 - targets)).sum(dim=0)
    fn = ((1 - preds) * targets).sum(axis=0)
    return (2 * tp / (2 * tp + fp + fn + 1e-8)).mean()


def build(fill, draw):
    model = fill(MultiLabelNet())
    targets = (torch.from_numpy(draw.uniform(10, 12, 5)) < 0.3).to(torch.get_default_dtype())
    positives = targets.reshape(-1, 5).sum(0)
    pos_weight = (120 - positives) / positives.clamp(min=1)
    criterion = nn.BCEWithLogitsLoss(pos_weight=pos_weight)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    x = torch.from_numpy(draw.normal(10, 12, 16))
    return model, criterion, optimizer, list(zip(x, targets))


def run(fill, draw):
    model, criterion, optimizer, batches = build(fill, draw)
    losses = []
    for x, y in batches:
        model.train()
        outputs = model(x)
        loss = criterion(outputs, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert 0 <= f1(outputs.detach(), y).item() <= 1
        losses.append(loss.item())
    return losses
