"""A vision transformer: patches, class token, attention by einsum and scaled_dot_product_attention."""

import torch
from torch import einsum, nn
from torch.nn import functional as F


class Attention(nn.Module):
    def __init__(self, dim, heads, fast):
        super().__init__()
        self.heads, self.scale, self.fast = heads, (dim // heads) ** -0.5, fast
        self.norm = nn.LayerNorm(dim)
        self.to_qkv = nn.Linear(dim, dim * 3, bias=False)
        self.to_out = nn.Sequential(nn.Linear(dim, dim), nn.Dropout(0.0))

    def forward(self, x):
        b, n, d = x.shape
        qkv = self.to_qkv(self.norm(x)).chunk(3, dim=-1)
        q, k, v = map(lambda t: t.reshape(b, n, self.heads, -1).permute(0, 2, 1, 3), qkv)
        if self.fast:
            out = F.scaled_dot_product_attention(q, k, v)
        else:
            dots = einsum("bhid,bhjd->bhij", q, k) * self.scale
            out = einsum("bhij,bhjd->bhid", dots.softmax(dim=-1), v)
        return self.to_out(out.permute(0, 2, 1, 3).reshape(b, n, d))


class ViT(nn.Module):
    def __init__(self, image=12, patch=4, dim=16, classes=6):
        super().__init__()
        n = (image // patch) ** 2
        self.patch = nn.Conv2d(3, dim, kernel_size=patch, stride=patch)
        self.pos_embedding = nn.Parameter(torch.randn(1, n + 1, dim))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.layers = nn.ModuleList([])
        for i in range(2):
            ff = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 32), nn.GELU(), nn.Linear(32, dim))
            self.layers.append(nn.ModuleList([Attention(dim, 2, fast=i == 1), ff]))
        self.mlp_head = nn.Linear(dim, classes)

    def forward(self, img):
        x = self.patch(img).flatten(2).transpose(1, 2)
        cls_tokens = self.cls_token.expand(x.shape[0], -1, -1)
        x = torch.cat((cls_tokens, x), dim=1)
        x = x + self.pos_embedding
        for attn, ff in self.layers:
            x = attn(x) + x
            x = ff(x) + x
        return self.mlp_head(x[:, 0])


def build(fill, draw):
    model = fill(ViT())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    batches = [(torch.tensor(draw.normal(4, 3, 12, 12)), torch.tensor(draw.labels(6, 4))) for _ in range(10)]
    return model, nn.CrossEntropyLoss(), optimizer, batches


def run(fill, draw):
    model, criterion, optimizer, batches = build(fill, draw)
    losses = []
    for data, label in batches:
        output = model(data)
        loss = criterion(output, label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses
