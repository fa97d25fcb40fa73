"""A physics-informed network for Burgers' equation: derivatives of the output by autograd.grad with create_graph."""

import numpy as np
import torch
import torch.nn as nn


class PINN(nn.Module):
    def __init__(self, layers):
        super().__init__()
        self.linears = nn.ModuleList([nn.Linear(layers[i], layers[i + 1]) for i in range(len(layers) - 1)])
        self.activation = nn.Tanh()
        for lin in self.linears:
            nn.init.xavier_normal_(lin.weight.data, gain=1.0)
            nn.init.zeros_(lin.bias.data)

    def forward(self, x, t):
        z = torch.cat([x, t], dim=1)
        for lin in self.linears[:-1]:
            z = self.activation(lin(z))
        return self.linears[-1](z)


def residual(model, x, t, nu=0.01 / np.pi):
    u = model(x, t)
    u_t = torch.autograd.grad(u, t, grad_outputs=torch.ones_like(u), retain_graph=True, create_graph=True)[0]
    u_x = torch.autograd.grad(u, x, grad_outputs=torch.ones_like(u), retain_graph=True, create_graph=True)[0]
    u_xx = torch.autograd.grad(u_x, x, grad_outputs=torch.ones_like(u_x), retain_graph=True, create_graph=True)[0]
    return u_t + u * u_x - nu * u_xx


def run(fill, draw):
    model = fill(PINN([2, 16, 16, 1]))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    x_f = torch.tensor(draw.uniform(40, 1) * 2 - 1, requires_grad=True)
    t_f = torch.tensor(draw.uniform(40, 1), requires_grad=True)
    x_0 = torch.tensor(draw.uniform(20, 1) * 2 - 1)
    u_0 = -torch.sin(np.pi * x_0)
    loss_function = nn.MSELoss(reduction="mean")
    losses = []
    for it in range(10):
        optimizer.zero_grad()
        f = residual(model, x_f, t_f)
        loss_f = loss_function(f, torch.zeros_like(f))
        loss_u = loss_function(model(x_0, torch.zeros_like(x_0)), u_0)
        loss = loss_u + loss_f
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses
