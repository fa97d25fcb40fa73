"""torchvision's ViT in small, trained through torch.compile(model), with weight decay as marks on parameters say."""

import math
from collections import OrderedDict
from functools import partial

import torch
import torch.nn as nn


class EncoderBlock(nn.Module):
    def __init__(self, num_heads, hidden_dim, mlp_dim, norm_layer=partial(nn.LayerNorm, eps=1e-6)):
        super().__init__()
        self.ln_1 = norm_layer(hidden_dim)
        self.self_attention = nn.MultiheadAttention(hidden_dim, num_heads, dropout=0.0, batch_first=True)
        self.ln_2 = norm_layer(hidden_dim)
        self.mlp = nn.Sequential(nn.Linear(hidden_dim, mlp_dim), nn.GELU(), nn.Linear(mlp_dim, hidden_dim))

    def forward(self, input: torch.Tensor):
        torch._assert(input.dim() == 3, f"Expected (batch_size, seq_length, hidden_dim) got {input.shape}")
        x = self.ln_1(input)
        x, _ = self.self_attention(x, x, x, need_weights=False)
        x = x + input
        return x + self.mlp(self.ln_2(x))


class VisionTransformer(nn.Module):
    def __init__(self, image_size=8, patch_size=4, num_layers=2, num_heads=2, hidden_dim=8, num_classes=5):
        super().__init__()
        torch._assert(image_size % patch_size == 0, "Input shape indivisible by patch size!")
        self.hidden_dim = hidden_dim
        self.conv_proj = nn.Conv2d(3, hidden_dim, kernel_size=patch_size, stride=patch_size)
        self.class_token = nn.Parameter(torch.zeros(1, 1, hidden_dim))
        seq_length = (image_size // patch_size) ** 2 + 1
        self.pos_embedding = nn.Parameter(torch.empty(1, seq_length, hidden_dim).normal_(std=0.02))
        self.class_token._no_weight_decay = self.pos_embedding._no_weight_decay = True
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for i in range(num_layers):
            layers[f"encoder_layer_{i}"] = EncoderBlock(num_heads, hidden_dim, 2 * hidden_dim)
        self.layers = nn.Sequential(layers)
        self.ln = nn.LayerNorm(hidden_dim, eps=1e-6)
        self.head = nn.Linear(hidden_dim, num_classes)

    def forward(self, x):
        n = x.shape[0]
        x = self.conv_proj(x).reshape(n, self.hidden_dim, -1).permute(0, 2, 1)
        x = torch.cat([self.class_token.expand(n, -1, -1), x], dim=1)
        return self.head(self.ln(self.layers(x + self.pos_embedding))[:, 0])


class WarmupCosine(torch.optim.lr_scheduler.LambdaLR):
    def __init__(self, optimizer, warmup_steps, t_total, last_epoch=-1):
        self.warmup_steps, self.t_total = warmup_steps, t_total
        super().__init__(optimizer, self.lr_lambda, last_epoch=last_epoch)

    def lr_lambda(self, step):
        if step < self.warmup_steps:
            return float(step + 1) / float(max(1.0, self.warmup_steps))
        progress = float(step - self.warmup_steps) / float(max(1, self.t_total - self.warmup_steps))
        return max(0.0, 0.5 * (1.0 + math.cos(math.pi * progress)))


def build(fill, draw):
    model = fill(VisionTransformer())
    decay = [p for p in model.parameters() if p.ndim > 1 and not getattr(p, "_no_weight_decay", False)]
    no_decay = [p for p in model.parameters() if p.ndim <= 1 or getattr(p, "_no_weight_decay", False)]
    groups = [{"params": decay, "weight_decay": 0.1}, {"params": no_decay, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=3e-3)
    batches = [(torch.from_numpy(draw.normal(6, 3, 8, 8)), torch.from_numpy(draw.labels(5, 6))) for _ in range(10)]
    return model, nn.CrossEntropyLoss(label_smoothing=0.1), optimizer, batches


def run(fill, draw):
    model, criterion, optimizer, batches = build(fill, draw)
    compiled = torch.compile(model, backend="eager", dynamic=False)
    compiled.train()
    scheduler = WarmupCosine(optimizer, 1, 100000)
    losses = []
    for images, labels in batches:
        loss = criterion(compiled(images), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    scheduler.step()
    compiled.eval()
    with torch.no_grad():
        assert torch.allclose(compiled(images), model(images), rtol=1e-3, atol=1e-5)
        losses.append(criterion(compiled(images), labels).item())
    return losses
