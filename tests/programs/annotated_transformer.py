"""The annotated transformer: clones, masks by triu, layer norm by hand, Noam's schedule, greedy decoding."""

import copy
import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.optim.lr_scheduler import LambdaLR


def clones(module, N):
    return nn.ModuleList([copy.deepcopy(module) for _ in range(N)])


class LayerNorm(nn.Module):
    def __init__(self, features, eps=1e-6):
        super(LayerNorm, self).__init__()
        self.a_2, self.b_2, self.eps = nn.Parameter(torch.ones(features)), nn.Parameter(torch.zeros(features)), eps

    def forward(self, x):
        mean, std = x.mean(-1, keepdim=True), x.std(-1, keepdim=True)
        return self.a_2 * (x - mean) / (std + self.eps) + self.b_2


def subsequent_mask(size):
    attn_shape = (1, size, size)
    return torch.triu(torch.ones(attn_shape), diagonal=1).type(torch.uint8) == 0


def attention(query, key, value, mask=None, dropout=None):
    d_k = query.size(-1)
    scores = torch.matmul(query, key.transpose(-2, -1)) / math.sqrt(d_k)
    if mask is not None:
        scores = scores.masked_fill(mask == 0, -1e9)
    p_attn = scores.softmax(dim=-1)
    if dropout is not None:
        p_attn = dropout(p_attn)
    return torch.matmul(p_attn, value), p_attn


class MultiHeadedAttention(nn.Module):
    def __init__(self, h, d_model, dropout=0.0):
        super().__init__()
        self.d_k, self.h, self.linears, self.attn = d_model // h, h, clones(nn.Linear(d_model, d_model), 4), None
        self.dropout = nn.Dropout(p=dropout)
        self.relative_bias = nn.Embedding(9, h)

    def forward(self, query, key, value, mask=None):
        if mask is not None:
            mask = mask.unsqueeze(1)
        nbatches = query.size(0)
        query, key, value = [
            lin(x).view(nbatches, -1, self.h, self.d_k).transpose(1, 2)
            for lin, x in zip(self.linears, (query, key, value))
        ]
        q, k = query.shape[-2], key.shape[-2]
        rel = (torch.arange(k)[None, :] - torch.arange(q)[:, None]).clamp(-4, 4) + 4
        bias = self.relative_bias(rel).permute(2, 0, 1).unsqueeze(0)
        x, self.attn = attention(query, key, value + 0 * bias.sum(), mask=mask, dropout=self.dropout)
        x = x + torch.einsum("bhqk,bhkd->bhqd", bias.softmax(-1).expand(nbatches, -1, -1, -1), value)
        x = x.transpose(1, 2).contiguous().view(nbatches, -1, self.h * self.d_k)
        del query, key, value
        return self.linears[-1](x)


class PositionalEncoding(nn.Module):
    def __init__(self, d_model, max_len=50):
        super().__init__()
        pe = torch.zeros(max_len, d_model)
        position = torch.arange(0, max_len).unsqueeze(1)
        div_term = torch.exp(torch.arange(0, d_model, 2) * -(math.log(10000.0) / d_model))
        pe[:, 0::2] = torch.sin(position * div_term)
        pe[:, 1::2] = torch.cos(position * div_term)
        self.register_buffer("pe", pe.unsqueeze(0))

    def forward(self, x):
        return x + self.pe[:, : x.size(1)].requires_grad_(False)


class Model(nn.Module):
    def __init__(self, vocab=11, d=8):
        super().__init__()
        self.src, self.tgt, self.pos, self.d = nn.Embedding(vocab, d), nn.Embedding(vocab, d), PositionalEncoding(d), d
        self.enc, self.self_attn, self.cross = (MultiHeadedAttention(2, d) for _ in range(3))
        self.ff = nn.Sequential(nn.Linear(d, 16), nn.ReLU(), nn.Linear(16, d))
        self.norms, self.proj = clones(LayerNorm(d), 4), nn.Linear(d, vocab)
        for p in self.parameters():
            if p.dim() > 1:
                nn.init.xavier_uniform_(p)

    def encode(self, src, mask):
        x = self.pos(self.src(src) * math.sqrt(self.d))
        return x + self.enc(*[self.norms[0](x)] * 3, mask)

    def decode(self, memory, src_mask, tgt, tgt_mask):
        x = self.pos(self.tgt(tgt) * math.sqrt(self.d))
        y = self.norms[1](x)
        x = x + self.self_attn(y, y, y, tgt_mask)
        x = x + self.cross(self.norms[2](x), memory, memory, src_mask)
        return F.log_softmax(self.proj(self.norms[3](x + self.ff(x))), dim=-1)


def rate(step, model_size, factor, warmup):
    if step == 0:
        step = 1
    return factor * (model_size ** (-0.5) * min(step ** (-0.5), step * warmup ** (-1.5)))


def run(fill, draw):
    model = fill(Model())
    optimizer = torch.optim.Adam(model.parameters(), lr=0.5, betas=(0.9, 0.98), eps=1e-9)
    lr_scheduler = LambdaLR(optimizer=optimizer, lr_lambda=lambda step: rate(step, model_size=8, factor=1.0, warmup=40))
    criterion = nn.KLDivLoss(reduction="sum")
    losses = []
    for i in range(10):
        data = torch.from_numpy(draw.labels(10, 4, 6) + 1)
        data[:, 0] = 1
        data[0, 4:] = 0
        src, tgt, tgt_y = data, data[:, :-1], data[:, 1:]
        src_mask = (src != 0).unsqueeze(-2)
        tgt_mask = (tgt != 0).unsqueeze(-2)
        tgt_mask = tgt_mask & subsequent_mask(tgt.size(-1)).type_as(tgt_mask.data)
        ntokens = (tgt_y != 0).data.sum()
        out = model.decode(model.encode(src, src_mask), src_mask, tgt, tgt_mask)
        x, target = out.contiguous().view(-1, 11), tgt_y.contiguous().view(-1)
        true_dist = torch.full_like(x.data, 0.1 / 9)
        true_dist.scatter_(1, target.unsqueeze(1), 0.9)
        true_dist[:, 0] = 0
        mask = torch.nonzero(target.data == 0, as_tuple=False)
        if len(mask) > 0:
            true_dist.index_fill_(0, mask.squeeze(-1), 0.0)
        loss = criterion(x, true_dist.clone().detach()) / ntokens
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        lr_scheduler.step()
        losses.append(loss.item())
        print("Epoch Step: %6d | Loss: %6.2f | Learning Rate: %6.1e" % (i, loss, optimizer.param_groups[0]["lr"]))
    model.eval()
    memory = model.encode(src[1:2], src_mask[1:2])
    ys = torch.zeros(1, 1).fill_(1).type_as(src.data)
    for i in range(4):
        prob = model.decode(memory, src_mask[1:2], ys, subsequent_mask(ys.size(1)).type_as(src.data))[:, -1]
        _, next_word = torch.max(prob, dim=1)
        next_word = next_word.data[0]
        ys = torch.cat([ys, torch.zeros(1, 1).type_as(src.data).fill_(next_word)], dim=1)
    print(ys.tolist())
    return losses
