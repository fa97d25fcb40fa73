"""Schedules one after another, clipping by value, parameter groups with their own rates."""

import torch
import torch.nn as nn
from torch.optim.lr_scheduler import LambdaLR, LinearLR, MultiStepLR, SequentialLR


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 16), nn.ELU(), nn.Linear(16, 16), nn.SiLU())
        self.head = nn.Linear(16, 1)

    def forward(self, x):
        return self.head(self.body(x))


def train(model, optimizer, scheduler, batches):
    losses = []
    for x, y in batches:
        loss = nn.functional.huber_loss(model(x), y, delta=0.5)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_value_(model.parameters(), clip_value=0.05)
        optimizer.step()
        scheduler.step()
        losses.append(loss.item() + scheduler.get_last_lr()[0] + optimizer.param_groups[-1]["lr"])
    return losses


def run(fill, draw):
    model = fill(Net())
    batches = [(torch.tensor(draw.normal(8, 6)), torch.tensor(draw.normal(8, 1))) for _ in range(10)]
    groups = [{"params": model.body.parameters()}, {"params": model.head.parameters(), "lr": 0.1}]
    optimizer = torch.optim.SGD(groups, lr=0.05, momentum=0.9, nesterov=True)
    warmup = LinearLR(optimizer, start_factor=0.1, total_iters=2)
    steps = MultiStepLR(optimizer, milestones=[2, 4], gamma=0.5)
    losses = train(model, optimizer, SequentialLR(optimizer, [warmup, steps], milestones=[2]), batches[:6])
    optimizer = torch.optim.Adagrad(model.parameters(), lr=0.01)
    scheduler = LambdaLR(optimizer, lr_lambda=lambda epoch: 0.95**epoch)
    return losses + train(model, optimizer, scheduler, batches[6:])
