"""DS-CNN for keyword spotting: depthwise separable convolutions on MFCC features."""

import torch
import torch.nn as nn


class DepthwiseSeparable(nn.Module):
    def __init__(self, nin, nout):
        super().__init__()
        self.depthwise = nn.Conv2d(nin, nin, kernel_size=3, padding=1, groups=nin)
        self.bn1 = nn.BatchNorm2d(nin)
        self.relu1 = nn.ReLU()
        self.pointwise = nn.Conv2d(nin, nout, kernel_size=1)
        self.bn2 = nn.BatchNorm2d(nout)
        self.relu2 = nn.ReLU()

    def forward(self, x):
        x = self.relu1(self.bn1(self.depthwise(x)))
        return self.relu2(self.bn2(self.pointwise(x)))


class DSCNN(nn.Module):
    def __init__(self, n_classes=12, width=12):
        super().__init__()
        self.pad1 = nn.ZeroPad2d((1, 1, 4, 5))
        self.conv1 = nn.Conv2d(1, width, kernel_size=(10, 4), stride=(2, 2))
        self.bn1 = nn.BatchNorm2d(width, momentum=0.01)
        self.relu1 = nn.ReLU()
        self.dpout1 = nn.Dropout(0.0)
        self.layers = nn.Sequential(*[DepthwiseSeparable(width, width) for _ in range(3)])
        self.avg = nn.AvgPool2d(kernel_size=(13, 5))
        self.out = nn.Linear(width, n_classes)

    def forward(self, input):
        x = self.pad1(input)
        x = self.relu1(self.bn1(self.conv1(x)))
        x = self.layers(self.dpout1(x))
        x = self.avg(x)
        x = torch.squeeze(x, 3)
        x = torch.squeeze(x, 2)
        return self.out(x)


def build(fill, draw):
    model = fill(DSCNN())
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-4)
    batches = [(torch.tensor(draw.normal(6, 1, 25, 10)), torch.tensor(draw.labels(12, 6))) for _ in range(10)]
    return model, nn.CrossEntropyLoss(), optimizer, batches


def run(fill, draw):
    model, criterion, optimizer, batches = build(fill, draw)
    train_running_loss = []
    for sample, target in batches:
        output = model(sample)
        loss = criterion(output, target)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        train_running_loss.append(loss.item())
    return train_running_loss
