"""A critic with the R1 penalty at every fourth step alone (StyleGAN2's lazy regularisation), spectral norm and EMA."""

import copy

import torch
from torch import autograd, nn, optim
from torch.nn import functional as F


def requires_grad(model, flag=True):
    for p in model.parameters():
        p.requires_grad = flag


def accumulate(model1, model2, decay=0.9):
    par1 = dict(model1.named_parameters())
    par2 = dict(model2.named_parameters())
    for k in par1.keys():
        par1[k].data.mul_(decay).add_(par2[k].data, alpha=1 - decay)


def d_r1_loss(real_pred, real_img):
    (grad_real,) = autograd.grad(outputs=real_pred.sum(), inputs=real_img, create_graph=True)
    return grad_real.pow(2).reshape(grad_real.shape[0], -1).sum(1).mean()


def critic():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.LeakyReLU(0.2), nn.AvgPool2d(2), nn.Conv2d(4, 6, 3), nn.ReLU(), nn.Flatten(),
        nn.Linear(24, 1),
    )  # fmt: skip


def generator():
    return nn.Sequential(
        nn.Linear(5, 4 * 16),
        nn.Unflatten(1, (4, 4, 4)),
        nn.Upsample(scale_factor=2),
        nn.SiLU(),
        nn.Conv2d(4, 1, 3, 1, 1),
    )


def run(fill, draw):
    g, d = fill(generator()), fill(critic())
    g_ema = copy.deepcopy(g).eval()
    requires_grad(g_ema, False)
    g_optim = optim.Adam(g.parameters(), lr=2e-3, betas=(0.0, 0.99))
    d_optim = optim.Adam(d.parameters(), lr=2e-3, betas=(0.5, 0.9))
    losses = []
    for i in range(10):
        real_img = torch.from_numpy(draw.normal(4, 1, 8, 8))
        requires_grad(g, False)
        requires_grad(d, True)
        fake_img = g(torch.from_numpy(draw.normal(4, 5)))
        d_loss = F.softplus(-d(real_img)).mean() + F.softplus(d(fake_img)).mean()
        d.zero_grad()
        d_loss.backward()
        d_optim.step()
        if i % 4 == 0:
            real_img.requires_grad = True
            r1_loss = d_r1_loss(d(real_img), real_img)
            d.zero_grad()
            (10 / 2 * r1_loss * 4).backward()
            d_optim.step()
            losses.append(r1_loss.item())
        requires_grad(g, True)
        requires_grad(d, False)
        g_loss = F.softplus(-d(g(torch.from_numpy(draw.normal(4, 5))))).mean()
        g.zero_grad()
        g_loss.backward()
        g_optim.step()
        accumulate(g_ema, g)
        losses += [d_loss.item(), g_loss.item()]
    return losses
