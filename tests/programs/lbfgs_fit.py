"""A curve fitted by LBFGS with a closure, in the style of PyTorch's sine example; a polynomial by hand beside it."""

import math

import torch
import torch.nn as nn
import torch.optim as optim


class Curve(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.zeros(()))
        self.b = nn.Parameter(torch.ones(1))
        self.mlp = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))

    def forward(self, x):
        return self.a + self.b * x + self.mlp(x)


def run(fill, draw):
    model = fill(Curve())
    x = torch.from_numpy(draw.uniform(30, 1) * 4 - 2)
    y = torch.sin(math.pi * x / 2)
    criterion = nn.MSELoss()
    optimizer = optim.LBFGS(model.parameters(), lr=0.5, max_iter=3)
    losses = []
    for i in range(6):

        def closure():
            optimizer.zero_grad()
            out = model(x)
            loss = criterion(out, y)
            loss.backward()
            return loss

        losses.append(optimizer.step(closure).item())

    w = torch.tensor(draw.normal(3), requires_grad=True)
    powers = torch.cat([x**0, x, x**2], dim=1)
    for t in range(4):
        loss = (powers @ w - y.squeeze()).pow(2).sum()
        losses.append(loss.item())
        loss.backward()
        with torch.no_grad():
            w -= 1e-3 * w.grad
            w.grad = None
    return losses
