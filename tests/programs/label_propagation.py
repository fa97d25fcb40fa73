"""Labels that spread over the graph of nearest neighbours."""

import torch


def run(fill, draw):
    x = torch.from_numpy(draw.normal(20, 3))
    D = torch.cdist(x, x)
    W = torch.exp(-(D**2) / 2)
    W = W - torch.diag(torch.diag(W))
    _, nn_idx = D.topk(6, largest=False)
    mask = torch.zeros_like(W).scatter_(1, nn_idx, 1.0)
    W = W * ((mask + mask.t()) > 0).to(W.dtype)
    d = W.sum(1)
    d[d == 0] += 1
    D_inv = 1 / d
    P = D_inv[:, None] * W
    labels = torch.full((20,), -1, dtype=torch.long)
    labels[:6] = torch.from_numpy(draw.labels(3, 6))
    known = labels >= 0
    Y = torch.zeros(20, 3)
    Y[known, labels[known]] = 1
    static = Y.clone()
    out = []
    for _ in range(10):
        prev = Y
        Y = P @ Y
        Y[known] = static[known]
        Y = Y / Y.sum(1, keepdim=True).clamp(min=1e-9)
        out.append((Y - prev).abs().sum().item())
    u = Y.argmax(dim=-1).unique(return_counts=True)
    out.append(float(u[1].sum()))
    return out
