"""DenseNet with bottlenecks, transitions and concatenation."""

import torch
import torch.nn as nn
import torch.nn.functional as F


class Bottleneck(nn.Module):
    def __init__(self, in_planes, growth_rate):
        super(Bottleneck, self).__init__()
        self.bn1 = nn.BatchNorm2d(in_planes)
        self.conv1 = nn.Conv2d(in_planes, 4 * growth_rate, kernel_size=1, bias=False)
        self.bn2 = nn.BatchNorm2d(4 * growth_rate)
        self.conv2 = nn.Conv2d(4 * growth_rate, growth_rate, kernel_size=3, padding=1, bias=False)

    def forward(self, x):
        out = self.conv1(F.relu(self.bn1(x)))
        out = self.conv2(F.relu(self.bn2(out)))
        out = torch.cat([out, x], 1)
        return out


class Transition(nn.Module):
    def __init__(self, in_planes, out_planes):
        super(Transition, self).__init__()
        self.bn = nn.BatchNorm2d(in_planes)
        self.conv = nn.Conv2d(in_planes, out_planes, kernel_size=1, bias=False)

    def forward(self, x):
        out = self.conv(F.relu(self.bn(x)))
        out = F.avg_pool2d(out, 2)
        return out


class DenseNet(nn.Module):
    def __init__(self, growth_rate=4, num_classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, kernel_size=3, padding=1, bias=False)
        self.dense1 = nn.Sequential(*[Bottleneck(8 + i * growth_rate, growth_rate) for i in range(3)])
        self.trans1 = Transition(20, 10)
        self.dense2 = nn.Sequential(*[Bottleneck(10 + i * growth_rate, growth_rate) for i in range(2)])
        self.bn = nn.BatchNorm2d(18)
        self.linear = nn.Linear(18, num_classes)

    def forward(self, x):
        out = self.conv1(x)
        out = self.trans1(self.dense1(out))
        out = self.dense2(out)
        out = F.adaptive_avg_pool2d(F.relu(self.bn(out)), (1, 1))
        out = torch.flatten(out, 1)
        out = self.linear(out)
        return out


def build(fill, draw):
    device = "cuda" if torch.cuda.is_available() else "cpu"
    net = fill(DenseNet()).to(device)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, nesterov=True)
    batches = [(torch.from_numpy(draw.normal(6, 3, 12, 12)), torch.from_numpy(draw.labels(10, 6))) for _ in range(10)]
    return net, criterion, optimizer, batches


def run(fill, draw):
    net, criterion, optimizer, batches = build(fill, draw)
    net.train()
    losses, correct, total = [], 0, 0
    for inputs, targets in batches:
        optimizer.zero_grad()
        outputs = net(inputs)
        loss = criterion(outputs, targets)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        _, predicted = outputs.max(1)
        total += targets.size(0)
        correct += predicted.eq(targets).sum().item()
    assert 0 <= correct <= total == 60
    return losses
