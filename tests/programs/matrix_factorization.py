"""Recommendation by matrix factorisation with biases, and skip-gram with negative sampling."""

import torch
import torch.nn as nn
import torch.nn.functional as F


class MatrixFactorization(nn.Module):
    def __init__(self, n_users, n_items, n_factors=8):
        super().__init__()
        self.user_factors = nn.Embedding(n_users, n_factors)
        self.item_factors = nn.Embedding(n_items, n_factors)
        self.user_biases = nn.Embedding(n_users, 1)
        self.item_biases = nn.Embedding(n_items, 1)
        self.user_biases.weight.data.fill_(0.0)
        self.item_biases.weight.data.fill_(0.0)

    def forward(self, user, item):
        pred = self.user_biases(user) + self.item_biases(item)
        pred += (self.user_factors(user) * self.item_factors(item)).sum(1, keepdim=True)
        return pred.squeeze()


class SkipGram(nn.Module):
    def __init__(self, vocab=25, dim=6):
        super().__init__()
        self.u, self.v = nn.Embedding(vocab, dim), nn.Embedding(vocab, dim)

    def forward(self, center, context, negative):
        u, v, n = self.u(center), self.v(context), self.v(negative)
        score = F.logsigmoid(torch.sum(u * v, dim=1))
        neg_score = torch.bmm(n, u.unsqueeze(2)).squeeze(2)
        return -(score + F.logsigmoid(-neg_score).sum(1)).mean()


def build(fill, draw):
    model = fill(MatrixFactorization(15, 20))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    batches = []
    for _ in range(10):
        user, item = torch.LongTensor(draw.labels(15, 12)), torch.LongTensor(draw.labels(20, 12))
        batches.append(((user, item), torch.tensor(draw.uniform(12)) * 4 + 1))
    return model, nn.MSELoss(), optimizer, batches


def run(fill, draw):
    model, criterion, optimizer, batches = build(fill, draw)
    losses = []
    for (user, item), rating in batches[:]:
        loss = criterion(model(user, item), rating)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    model = fill(SkipGram())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(5):
        sample = [torch.tensor(draw.labels(25, *shape)) for shape in ((10,), (10,), (10, 4))]
        loss = model(*sample)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses
