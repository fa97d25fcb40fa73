"""Forward hooks that keep activations, tensor hooks on gradients, a summary by modules."""

import torch
import torch.nn as nn


def run(fill, draw):
    model = fill(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 3)))
    activations, shapes, norms = {}, [], []

    def get_activation(name):
        def hook(module, input, output):
            activations[name] = output.detach()
            shapes.append(tuple(input[0].shape))

        return hook

    handles = [layer.register_forward_hook(get_activation(name)) for name, layer in model.named_children()]
    model[3].weight.register_hook(lambda grad: grad * 0.5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    criterion = nn.CrossEntropyLoss()
    losses = []
    for step in range(10):
        x, y = torch.from_numpy(draw.normal(5, 1, 8, 8)), torch.from_numpy(draw.labels(3, 5))
        output = model(x)
        loss = criterion(output, y)
        if step == 5:
            for handle in handles:
                handle.remove()
        hidden = activations["1"]
        sparsity = (hidden == 0).float().mean().item()
        optimizer.zero_grad()
        loss.backward()
        norms.append(model[3].weight.grad.abs().mean().item())
        optimizer.step()
        losses.append(loss.item() + sparsity + norms[-1])
    assert len(shapes) == 6 * 4
    assert activations["3"].shape == (5, 3)
    total = sum(p.numel() for p in model.parameters())
    assert total == 40 + 435
    return losses
