"""DreamerV3's world model: discrete RSSM, unimix, KL balance with free bits, symlog two-hot heads, lambda returns."""

import numpy as np
import torch
from torch import distributions as torchd
from torch import nn
from torch.nn import functional as F


def symlog(x):
    return torch.sign(x) * torch.log(torch.abs(x) + 1.0)


def symexp(x):
    return torch.sign(x) * (torch.exp(torch.abs(x)) - 1.0)


class OneHotDist(torchd.one_hot_categorical.OneHotCategorical):
    def __init__(self, logits=None, probs=None, unimix_ratio=0.0):
        if logits is not None and unimix_ratio > 0.0:
            probs = F.softmax(logits, dim=-1)
            probs = probs * (1.0 - unimix_ratio) + unimix_ratio / probs.shape[-1]
            logits = torch.log(probs)
            super().__init__(logits=logits, probs=None)
        else:
            super().__init__(logits=logits, probs=probs)

    def mode(self):
        _mode = F.one_hot(torch.argmax(super().logits, axis=-1), super().logits.shape[-1])
        return _mode.detach() + super().logits - super().logits.detach()


class DiscDist:
    def __init__(self, logits, low=-5.0, high=5.0, n=21):
        self.logits, self.probs = logits, torch.softmax(logits, -1)
        self.buckets = torch.linspace(low, high, steps=n)

    def mean(self):
        return symexp(torch.sum(self.probs * self.buckets, dim=-1, keepdim=True))

    def log_prob(self, x):
        x = symlog(x)
        below = torch.sum((self.buckets <= x[..., None]).to(torch.int32), dim=-1) - 1
        above = len(self.buckets) - torch.sum((self.buckets > x[..., None]).to(torch.int32), dim=-1)
        below = torch.clip(below, 0, len(self.buckets) - 1)
        above = torch.clip(above, 0, len(self.buckets) - 1)
        equal = below == above
        dist_to_below = torch.where(equal, 1, torch.abs(self.buckets[below] - x))
        dist_to_above = torch.where(equal, 1, torch.abs(self.buckets[above] - x))
        total = dist_to_below + dist_to_above
        w_below, w_above = dist_to_above / total, dist_to_below / total
        target = (
            F.one_hot(below.long(), num_classes=len(self.buckets)) * w_below[..., None]
            + F.one_hot(above.long(), num_classes=len(self.buckets)) * w_above[..., None]
        )
        log_pred = self.logits - torch.logsumexp(self.logits, -1, keepdim=True)
        return (target.squeeze(-2) * log_pred).sum(-1)


class GRUCell(nn.Module):
    def __init__(self, inp, size, norm=True, act=torch.tanh, update_bias=-1):
        super().__init__()
        self._size, self._act, self._update_bias = size, act, update_bias
        self.layers = nn.Sequential()
        self.layers.add_module("GRU_linear", nn.Linear(inp + size, 3 * size, bias=False))
        if norm:
            self.layers.add_module("GRU_norm", nn.LayerNorm(3 * size, eps=1e-03))

    def forward(self, inputs, state):
        parts = self.layers(torch.cat([inputs, state], -1))
        reset, cand, update = torch.split(parts, [self._size] * 3, -1)
        reset = torch.sigmoid(reset)
        cand = self._act(reset * cand)
        update = torch.sigmoid(update + self._update_bias)
        return update * cand + (1 - update) * state


class RSSM(nn.Module):
    def __init__(self, stoch=4, classes=5, deter=16, embed=12, act=2):
        super().__init__()
        self.s, self.c, self.d = stoch, classes, deter
        self.img_in = nn.Sequential(
            nn.Linear(stoch * classes + act, 16, bias=False), nn.LayerNorm(16, eps=1e-3), nn.SiLU()
        )
        self.cell = GRUCell(16, deter)
        self.prior, self.post = nn.Linear(deter, stoch * classes), nn.Linear(deter + embed, stoch * classes)
        self.W = nn.Parameter(torch.zeros((1, deter), dtype=torch.get_default_dtype()), requires_grad=True)

    def dist(self, logits):
        return torchd.independent.Independent(
            OneHotDist(logits.reshape(*logits.shape[:-1], self.s, self.c), unimix_ratio=0.01), 1
        )

    def observe(self, embed, action, is_first):
        B = embed.shape[0]

        def swap(x):
            return x.permute([1, 0] + list(range(2, len(x.shape))))

        h, z = torch.tanh(self.W).repeat(B, 1), torch.zeros(B, self.s, self.c)
        out = []
        for e, a, first in zip(swap(embed), swap(action), swap(is_first)):
            a = a * (1.0 - first)[:, None]
            h = self.cell(self.img_in(torch.cat([z.reshape(B, -1), a], -1)), h)
            prior, post = self.prior(h), self.post(torch.cat([h, e], -1))
            d = self.dist(post)
            z = d.base_dist.mode()
            out.append((h, z.flatten(1), prior, post))
        return [swap(torch.stack(x, 0)) for x in zip(*out)]

    def kl(self, post, prior, free=1.0, dyn=0.5, rep=0.1):
        kld = torchd.kl.kl_divergence
        r = kld(self.dist(post), self.dist(prior.detach()))
        d = kld(self.dist(post.detach()), self.dist(prior))
        value = r.detach()
        return dyn * torch.clip(d, min=free) + rep * torch.clip(r, min=free), value


def lambda_return(reward, value, pcont, bootstrap, lambda_):
    next_values = torch.cat([value[1:], bootstrap[None]], 0)
    inputs = reward + pcont * next_values * (1 - lambda_)
    returns, last = [], bootstrap
    for t in reversed(range(len(reward))):
        last = inputs[t] + pcont[t] * lambda_ * last
        returns.append(last)
    return torch.stack(list(reversed(returns)))


def run(fill, draw):
    obs = draw.normal(10, 3, 5, 3).cumsum(2)
    act = np.eye(2)[draw.labels(2, 10, 3, 5)]
    rew = obs[..., 0] * 2
    rssm = fill(RSSM())
    enc = fill(nn.Sequential(nn.Linear(3, 12), nn.LayerNorm(12, eps=1e-03), nn.SiLU()))
    heads = nn.ModuleDict(
        {"decoder": nn.Linear(36, 3), "reward": nn.Linear(36, 21), "cont": nn.Linear(36, 1), "value": nn.Linear(36, 21)}
    )
    heads = fill(heads)
    opt = torch.optim.Adam([*rssm.parameters(), *enc.parameters(), *heads.parameters()], lr=1e-3, eps=1e-8)
    ema_vals = torch.zeros((2,))
    out = []
    for step in range(10):
        o, a, r = (torch.tensor(x[step], dtype=torch.get_default_dtype()) for x in (obs, act, rew))
        first = torch.zeros(3, 5)
        first[:, 0] = 1
        h, z, prior, post = rssm.observe(enc(symlog(o)), a, first)
        feat = torch.cat([h, z], -1)
        kl_loss, kl_value = rssm.kl(post, prior)
        losses = {
            "decoder": ((heads["decoder"](feat) - symlog(o)) ** 2).sum(-1),
            "reward": -DiscDist(heads["reward"](feat)).log_prob(r.unsqueeze(-1)),
            "cont": -torchd.independent.Independent(torchd.bernoulli.Bernoulli(logits=heads["cont"](feat)), 1).log_prob(
                (1 - first)[..., None]
            ),
        }
        v = DiscDist(heads["value"](feat.detach()))
        with torch.no_grad():
            vm = v.mean().transpose(0, 1)
            ret = lambda_return(r.t().unsqueeze(-1), vm, torch.full_like(vm, 0.97), vm[-1], 0.95)
            q = torch.quantile(ret.flatten().detach(), q=torch.tensor([0.05, 0.95]))
            ema_vals[:] = 0.02 * q + 0.98 * ema_vals
        losses["value"] = -v.log_prob(ret.transpose(0, 1))
        model_loss = sum(losses.values()) + kl_loss
        loss = model_loss.mean()
        opt.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(rssm.parameters(), 100.0)
        opt.step()
        out.append(loss.item() + 1e-3 * norm.item() + kl_value.mean().item() + ema_vals.sum().item())
    out.append(rssm.dist(post).entropy().mean().item())
    return out
