"""An exponential moving average of the weights by hand, and stochastic weight averaging by swa_utils."""

import copy

import torch
import torch.nn as nn
from torch.optim.swa_utils import SWALR, AveragedModel, update_bn


class EMA:
    def __init__(self, model, decay):
        self.decay = decay
        self.shadow = {name: p.data.clone() for name, p in model.named_parameters() if p.requires_grad}

    def update(self, model):
        for name, param in model.named_parameters():
            if param.requires_grad:
                new_average = (1.0 - self.decay) * param.data + self.decay * self.shadow[name]
                self.shadow[name] = new_average.clone()

    def copy_to(self, model):
        for name, param in model.named_parameters():
            param.data.copy_(self.shadow[name])


def run(fill, draw):
    model = fill(nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=8)
    swa_model = AveragedModel(model)
    swa_scheduler = SWALR(optimizer, swa_lr=0.05, anneal_epochs=2)
    ema = EMA(model, 0.9)
    criterion = nn.CrossEntropyLoss()
    data = [(torch.tensor(draw.normal(12, 8)), torch.tensor(draw.labels(3, 12))) for _ in range(8)]
    losses = []
    for i, (x, y) in enumerate(data):
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        ema.update(model)
        if i >= 4:
            swa_model.update_parameters(model)
            swa_scheduler.step()
        else:
            scheduler.step()
        losses.append(loss.item())
    update_bn([x for x, _ in data], swa_model)
    averaged = copy.deepcopy(model)
    ema.copy_to(averaged)
    with torch.no_grad():
        for net in (swa_model, averaged):
            net.eval()
            losses.append(sum(criterion(net(x), y).item() for x, y in data))
    return losses
