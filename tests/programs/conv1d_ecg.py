"""A one-dimensional convolutional network for ECG beats."""

import torch
import torch.nn as nn
import torch.nn.functional as F


class ECGNet(nn.Module):
    def __init__(self, num_classes=5):
        super(ECGNet, self).__init__()
        self.conv1 = nn.Conv1d(1, 8, kernel_size=5, padding=2)
        self.bn1 = nn.BatchNorm1d(8)
        self.conv2 = nn.Conv1d(8, 16, kernel_size=5, stride=2, padding=2)
        self.bn2 = nn.BatchNorm1d(16)
        self.conv3 = nn.Conv1d(16, 16, kernel_size=3, padding="same", dilation=2)
        self.pool = nn.MaxPool1d(kernel_size=2, stride=2)
        self.avgpool = nn.AdaptiveAvgPool1d(1)
        self.fc = nn.Linear(16, num_classes)

    def forward(self, x):
        x = self.pool(F.relu(self.bn1(self.conv1(x))))
        x = self.pool(F.relu(self.bn2(self.conv2(x))))
        x = F.leaky_relu(self.conv3(x), 0.1)
        x = self.avgpool(x)
        x = x.view(x.size(0), -1)
        return self.fc(x)


def build(fill, draw):
    model = fill(ECGNet())
    weights = torch.tensor([1.0, 2.0, 1.5, 0.5, 1.0], dtype=torch.get_default_dtype())
    criterion = nn.CrossEntropyLoss(weight=weights)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    batches = [(torch.from_numpy(draw.normal(8, 1, 96)), torch.from_numpy(draw.labels(5, 8))) for _ in range(10)]
    return model, criterion, optimizer, batches


def run(fill, draw):
    model, criterion, optimizer, batches = build(fill, draw)
    losses = []
    for signals, labels in batches:
        optimizer.zero_grad()
        outputs = model(signals)
        loss = criterion(outputs, labels.long())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        _, predicted = torch.max(outputs.data, 1)
        assert (predicted == labels).sum().item() <= 8
    return losses
