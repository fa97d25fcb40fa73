"""A checkpoint of model and optimiser, saved, loaded into new ones and resumed."""

import os
import tempfile

import torch
import torch.nn as nn


def make(fill):
    model = fill(nn.Sequential(nn.Linear(7, 12), nn.BatchNorm1d(12), nn.Tanh(), nn.Linear(12, 2)))
    return model, torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=1e-3)


def train(model, optimizer, batches):
    model.train()
    losses = []
    for x, y in batches:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def run(fill, draw):
    batches = [(torch.tensor(draw.normal(9, 7)), torch.tensor(draw.normal(9, 2))) for _ in range(10)]
    model, optimizer = make(fill)
    losses = train(model, optimizer, batches[:5])
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "checkpoint.pth")
        torch.save(
            {
                "epoch": 5,
                "model_state_dict": model.state_dict(),
                "optimizer_state_dict": optimizer.state_dict(),
                "loss": losses[-1],
            },
            path,
        )
        model, optimizer = make(fill)
        checkpoint = torch.load(path, map_location=torch.device("cpu"))
        model.load_state_dict(checkpoint["model_state_dict"])
        optimizer.load_state_dict(checkpoint["optimizer_state_dict"])
        epoch = checkpoint["epoch"]
        torch.save(model.state_dict(), path)
        weights = torch.load(path)
    for name, value in model.state_dict().items():
        assert torch.equal(weights[name], value)
    return losses + train(model, optimizer, batches[epoch:])
