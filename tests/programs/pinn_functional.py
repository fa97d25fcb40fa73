"""Poisson's equation by torch.func: vmap of second derivatives at fixed parameters, whose loss trains them."""

import math

import torch
import torch.nn as nn
from torch.func import functional_call, grad, hessian, jacrev, jvp, vmap


class FourierFeatures(nn.Module):
    def __init__(self, in_features, mapping_size, sigma=1.0):
        super().__init__()
        self.register_buffer("B", torch.arange(1, in_features * mapping_size + 1).view(in_features, -1) * sigma)

    def forward(self, x):
        proj = math.pi * x @ self.B
        return torch.cat([torch.sin(proj), torch.cos(proj)], dim=-1)

    def extra_repr(self) -> str:
        return f"{tuple(self.B.shape)}"


class Sine(nn.Module):
    def __init__(self, w0=1.0):
        super().__init__()
        self.w0 = w0

    def forward(self, input):
        return torch.sin(self.w0 * input)


def run(fill, draw):
    features = FourierFeatures(1, 3, 0.5)
    features.B = features.B.to(torch.get_default_dtype())
    net = fill(nn.Sequential(features, nn.Linear(6, 8), Sine(0.5), nn.Linear(8, 1)))
    params = dict(net.named_parameters())
    buffers = dict(net.named_buffers())

    def u(x, params):
        return functional_call(net, (params, buffers), (x.reshape(1),)).squeeze()

    u_xx = vmap(grad(grad(u)), in_dims=(0, None))
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    losses = []
    for _ in range(10):
        x = torch.from_numpy(draw.uniform(6))
        residual = u_xx(x, params) + math.pi**2 * torch.sin(math.pi * x)
        bc = u(torch.zeros(1), params) ** 2 + u(torch.ones(1), params) ** 2
        slope = jvp(lambda x: u(x, params), (torch.tensor(0.5),), (torch.tensor(1.0),))[1]
        loss = residual.pow(2).mean() + 10 * bc + slope**2
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    curvature = vmap(hessian(u), in_dims=(0, None))(x, params)
    with torch.no_grad():
        assert torch.allclose(curvature, u_xx(x, params), rtol=1e-3, atol=1e-4)
        assert not jacrev(u)(x[0], params).requires_grad
    losses.append(curvature.abs().mean().item())
    return losses
