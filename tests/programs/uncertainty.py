"""Bayes by backprop, quantiles, Cox's survival loss, ordinal regression; dropout left on for prediction."""

import math

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset


class BayesLinear(nn.Module):
    def __init__(self, in_features, out_features, draw):
        super().__init__()
        self.draw = draw
        self.weight_mu = nn.Parameter(torch.Tensor(out_features, in_features).uniform_(-0.2, 0.2))
        self.weight_rho = nn.Parameter(torch.Tensor(out_features, in_features).uniform_(-5, -4))
        self.bias_mu = nn.Parameter(torch.Tensor(out_features).uniform_(-0.2, 0.2))
        self.bias_rho = nn.Parameter(torch.Tensor(out_features).uniform_(-5, -4))

    def rsample(self, mu, rho):
        sigma = torch.log1p(torch.exp(rho))
        epsilon = torch.from_numpy(self.draw.normal(*mu.shape)).to(mu.device)
        return mu + sigma * epsilon, sigma

    def log_prob(self, mu, sigma, x):
        return (-math.log(math.sqrt(2 * math.pi)) - torch.log(sigma) - ((x - mu) ** 2) / (2 * sigma**2)).sum()

    def forward(self, input, sample=False):
        if self.training or sample:
            weight, ws = self.rsample(self.weight_mu, self.weight_rho)
            bias, bs = self.rsample(self.bias_mu, self.bias_rho)
        else:
            weight, bias = self.weight_mu, self.bias_mu
        if self.training:
            prior = torch.distributions.Normal(0, math.exp(-0))
            self.log_prior = prior.log_prob(weight).sum() + prior.log_prob(bias).sum()
            self.log_variational_posterior = self.log_prob(self.weight_mu, ws, weight) + self.log_prob(
                self.bias_mu, bs, bias
            )
        else:
            self.log_prior, self.log_variational_posterior = 0, 0
        return F.linear(input, weight, bias)


class QuantileLoss(nn.Module):
    def __init__(self, quantiles):
        super().__init__()
        self.quantiles = quantiles

    def forward(self, preds, target):
        assert not target.requires_grad
        assert preds.size(0) == target.size(0)
        losses = []
        for i, q in enumerate(self.quantiles):
            errors = target - preds[:, i]
            losses.append(torch.max((q - 1) * errors, q * errors).unsqueeze(1))
        return torch.mean(torch.sum(torch.cat(losses, dim=1), dim=1))


def cox_ph_loss(log_h, durations, events, eps=1e-7):
    idx = durations.sort(descending=True)[1]
    events = events[idx].view(-1)
    log_h = log_h[idx].view(-1)
    gamma = log_h.max()
    log_cumsum_h = log_h.sub(gamma).exp().cumsum(0).add(eps).log().add(gamma)
    return -log_h.sub(log_cumsum_h).mul(events).sum().div(events.sum())


def coral_loss(logits, levels):
    return torch.mean(
        -torch.sum((F.logsigmoid(logits) * levels + (F.logsigmoid(logits) - logits) * (1 - levels)), dim=1)
    )


class Frame(Dataset):
    def __init__(self, x, y):
        self.x, self.y = x, y

    def __len__(self):
        return self.x.shape[0]

    def __getitem__(self, idx):
        return {
            "x": torch.tensor(self.x[idx, :], dtype=torch.get_default_dtype()),
            "y": torch.tensor(self.y[idx], dtype=torch.get_default_dtype()),
        }


class Net(nn.Module):
    def __init__(self, draw):
        super().__init__()
        self.b1, self.b2 = BayesLinear(4, 8, draw), BayesLinear(8, 8, draw)
        self.dense = nn.utils.weight_norm(nn.Linear(8, 8))
        self.drop = nn.Dropout(0.0)
        self.quant, self.surv = nn.Linear(8, 3), nn.Linear(8, 1)
        self.coral, self.coral_bias = nn.Linear(8, 1, bias=False), nn.Parameter(torch.arange(3, 0, -1).float() / 3)

    def forward(self, x):
        x = F.leaky_relu(self.b2(F.relu(self.b1(x))), 1e-3)
        x = self.drop(F.selu(self.dense(x)))
        return self.quant(x), self.surv(x), self.coral(x) + self.coral_bias


def enable_dropout(model):
    for m in model.modules():
        if m.__class__.__name__.startswith("Dropout"):
            m.train()


def run(fill, draw):
    x, y = draw.normal(64, 4), draw.normal(64)
    loader = DataLoader(Frame(x, y), batch_size=16, shuffle=False, num_workers=0)
    net = fill(Net(draw))
    for m in (net.b1, net.b2):
        m.weight_rho.data.sub_(3), m.bias_rho.data.sub_(3)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2, weight_decay=1e-5)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer=optimizer, pct_start=0.1, div_factor=1e3, max_lr=1e-2, epochs=3, steps_per_epoch=len(loader)
    )
    loss_tr = QuantileLoss([0.1, 0.5, 0.9])
    losses = []
    for epoch in range(3):
        net.train()
        final_loss = 0
        for data in loader:
            optimizer.zero_grad()
            inputs, targets = data["x"].to("cpu"), data["y"].to("cpu")
            q, s, c = net(inputs)
            levels = (targets.view(-1, 1) > torch.tensor([-0.5, 0.0, 0.5])).to(q)
            loss = loss_tr(q, targets) + cox_ph_loss(s, targets.abs(), (targets > 0).to(s)) + coral_loss(c, levels)
            kl = sum(m.log_variational_posterior - m.log_prior for m in net.modules() if isinstance(m, BayesLinear))
            loss = loss + kl / 1e3
            loss.backward()
            optimizer.step()
            scheduler.step()
            final_loss += loss.item()
            losses.append(loss.item())
        final_loss /= len(loader)
        print(f"EPOCH: {epoch}, train_loss: {final_loss:.4f}, lr {scheduler.get_last_lr()[0]:.2e}")
    net.eval()
    enable_dropout(net)
    preds = []
    with torch.no_grad():
        for data in loader:
            preds.append(torch.stack([net(data["x"])[0] for _ in range(3)]).mean(0).sigmoid().detach().cpu().numpy())
    preds = np.concatenate(preds)
    print(preds.shape, torch.sum(torch.sigmoid(c) > 0.5, dim=1).tolist())
    losses.append(float(preds.mean()))
    return losses
