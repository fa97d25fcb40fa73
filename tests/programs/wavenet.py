"""Dilated causal convolutions with gates, residuals and skips, on sequences."""

import torch
import torch.nn as nn
import torch.nn.functional as F


class CausalConv1d(nn.Conv1d):
    def __init__(self, in_channels, out_channels, kernel_size, dilation=1):
        self.left = (kernel_size - 1) * dilation
        super().__init__(in_channels, out_channels, kernel_size, padding=0, dilation=dilation)

    def forward(self, input):
        return super().forward(F.pad(input, (self.left, 0)))


class Block(nn.Module):
    def __init__(self, channels, dilation):
        super().__init__()
        self.conv = CausalConv1d(channels, 2 * channels, 2, dilation)
        self.res = nn.Conv1d(channels, channels, 1)
        self.skip = nn.Conv1d(channels, channels, 1)

    def forward(self, x):
        f, g = self.conv(x).chunk(2, dim=1)
        z = torch.tanh(f) * torch.sigmoid(g)
        return x + self.res(z), self.skip(z)


class WaveNet(nn.Module):
    def __init__(self, channels=8, layers=4):
        super().__init__()
        self.first = nn.Conv1d(1, channels, 1)
        self.blocks = nn.ModuleList(Block(channels, 2**i) for i in range(layers))
        self.last = nn.Conv1d(channels, 1, 1)

    def forward(self, x):
        x = self.first(x)
        skips = 0
        for block in self.blocks:
            x, skip = block(x)
            skips = skips + skip
        return self.last(F.relu(skips))


def build(fill, draw):
    net = fill(WaveNet())
    optimizer = torch.optim.NAdam(net.parameters(), lr=2e-3)
    batches = []
    for _ in range(10):
        wave = torch.sin(torch.from_numpy(draw.uniform(4, 1, 1)) * 6 + torch.linspace(0, 6, 33)) * 0.5
        batches.append((wave[:, :, :-1].contiguous(), wave[..., 1:].contiguous()))
    return net, nn.L1Loss(), optimizer, batches


def run(fill, draw):
    net, criterion, optimizer, batches = build(fill, draw)
    losses = []
    for x, y in batches:
        optimizer.zero_grad()
        loss = criterion(net(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses
