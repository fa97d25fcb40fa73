"""A recurrent world model: a GRU cell, a prior and a posterior of the state, their divergence."""

import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim


class RSSM(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.GRUCell(4 + 2, 8)
        self.prior, self.post = nn.Linear(8, 8), nn.Linear(8 + 5, 8)
        self.dec = nn.Linear(12, 5)
        self.rew = nn.Linear(12, 1)

    def stats(self, s):
        mean, std = torch.chunk(s, 2, dim=-1)
        return mean, F.softplus(std) + 0.1


def run(fill, draw):
    m = fill(RSSM())
    opt = optim.Adam(m.parameters(), lr=1e-2, eps=1e-5)
    out = []
    for _ in range(10):
        obs, act, rew = (
            torch.from_numpy(draw.normal(5, 3, 5)),
            torch.from_numpy(draw.normal(5, 3, 2)),
            torch.from_numpy(draw.normal(5, 3)),
        )
        h, z = torch.zeros(3, 8), torch.zeros(3, 4)
        feats, kls = [], []
        for o, a in zip(obs.unbind(0), act.unbind(0)):
            h = m.cell(torch.cat([z, a], -1), h)
            pm, ps = m.stats(m.prior(h))
            qm, qs = m.stats(m.post(torch.cat([h, o], -1)))
            z = qm + qs * torch.from_numpy(draw.normal(3, 4))
            kl = torch.distributions.kl.kl_divergence(
                torch.distributions.Normal(qm, qs), torch.distributions.Normal(pm, ps)
            ).sum(-1)
            kls.append(torch.max(kl, torch.tensor(0.5)).mean())
            feats.append(torch.cat([h, z], dim=-1))
        feat = torch.stack(feats)
        loss = F.mse_loss(m.dec(feat), obs) + F.mse_loss(m.rew(feat).squeeze(-1), rew) + 0.1 * sum(kls) / len(kls)
        opt.zero_grad(set_to_none=False)
        loss.backward()
        total_norm = nn.utils.clip_grad_norm_(m.parameters(), 1.0, norm_type=2)
        opt.step()
        out.append(loss.item() + float(total_norm))
    return out
