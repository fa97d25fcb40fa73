"""VQGAN: a codebook that follows by moving averages, and a critic weighed by two gradients of the last layer."""

import torch
import torch.nn as nn
import torch.nn.functional as F


class VectorQuantizerEMA(nn.Module):
    def __init__(self, n_embed=8, dim=4, decay=0.9, eps=1e-5, beta=0.25):
        super().__init__()
        self.n_embed, self.dim, self.decay, self.eps, self.beta = n_embed, dim, decay, eps, beta
        self.embedding = nn.Parameter(torch.randn(n_embed, dim), requires_grad=False)
        self.register_buffer("cluster_size", torch.zeros(n_embed))
        self.register_buffer("embed_avg", torch.zeros(n_embed, dim))

    def forward(self, z):
        z = z.permute(0, 2, 3, 1).contiguous()
        flat = z.view(-1, self.dim)
        d = flat.pow(2).sum(1, keepdim=True) - 2 * torch.einsum("bd,nd->bn", flat, self.embedding)
        ind = torch.argmin(d + self.embedding.pow(2).sum(1), dim=1)
        onehot = F.one_hot(ind, self.n_embed).type(z.dtype)
        q = F.embedding(ind, self.embedding).view(z.shape)
        if self.training:
            with torch.no_grad():
                self.cluster_size.data.mul_(self.decay).add_(onehot.sum(0), alpha=1 - self.decay)
                self.embed_avg.data.mul_(self.decay).add_(onehot.t() @ flat, alpha=1 - self.decay)
                n = self.cluster_size.sum()
                size = (self.cluster_size + self.eps) / (n + self.n_embed * self.eps) * n
                self.embedding.data.copy_(self.embed_avg / size.unsqueeze(1))
        loss = self.beta * F.mse_loss(z, q.detach())
        q = z + (q - z).detach()
        return q.permute(0, 3, 1, 2).contiguous(), loss


class VQGAN(nn.Module):
    def __init__(self, ch=4):
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(1, ch, 3, 2, 1), nn.GroupNorm(2, ch), nn.SiLU(), nn.Conv2d(ch, 4, 1))
        self.quantize = VectorQuantizerEMA()
        self.decoder = nn.Sequential(
            nn.Upsample(scale_factor=2.0), nn.Conv2d(4, ch, 3, 1, 1), nn.SiLU(), nn.Conv2d(ch, 1, 1)
        )

    def forward(self, x):
        q, loss = self.quantize(self.encoder(x))
        return self.decoder(q), loss

    def get_last_layer(self):
        return self.decoder[-1].weight


def run(fill, draw):
    vq = fill(VQGAN())
    disc = fill(nn.Sequential(nn.Conv2d(1, 4, 4, 2, 1), nn.LeakyReLU(0.2, True), nn.Conv2d(4, 1, 3, 1, 1)))
    trained = list(vq.encoder.parameters()) + list(vq.decoder.parameters())
    opt_ae = torch.optim.Adam(trained, lr=2e-3, betas=(0.5, 0.9))
    opt_disc = torch.optim.Adam(disc.parameters(), lr=2e-3, betas=(0.5, 0.9))
    losses = []
    for step in range(10):
        imgs = torch.from_numpy(draw.normal(3, 1, 8, 8))
        rec, qloss = vq(imgs)
        nll = torch.abs(imgs.contiguous() - rec.contiguous()).mean()
        g_loss = -torch.mean(disc(rec.contiguous()))
        nll_grads = torch.autograd.grad(nll, vq.get_last_layer(), retain_graph=True)[0]
        g_grads = torch.autograd.grad(g_loss, vq.get_last_layer(), retain_graph=True)[0]
        d_weight = torch.norm(nll_grads) / (torch.norm(g_grads) + 1e-4)
        d_weight = torch.clamp(d_weight, 0.0, 1e4).detach()
        disc_factor = 0.0 if step < 2 else 1.0
        loss = nll + d_weight * disc_factor * g_loss + qloss.mean()
        opt_ae.zero_grad()
        loss.backward()
        opt_ae.step()
        logits_real, logits_fake = disc(imgs.contiguous().detach()), disc(rec.contiguous().detach())
        d_loss = disc_factor * 0.5 * (torch.mean(F.relu(1.0 - logits_real)) + torch.mean(F.relu(1.0 + logits_fake)))
        opt_disc.zero_grad()
        d_loss.backward()
        opt_disc.step()
        losses += [loss.item(), d_weight.item()]
    return losses
