"""Gradient accumulation over four small batches, norm of the gradients by hand."""

import torch
import torch.nn as nn

ACCUMULATION_STEPS = 4


def grad_norm(model):
    total_norm = 0
    for p in model.parameters():
        if p.grad is not None:
            param_norm = p.grad.data.norm(2)
            total_norm += param_norm.item() ** 2
    return total_norm**0.5


def run(fill, draw):
    model = fill(nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1)))
    criterion = nn.MSELoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    losses = []
    model.zero_grad()
    for i in range(20):
        inputs, labels = torch.tensor(draw.normal(4, 12)), torch.tensor(draw.normal(4, 1))
        predictions = model(inputs)
        loss = criterion(predictions, labels)
        loss = loss / ACCUMULATION_STEPS
        loss.backward()
        if (i + 1) % ACCUMULATION_STEPS == 0:
            losses.append(grad_norm(model))
            total = torch.norm(torch.stack([torch.norm(p.grad.detach(), 2) for p in model.parameters()]), 2)
            assert abs(total.item() - losses[-1]) < 1e-5
            optimizer.step()
            for p in model.parameters():
                p.grad.data.zero_()
            losses.append(loss.item())
    return losses
