"""Tutorials on parametrizations and custom functions: rotations by exponentials of skew matrices, NumPy's sort."""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.nn.utils.parametrize as parametrize


class Skew(nn.Module):
    def forward(self, X):
        A = X.triu(1)
        return A - A.transpose(-1, -2)

    def right_inverse(self, A):
        return A.triu(1)


class MatrixExponential(nn.Module):
    def forward(self, X):
        return torch.matrix_exp(X)


class NumpySort(torch.autograd.Function):
    @staticmethod
    def forward(x, dim):
        x = x.numpy()
        ind = np.argsort(x, axis=dim)
        result = np.take_along_axis(x, ind, axis=dim)
        return torch.from_numpy(result), torch.from_numpy(ind), torch.from_numpy(np.argsort(ind, axis=dim))

    @staticmethod
    def setup_context(ctx, inputs, output):
        _, ctx.dim = inputs
        _, ind, ind_inv = output
        ctx.mark_non_differentiable(ind, ind_inv)
        ctx.save_for_backward(ind, ind_inv)

    @staticmethod
    def backward(ctx, grad_output, _0, _1):
        _, ind_inv = ctx.saved_tensors
        return torch.gather(grad_output, ctx.dim, ind_inv), None


def run(fill, draw):
    model = fill(nn.Sequential(nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 3)))
    parametrize.register_parametrization(model[0], "weight", Skew())
    parametrize.register_parametrization(model[0], "weight", MatrixExponential())
    w = model[0].weight
    assert torch.dist(w.T @ w, torch.eye(5)) < 1e-5
    assert list(model.state_dict())[1] == "0.parametrizations.weight.original"
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    losses = []
    for _ in range(10):
        x, y = torch.from_numpy(draw.normal(8, 5)), torch.from_numpy(draw.normal(8, 3))
        optimizer.zero_grad()
        with parametrize.cached():
            loss = F.mse_loss(NumpySort.apply(model(x), 1)[0], y) + model[0].weight.contiguous().view(-1)[:3].sum()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert torch.dist(model[0].weight.T @ model[0].weight, torch.eye(5)) < 1e-5
    return losses
