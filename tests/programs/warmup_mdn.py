"""A mixture density network on single images: argparse, unbatched convolution, a hand-set warm-up beside LambdaLR."""

import argparse
import math

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal
from torch.utils.data import DataLoader, Dataset, Sampler


class Images(Dataset):
    def __init__(self, images, targets):
        self.images, self.targets = images, targets

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = torch.from_numpy(self.images[index])
        blurred = F.avg_pool2d(image, 3, stride=1, padding=1)
        return {"image": torch.cat([image, blurred]), "target": self.targets[index], "name": f"image {index}"}


class Backwards(Sampler):
    def __init__(self, source):
        self.source = source

    def __iter__(self):
        return iter(torch.arange(len(self.source)).flip(0).tolist())

    def __len__(self):
        return len(self.source)


def collate(samples):
    targets = torch.as_tensor(np.stack([s["target"] for s in samples]))
    return torch.stack([s["image"] for s in samples]), targets, [s["name"] for s in samples]


class MDN(nn.Module):
    def __init__(self, in_features, out_features, num_gaussians):
        super().__init__()
        self.out_features, self.num_gaussians = out_features, num_gaussians
        self.pi = nn.Sequential(nn.Linear(in_features, num_gaussians), nn.Softmax(dim=1))
        self.sigma = nn.Linear(in_features, out_features * num_gaussians)
        self.mu = nn.Linear(in_features, out_features * num_gaussians)

    def forward(self, x):
        pi = self.pi(x)
        sigma = torch.exp(self.sigma(x)).view(-1, self.num_gaussians, self.out_features)
        return pi, sigma, self.mu(x).view(-1, self.num_gaussians, self.out_features)


def mdn_loss(pi, sigma, mu, target):
    target = target.unsqueeze(1).expand_as(sigma)
    density = torch.exp(-0.5 * ((target - mu) / sigma) ** 2) / (sigma * math.sqrt(2 * math.pi))
    return -torch.log((pi * torch.prod(density, 2)).sum(dim=1)).mean()


def run(fill, draw):
    parser = argparse.ArgumentParser(description="MDN")
    parser.add_argument("--batch-size", type=int, default=4, metavar="N")
    parser.add_argument("--no-cuda", action="store_true", default=False)
    args = parser.parse_args([])
    device = torch.device("cuda" if not args.no_cuda and torch.cuda.is_available() else "cpu")
    data = Images(draw.uniform(12, 1, 6, 6), draw.normal(12, 2))
    loader = DataLoader(data, args.batch_size, sampler=Backwards(data), collate_fn=collate)
    conv = nn.Conv2d(2, 3, 3, stride=2, padding=1)
    net = fill(nn.Sequential(conv, nn.RReLU(0.1, 0.1), nn.Flatten(), MDN(27, 2, 3))).to(device)
    optimizer = torch.optim.SGD(net[3].parameters(), lr=0.05, momentum=0.9, nesterov=True)
    optimizer.add_param_group({"params": conv.parameters(), "weight_decay": 5e-4})
    factor = lambda step: 1 - 0.05 * step  # noqa: E731
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lr_lambda=factor)
    losses, step = [], 0
    for epoch in range(4):
        for images, targets, names in loader:
            if step < 4:
                for j, group in enumerate(optimizer.param_groups):
                    goal = group["initial_lr"] * factor(step)
                    group["lr"] = np.interp(step, [0, 4], [0.1 if j == 0 else 0.0, goal])
            pi, sigma, mu = net(images.to(device))
            loss = mdn_loss(pi, sigma, mu, targets.to(device))
            spread = F.pdist(mu[:, 0]).mean()
            optimizer.zero_grad()
            (loss + 0.01 * spread).backward()
            optimizer.step()
            scheduler.step()
            losses.append(loss.item())
            step += 1
        print("Epoch {} [{}] loss {:.4f} lr {}".format(epoch, names[-1], loss.item(), scheduler.get_last_lr()))
    net.eval()
    with torch.no_grad():
        single = net[:2](data[0]["image"])
        losses.append(single.pow(2).sum().item())
        mixture = MixtureSameFamily(Categorical(probs=pi), Independent(Normal(mu, sigma), 1))
        losses.append(mixture.log_prob(targets.to(pi.dtype)).sum().item())
    return losses
