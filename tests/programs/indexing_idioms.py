"""Slices, masks, lists of places, einsum, joins and reductions, all with gradients."""

import torch
import torch.nn.functional as F


def run(fill, draw):
    a = torch.from_numpy(draw.normal(4, 6, 5)).requires_grad_(True)
    w = torch.nn.Parameter(torch.from_numpy(draw.normal(5)))
    opt = torch.optim.SGD([a, w], lr=0.1)
    out = []
    for i in range(10):
        x = a * 1.0
        y = x[..., :3].sum() + x[None].mean() + x[:, ::2, [0, 2]].pow(2).sum()
        rows = torch.arange(4)[:, None]
        cols = torch.tensor([[0, 1], [2, 3], [4, 5], [1, 1]])
        y = y + (x[rows, cols] * w).sum() + x[:, -1].max() + x[x > 0.5].sum()
        m = torch.zeros_like(x)
        m[:, 1:3] = 1
        m[0] = 0
        m[..., -1] += 2
        y = (
            y
            + (x * m).mean()
            + torch.einsum("bij,j->bi", x, w).tanh().sum()
            + torch.einsum("bij,bkj->bik", x, x).mean()
        )
        z = x.clone()
        z[z < 0] = 0.0
        z[:, 0, :] *= 2
        z[1:, 1] = w
        y = y + z.mean() + torch.where(x > 0, x, 0.1 * x).sum() + torch.where(x > 0, 1.0, 0.0).sum()
        q = x.view(4, -1).split([10, 20], dim=1)
        y = y + q[0].std(dim=1).sum() + q[1].var(unbiased=False) + sum(t.sum() for t in x.split(split_size=2, dim=1))
        y = y + x.flatten(1).cumsum(-1)[:, -1].mean() + x.norm(p=1, dim=-1).mean() + x.amax((1, 2)).sum()
        v, ix = x.sort(dim=-1, descending=True)
        y = y + v[..., 0].sum() + x.gather(-1, ix[..., :2]).mean() + x.transpose(0, 1).reshape(6, -1).logsumexp(1).sum()
        y = (
            y
            + F.pad(x, (1, 1, 0, 2), mode="constant", value=0).mean()
            + torch.roll(x, shifts=1, dims=1).mul(x).mean()
            + x.flip(-1).mul(x).mean()
            + x.flip([0, 1])[0, 0, 0]
        )
        y = y + torch.tril(x @ x.mT).mean() + x.unfold(1, 3, 1).mean() + x.clamp(max=1).sub(1).abs().log1p().mean()
        y = (
            y
            + torch.atan2(x, x + 3).mean()
            + (x**2 + 1).rsqrt().mean()
            + (2**x).mean()
            + (1 / (1 + x.exp())).mean()
            + (-x).relu().mean()
            + x.T.sum() * 0
            if x.dim() == 2
            else y
        )
        opt.zero_grad()
        y.backward()
        opt.step()
        out.append(y.item())
    g, gy = torch.meshgrid(torch.arange(3), torch.arange(2), indexing="xy")
    assert g.shape == gy.shape == (2, 3)
    assert (x.size(-1), x.numel(), len(x), x.ndim) == (5, 120, 4, 3)
    assert int(torch.tensor(3)) == 3
    assert f"{torch.tensor(1.5):.2f}" == "1.50"
    return out
