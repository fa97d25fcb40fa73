"""Capsules with routing, a sparse mixture of experts, a hypernetwork and mixer blocks."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.distributions.normal import Normal


def squash(x, dim=-1):
    squared_norm = (x**2).sum(dim=dim, keepdim=True)
    scale = squared_norm / (1 + squared_norm)
    return scale * x / (squared_norm.sqrt() + 1e-8)


class DigitCaps(nn.Module):
    def __init__(self, in_dim, in_caps, num_caps, dim_caps, num_routing):
        super().__init__()
        self.in_caps, self.num_caps, self.num_routing = in_caps, num_caps, num_routing
        self.W = nn.Parameter(0.01 * torch.randn(1, num_caps, in_caps, dim_caps, in_dim), requires_grad=True)

    def forward(self, x):
        batch_size = x.size(0)
        x = x.unsqueeze(1).unsqueeze(4)
        u_hat = torch.matmul(self.W, x).squeeze(-1)
        temp_u_hat = u_hat.detach()
        b = torch.zeros(batch_size, self.num_caps, self.in_caps, 1).to(x.device)
        for route_iter in range(self.num_routing - 1):
            c = b.softmax(dim=1)
            s = (c * temp_u_hat).sum(dim=2)
            v = squash(s)
            uv = torch.matmul(temp_u_hat, v.unsqueeze(-1))
            b += uv
        c = b.softmax(dim=1)
        s = (c * u_hat).sum(dim=2)
        return squash(s)


class SparseDispatcher(object):
    def __init__(self, num_experts, gates):
        self._gates, self._num_experts = gates, num_experts
        sorted_experts, index_sorted_experts = torch.nonzero(gates).sort(0)
        _, self._expert_index = sorted_experts.split(1, dim=1)
        self._batch_index = torch.nonzero(gates)[index_sorted_experts[:, 1], 0]
        self._part_sizes = (gates > 0).sum(0).tolist()
        gates_exp = gates[self._batch_index.flatten()]
        self._nonzero_gates = torch.gather(gates_exp, 1, self._expert_index)

    def dispatch(self, inp):
        inp_exp = inp[self._batch_index].squeeze(1)
        return torch.split(inp_exp, self._part_sizes, dim=0)

    def combine(self, expert_out):
        stitched = torch.cat(expert_out, 0).mul(self._nonzero_gates)
        zeros = torch.zeros(self._gates.size(0), expert_out[-1].size(1), requires_grad=True, device=stitched.device)
        return zeros.index_add(0, self._batch_index, stitched)


class MoE(nn.Module):
    def __init__(self, input_size, output_size, num_experts, k=2):
        super().__init__()
        self.num_experts, self.k = num_experts, k
        self.experts = nn.ModuleList(
            [
                nn.Sequential(nn.Linear(input_size, 8), nn.ReLU(), nn.Linear(8, output_size), nn.Softmax(1))
                for i in range(num_experts)
            ]
        )
        self.w_gate = nn.Parameter(torch.zeros(input_size, num_experts), requires_grad=True)
        self.softplus = nn.Softplus()
        self.register_buffer("mean", torch.tensor([0.0]))
        self.register_buffer("std", torch.tensor([1.0]))
        assert self.k <= self.num_experts

    def cv_squared(self, x):
        eps = 1e-10
        if x.shape[0] == 1:
            return torch.tensor([0], device=x.device, dtype=x.dtype)
        return x.var() / (x.mean() ** 2 + eps)

    def forward(self, x, loss_coef=1e-2):
        logits = x @ self.w_gate
        top_logits, top_indices = logits.topk(min(self.k + 1, self.num_experts), dim=1)
        top_k_logits, top_k_indices = top_logits[:, : self.k], top_indices[:, : self.k]
        top_k_gates = F.softmax(top_k_logits, 1)
        zeros = torch.zeros_like(logits, requires_grad=True)
        gates = zeros.scatter(1, top_k_indices, top_k_gates)
        normal = Normal(self.mean, self.std)
        prob = normal.cdf((logits - top_logits[:, self.k : self.k + 1]) / self.softplus(logits))
        importance, load = gates.sum(0), prob.sum(0)
        loss = (self.cv_squared(importance) + self.cv_squared(load)) * loss_coef
        dispatcher = SparseDispatcher(self.num_experts, gates)
        expert_inputs = dispatcher.dispatch(x)
        expert_outputs = [self.experts[i](expert_inputs[i]) for i in range(self.num_experts)]
        return dispatcher.combine(expert_outputs), loss


class HyperNet(nn.Module):
    def __init__(self, z_dim=4, f_size=3, out_size=2, in_size=1):
        super().__init__()
        self.z_dim, self.f_size, self.out_size, self.in_size = z_dim, f_size, out_size, in_size
        self.w2 = nn.Parameter(torch.fmod(torch.randn((z_dim, in_size * f_size * f_size * out_size)), 2))
        self.b2 = nn.Parameter(torch.fmod(torch.randn((in_size * f_size * f_size * out_size)), 2))

    def forward(self, z):
        h = torch.matmul(z, self.w2) + self.b2
        return h.view(self.out_size, self.in_size, self.f_size, self.f_size)


class MixerBlock(nn.Module):
    def __init__(self, tokens, dim):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.tok, self.ch = (nn.Sequential(nn.Linear(n, 8), nn.GELU(), nn.Linear(8, n)) for n in (tokens, dim))

    def forward(self, x):
        x = x + self.tok(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.ch(self.norm2(x))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.hyper, self.z = HyperNet(), nn.ParameterList([nn.Parameter(torch.randn(4)) for _ in range(1)])
        self.caps = DigitCaps(in_dim=4, in_caps=8, num_caps=3, dim_caps=4, num_routing=3)
        self.mixer = nn.Sequential(*[MixerBlock(8, 4) for _ in range(2)])
        self.phi = nn.Sequential(nn.Linear(4, 8), nn.ELU(inplace=True))
        self.moe = MoE(8, 3, 4)

    def forward(self, img):
        kernel = self.hyper(self.z[0])
        x = F.conv2d(img, kernel, stride=2, padding=1)
        x = x.view(x.size(0), -1, 4)
        v = self.caps(squash(x))
        logits = torch.norm(v, dim=-1)
        x = self.mixer(x)
        xm, _ = x.max(1, keepdim=True)
        x = self.phi(x - xm).mean(1)
        y, aux = self.moe(x)
        return logits, y, aux


class CapsuleLoss(nn.Module):
    def forward(self, labels, logits):
        left = (0.9 - logits).relu() ** 2
        right = (logits - 0.1).relu() ** 2
        margin_loss = torch.sum(labels * left) + 0.5 * torch.sum((1 - labels) * right)
        return margin_loss


def run(fill, draw):
    model = fill(Net())
    print(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.96)
    losses = []
    for i in range(10):
        img, y = torch.from_numpy(draw.normal(6, 1, 8, 8))[:, :, :, :], torch.from_numpy(draw.labels(3, 6))
        logits, mix, aux = model(img[..., :])
        onehot = torch.eye(3).index_select(dim=0, index=y)
        loss = CapsuleLoss()(onehot, logits) + F.nll_loss(torch.log(mix + 1e-9), y) + aux
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
        correct = sum(logits.argmax(dim=1) == y).item()
        print(f"loss {loss:.3f} correct {correct} lr {scheduler.get_last_lr()[0]:.2e}")
    return losses
