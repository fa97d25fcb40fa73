"""Gradients that are clipped, scaled, masked and written down by hooks, as in robust training and debugging."""

import torch
import torch.nn as nn
import torch.nn.functional as F


class GradientReversal(nn.Module):
    """Domain-adversarial training, with a hook in the place of an autograd Function."""

    def __init__(self, norms):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
        self.hidden = nn.Linear(4 * 4 * 4, 12)
        self.classes = nn.Linear(12, 3)
        self.domain = nn.Linear(12, 2)
        self.norms = norms
        self.hidden.weight.register_hook(lambda grad: grad.clamp(-0.05, 0.05))
        self.classes.register_full_backward_hook(self.note)
        self.hidden.register_full_backward_pre_hook(lambda module, grad_output: (grad_output[0] * 2,))

    def note(self, module, grad_input, grad_output):
        self.norms.append(grad_input[0].norm().item() + grad_output[0].norm().item())

    def forward(self, x):
        h = torch.tanh(self.hidden(self.features(x)))
        reversed = h * 1.0
        if reversed.requires_grad:
            reversed.register_hook(lambda grad: -0.3 * grad)
        return self.classes(h), self.domain(reversed)


def criterion(outputs, targets):
    return F.cross_entropy(outputs[0], targets[0]) + F.cross_entropy(outputs[1], targets[1])


def build(fill, draw):
    model = fill(GradientReversal([]))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    batches = [(draw.normal(6, 1, 8, 8), (draw.labels(3, 6), draw.labels(2, 6))) for _ in range(10)]
    return model, criterion, optimizer, batches


def run(fill, draw):
    model, criterion, optimizer, batches = build(fill, draw)
    losses = []
    for x, targets in batches:
        loss = criterion(model(torch.from_numpy(x)), [torch.from_numpy(target) for target in targets])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert len(model.norms) == 10
    return losses
