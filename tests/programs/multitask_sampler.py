"""Two heads with learnt weights of their losses; samplers and data sets of one's own."""

import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Sampler,
    TensorDataset,
    WeightedRandomSampler,
    random_split,
)


class Interleave(Sampler):
    def __init__(self, data_source):
        self.data_source = data_source

    def __iter__(self):
        n = len(self.data_source)
        return iter(list(range(0, n, 2)) + list(range(1, n, 2)))

    def __len__(self):
        return len(self.data_source)


class Multi(nn.Module):
    def __init__(self, heads):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(5, 12), nn.PReLU())
        self.heads = nn.ModuleDict({name: nn.Linear(12, d) for name, d in heads.items()})
        self.log_vars = nn.ParameterDict({name: nn.Parameter(torch.zeros(1)) for name in heads})

    def forward(self, x):
        h = self.trunk(x)
        return {k: head(h) for k, head in self.heads.items()}


def run(fill, draw):
    a = TensorDataset(
        torch.from_numpy(draw.normal(12, 5)), torch.from_numpy(draw.labels(3, 12)), torch.from_numpy(draw.normal(12, 1))
    )
    b = TensorDataset(
        torch.from_numpy(draw.normal(8, 5)), torch.from_numpy(draw.labels(3, 8)), torch.from_numpy(draw.normal(8, 1))
    )
    ds = ConcatDataset([a, b])
    w = WeightedRandomSampler([1.0] * 20, num_samples=20, replacement=True)
    assert len(list(w)) == 20
    loader = DataLoader(ds, batch_size=4, sampler=Interleave(ds))
    loader2 = DataLoader(ds, batch_sampler=BatchSampler(Interleave(ds), batch_size=4, drop_last=False))
    tr, va = random_split(ds, [16, 4], generator=torch.Generator().manual_seed(42))
    assert len(tr) == 16
    m = fill(Multi({"cls": 3, "reg": 1}))
    opt = optim.Adam(
        [
            {"params": m.trunk.parameters()},
            {"params": m.heads.parameters(), "lr": 1e-2},
            {"params": m.log_vars.values()},
        ],
        lr=1e-3,
    )
    out = []
    for ld in (loader, loader2):
        it = iter(ld)
        for i in range(len(ld)):
            x, y, z = next(it)
            o = m(x)
            ls = {"cls": F.cross_entropy(o["cls"], y), "reg": F.l1_loss(o["reg"], z)}
            loss = sum(torch.exp(-m.log_vars[k]) * part + m.log_vars[k] for k, part in ls.items())
            opt.zero_grad()
            loss.backward()
            opt.step()
            out.append(loss.item())
    return out
