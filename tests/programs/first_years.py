"""As programs were written for PyTorch 0.3 and still run: Variable, size_average, new(), numbers before tensors."""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.autograd import Variable
from torch.optim.optimizer import Optimizer, required


class RAdam(Optimizer):
    def __init__(self, params, lr=required, betas=(0.9, 0.999), eps=1e-8, weight_decay=0):
        super(RAdam, self).__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay))

    def __setstate__(self, state):
        super(RAdam, self).__setstate__(state)

    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                grad = p.grad.data
                state = self.state[p]
                if len(state) == 0:
                    state["step"] = 0
                    state["exp_avg"] = torch.zeros_like(p.data, memory_format=torch.preserve_format)
                    state["exp_avg_sq"] = torch.zeros_like(p.data, memory_format=torch.preserve_format)
                exp_avg, exp_avg_sq = state["exp_avg"], state["exp_avg_sq"]
                beta1, beta2 = group["betas"]
                exp_avg_sq.mul_(beta2).addcmul_(1 - beta2, grad, grad)
                exp_avg.mul_(beta1).add_(1 - beta1, grad)
                state["step"] += 1
                t = state["step"]
                longest = 2 / (1 - beta2) - 1
                length = longest - 2 * t * beta2**t / (1 - beta2**t)
                if group["weight_decay"] != 0:
                    p.data.add_(-group["weight_decay"] * group["lr"], p.data)
                if length > 5:
                    variance = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
                    size = group["lr"] * math.sqrt((1 - beta2**t) * variance) / (1 - beta1**t)
                    p.data.addcdiv_(-size, exp_avg, exp_avg_sq.sqrt().add_(group["eps"]))
                else:
                    p.data.add_(-group["lr"] / (1 - beta1**t), exp_avg)


class VAE(nn.Module):
    def __init__(self, noise):
        super(VAE, self).__init__()
        self.fc1, self.fc21, self.fc22 = nn.Linear(9, 12), nn.Linear(12, 3), nn.Linear(12, 3)
        self.fc3, self.fc4 = nn.Linear(3, 12), nn.Linear(12, 9)
        self.noise = noise

    def forward(self, x):
        h = F.relu(self.fc1(x))
        mu, logvar = self.fc21(h), self.fc22(h)
        std = logvar.mul(0.5).exp_()
        eps = Variable(std.data.new(std.size()).copy_(self.noise()))
        return F.sigmoid(self.fc4(F.relu(self.fc3(eps.mul(std).add_(mu))))), mu, logvar


def elbo(recon_x, x, mu, logvar):
    bce = F.binary_cross_entropy(recon_x, x, size_average=False)
    kld_element = mu.pow(2).add_(logvar.exp()).mul_(-1).add_(1).add_(logvar)
    return bce + torch.sum(kld_element).mul_(-0.5)


class TripletLoss(nn.Module):
    """Batch hard, as in person re-identification."""

    def __init__(self, margin=0.3):
        super(TripletLoss, self).__init__()
        self.ranking_loss = nn.MarginRankingLoss(margin=margin, reduce=True)

    def forward(self, inputs, targets):
        n = inputs.size(0)
        dist = torch.pow(inputs, 2).sum(dim=1, keepdim=True).expand(n, n)
        dist = dist + dist.t()
        dist.addmm_(1, -2, inputs, inputs.t())
        dist = dist.clamp(min=1e-12).sqrt()
        mask = targets.expand(n, n).eq(targets.expand(n, n).t())
        hardest = [(dist[i][mask[i]].max().unsqueeze(0), dist[i][mask[i] == 0].min().unsqueeze(0)) for i in range(n)]
        dist_ap, dist_an = (torch.cat(each) for each in zip(*hardest))
        return self.ranking_loss(dist_an, dist_ap, torch.ones_like(dist_an))


def run(fill, draw):
    x, labels = Variable(torch.from_numpy(draw.uniform(8, 9))), torch.LongTensor(draw.labels(3, 8).tolist())
    model = fill(VAE(lambda: torch.from_numpy(draw.normal(8, 3))))
    optimizer, triplet = RAdam(model.parameters(), lr=0.01, weight_decay=0.01), TripletLoss()
    image, losses = x.data.new(1), []
    for _ in range(10):
        image.resize_(x.size()).copy_(x.data)
        optimizer.zero_grad()
        recon, mu, logvar = model(image)
        loss = elbo(recon, image, mu, logvar) + triplet(mu, labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.data.item())
    return losses
