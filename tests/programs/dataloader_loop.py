"""TensorDataset, random_split and DataLoader, training and evaluation with averages, the best state kept."""

import copy

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Dataset, TensorDataset, random_split


class Pairs(Dataset):
    def __init__(self, x, y, transform=None):
        self.x, self.y, self.transform = x, y, transform

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        sample = self.x[index]
        if self.transform:
            sample = self.transform(sample)
        return sample, self.y[index]


def evaluate(model, loader, criterion):
    model.eval()
    total, correct, loss_sum = 0, 0, 0.0
    with torch.inference_mode():
        for x, y in loader:
            logits = model(x)
            loss_sum += criterion(logits, y).item() * x.size(0)
            correct += (logits.argmax(dim=1) == y).sum().item()
            total += y.size(0)
    return loss_sum / total, correct / total


def run(fill, draw):
    torch.manual_seed(0)
    x, y = torch.from_numpy(draw.normal(40, 8)), torch.from_numpy(draw.labels(3, 40))
    train_set = Pairs(x, y, transform=lambda v: v * 0.5 + 0.1)
    train_loader = DataLoader(train_set, batch_size=16, shuffle=False, num_workers=0, drop_last=False)
    both = random_split(TensorDataset(x, y), [30, 10])
    assert [len(part) for part in both] == [30, 10]
    shuffled = DataLoader(both[0], batch_size=8, shuffle=True)
    assert sum(len(labels) for _, labels in shuffled) == 30
    assert len(shuffled) == 4
    model = fill(nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3)))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses, best_acc, best_model_wts = [], -1.0, None
    for epoch in range(2):
        model.train()
        for inputs, labels in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(inputs), labels)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        val_loss, acc = evaluate(model, DataLoader(TensorDataset(x, y), batch_size=10), criterion)
        losses.append(val_loss)
        if acc > best_acc:
            best_acc, best_model_wts = acc, copy.deepcopy(model.state_dict())
    model.load_state_dict(best_model_wts)
    return [*losses, *evaluate(model, [(x, y)], criterion)]
