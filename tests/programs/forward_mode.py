"""Tutorials on torch.func: tangents as a penalty, an empirical neural tangent kernel, and clipped sample gradients."""

import torch
import torch.autograd.forward_ad as fwAD
import torch.nn as nn
import torch.nn.functional as F
from torch.func import functional_call, grad, jvp, vjp, vmap


def kernel(net, params, x1, x2):
    def of(x):
        return lambda params: functional_call(net, params, (x.unsqueeze(0),)).squeeze(0)

    def get_ntk(x1, x2):
        output, vjp_fn = vjp(of(x1), params)

        def get_ntk_slice(vec):
            return jvp(of(x2), (params,), vjp_fn(vec))[1]

        return vmap(get_ntk_slice)(torch.eye(output.numel()))

    return torch.einsum("NMKK->NM", vmap(vmap(get_ntk, (None, 0)), (0, None))(x1, x2))


def run(fill, draw):
    net = fill(nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    x, y = torch.from_numpy(draw.normal(6, 3)), torch.from_numpy(draw.labels(2, 6))
    losses = []
    for _ in range(6):
        with fwAD.dual_level():
            output = net(fwAD.make_dual(x, torch.from_numpy(draw.normal(6, 3))))
            primal, tangent = fwAD.unpack_dual(output)
            loss = F.cross_entropy(primal, y) + 0.1 * tangent.pow(2).mean()
            optimizer.zero_grad()
            loss.backward()
        optimizer.step()
        losses.append(loss.item())
    params = {k: v.detach() for k, v in net.named_parameters()}
    losses += kernel(net, params, x[:2], x[2:4]).flatten().tolist()

    def compute_loss(params, sample, target):
        return F.cross_entropy(functional_call(net, params, (sample.unsqueeze(0),)), target.unsqueeze(0))

    grads = vmap(grad(compute_loss), in_dims=(None, 0, 0))(params, x, y)
    norms = torch.stack([g.flatten(1).norm(dim=1) for g in grads.values()]).norm(dim=0)
    return losses + (1 / norms).clamp(max=1.0).tolist()
