"""A custom autograd Function (straight-through sign) in a binarised network, weights clipped after each step."""

import torch
import torch.nn as nn
import torch.nn.functional as F


class SignSTE(torch.autograd.Function):
    @staticmethod
    def forward(ctx, input):
        ctx.save_for_backward(input)
        return input.sign()

    @staticmethod
    def backward(ctx, grad_output):
        (input,) = ctx.saved_tensors
        grad_input = grad_output.clone()
        grad_input[input.abs() > 1] = 0
        return grad_input


class BinaryLinear(nn.Linear):
    def forward(self, input):
        return F.linear(input, SignSTE.apply(self.weight), self.bias)


def run(fill, draw):
    model = fill(nn.Sequential(BinaryLinear(10, 24), nn.Hardtanh(), BinaryLinear(24, 4)))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(10):
        x, y = torch.from_numpy(draw.normal(16, 10)), torch.from_numpy(draw.labels(4, 16))
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for p in model.parameters():
            p.data.clamp_(-1, 1)
        losses.append(loss.item())
    return losses
