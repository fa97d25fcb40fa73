"""A Perceiver over the columns of a table: PreNorm, cross attention by einsum, Fourier features, heads by name."""

import math
from typing import Dict, Tuple

import torch
import torch.nn as nn
import torch.nn.functional as F


class PreNorm(nn.Module):
    def __init__(self, dim, fn, context_dim=None):
        super().__init__()
        self.fn = fn
        self.norm = nn.LayerNorm(dim)
        self.norm_context = nn.LayerNorm(context_dim) if context_dim is not None else None

    def forward(self, x, **kwargs):
        x = self.norm(x)
        if self.norm_context is not None:
            kwargs.update(context=self.norm_context(kwargs["context"]))
        return self.fn(x, **kwargs)


class GEGLU(nn.Module):
    def forward(self, x):
        x, gates = x.chunk(2, dim=-1)
        return x * F.gelu(gates)


class Attention(nn.Module):
    def __init__(self, query_dim, context_dim=None, heads=2, dim_head=4):
        super().__init__()
        inner_dim = dim_head * heads
        self.scale, self.heads = dim_head**-0.5, heads
        self.to_q = nn.Linear(query_dim, inner_dim, bias=False)
        self.to_kv = nn.Linear(context_dim or query_dim, inner_dim * 2, bias=False)
        self.to_out = nn.Linear(inner_dim, query_dim)

    def forward(self, x, context=None, mask=None):
        h = self.heads
        context = context if context is not None else x
        q, (k, v) = self.to_q(x), self.to_kv(context).chunk(2, dim=-1)
        q, k, v = map(lambda t: t.reshape(*t.shape[:2], h, -1).transpose(1, 2).flatten(0, 1), (q, k, v))
        sim = torch.einsum("b i d, b j d -> b i j", q, k) * self.scale
        if mask is not None:
            max_neg_value = -torch.finfo(sim.dtype).max
            mask = mask.reshape(mask.shape[0], -1).repeat_interleave(h, 0)[:, None, :]
            sim.masked_fill_(~mask, max_neg_value)
        out = torch.einsum("b i j, b j d -> b i d", sim.softmax(dim=-1), v)
        out = out.view(out.shape[0] // h, h, -1, out.shape[-1]).transpose(1, 2).flatten(2)
        return self.to_out(out)


def fourier_encode(x, max_freq, num_bands=2):
    x = x.unsqueeze(-1)
    scales = torch.linspace(1.0, max_freq / 2, num_bands, dtype=x.dtype)
    scaled = x * scales[(*((None,) * (len(x.shape) - 1)), Ellipsis)] * math.pi
    return torch.cat((scaled.sin(), scaled.cos(), x), dim=-1)


class Perceiver(nn.Module):
    def __init__(self, categories: Tuple[int, ...], num_continuous: int, dim: int = 8):
        super().__init__()
        offset = F.pad(torch.tensor(list(categories)), (1, 0), value=0).cumsum(dim=-1)[:-1]
        self.register_buffer("categories_offset", offset)
        self.embeds = nn.Embedding(sum(categories), dim)
        self.num_weight = nn.Parameter(torch.randn(num_continuous, dim))
        self.num_bias = nn.Parameter(torch.randn(num_continuous, dim))
        self.latents = nn.Parameter(torch.randn(3, dim))
        self.cross = PreNorm(dim, Attention(dim, dim + 5), context_dim=dim + 5)
        self.layers = nn.ModuleList([])
        for _ in range(2):
            ff = nn.Sequential(nn.Linear(dim, dim * 4), GEGLU(), nn.Linear(dim * 2, dim))
            self.layers.append(nn.ModuleList([PreNorm(dim, Attention(dim)), PreNorm(dim, ff)]))
        self.heads = nn.ModuleDict({"class": nn.Linear(dim, 3), "value": nn.Linear(dim, 1)})

    def forward(self, x_categ, x_numer, mask=None) -> Dict[str, torch.Tensor]:
        x_categ = self.embeds(x_categ + self.categories_offset)
        x_numer = torch.einsum("bn,nd->bnd", x_numer, self.num_weight) + self.num_bias
        x = torch.cat((x_categ, x_numer), dim=1)
        pos = fourier_encode(torch.linspace(-1.0, 1.0, steps=x.shape[1]), 4.0).to(x)
        context = torch.cat((x, pos[None].repeat(repeats=(x.shape[0], 1, 1))), dim=-1)
        latents = self.latents.unsqueeze(0).expand(x.size(0), -1, -1)
        latents = self.cross(latents, context=context, mask=mask) + latents
        for attn, ff in self.layers:
            latents = attn(latents) + latents
            latents = ff(latents) + latents
        pooled = latents.mean(dim=-2)
        return {name: head(pooled) for name, head in self.heads.items()}


def loss_fn(outputs, targets):
    label, value = targets
    logits = outputs["class"]
    smooth = torch.full_like(logits.data, 0.1 / 3).scatter_(1, label.data.unsqueeze(1), 0.9 + 0.1 / 3)
    loss = F.kl_div(F.log_softmax(logits, dim=-1), smooth, reduction="batchmean")
    return loss + 0.5 * F.smooth_l1_loss(outputs["value"].squeeze(-1), value, beta=0.5)


def build(fill, draw):
    model = fill(Perceiver((3, 4, 5), 2))
    decay, no_decay = [], []
    for name, p in model.named_parameters():
        (no_decay if p.ndim <= 1 or name.endswith(".bias") else decay).append(p)
    groups = [{"params": decay, "weight_decay": 0.05}, {"params": no_decay, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=3e-3)
    batches = []
    for _ in range(10):
        x_categ = torch.stack([torch.from_numpy(draw.labels(c, 12)) for c in (3, 4, 5)], 1)
        mask = torch.ones(12, 5, dtype=torch.bool)
        mask[::3, -1] = False
        targets = torch.from_numpy(draw.labels(3, 12)), torch.from_numpy(draw.normal(12))
        batches.append(((x_categ, torch.from_numpy(draw.normal(12, 2)), mask), targets))
    return model, loss_fn, optimizer, batches


def run(fill, draw):
    model, criterion, optimizer, batches = build(fill, draw)
    losses = []
    for inputs, targets in batches:
        loss = criterion(model(*inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    print(f"params {sum(p.numel() for p in model.parameters() if p.requires_grad):,}")
    return losses
