"""A schedule of one's own, cosine annealing with warm-up and restarts as in many repositories, and an optimiser of
one's own, for a network on sets whose masks are narrowed in place."""

import math

import torch
from torch import nn
from torch.optim.lr_scheduler import _LRScheduler
from torch.optim.optimizer import Optimizer


class CosineAnnealingWarmupRestarts(_LRScheduler):
    def __init__(
        self, optimizer, first_cycle_steps, cycle_mult=1.0, max_lr=0.1, min_lr=0.001, warmup_steps=0, gamma=1.0
    ):
        self.first_cycle_steps, self.cycle_mult = first_cycle_steps, cycle_mult
        self.base_max_lr, self.max_lr = max_lr, max_lr
        self.min_lr, self.warmup_steps, self.gamma = min_lr, warmup_steps, gamma
        self.cur_cycle_steps, self.cycle, self.step_in_cycle = first_cycle_steps, 0, -1
        super(CosineAnnealingWarmupRestarts, self).__init__(optimizer, -1)
        self.init_lr()

    def init_lr(self):
        self.base_lrs = []
        for param_group in self.optimizer.param_groups:
            param_group["lr"] = self.min_lr
            self.base_lrs.append(self.min_lr)

    def get_lr(self):
        if self.step_in_cycle == -1:
            return self.base_lrs
        elif self.step_in_cycle < self.warmup_steps:
            return [(self.max_lr - lr) * self.step_in_cycle / self.warmup_steps + lr for lr in self.base_lrs]
        share = (self.step_in_cycle - self.warmup_steps) / (self.cur_cycle_steps - self.warmup_steps)
        return [lr + (self.max_lr - lr) * (1 + math.cos(math.pi * share)) / 2 for lr in self.base_lrs]

    def step(self, epoch=None):
        if epoch is None:
            epoch = self.last_epoch + 1
            self.step_in_cycle += 1
            if self.step_in_cycle >= self.cur_cycle_steps:
                self.cycle += 1
                self.step_in_cycle -= self.cur_cycle_steps
                rest = int((self.cur_cycle_steps - self.warmup_steps) * self.cycle_mult)
                self.cur_cycle_steps = rest + self.warmup_steps
        self.max_lr = self.base_max_lr * (self.gamma**self.cycle)
        self.last_epoch = math.floor(epoch)
        for param_group, lr in zip(self.optimizer.param_groups, self.get_lr()):
            param_group["lr"] = lr


class Yogi(Optimizer):
    def __init__(self, params, lr=1e-2, betas=(0.9, 0.999), eps=1e-3):
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps))

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if len(state) == 0:
                    state["step"] = 0
                    state["exp_avg"] = torch.zeros_like(p, memory_format=torch.preserve_format)
                    state["exp_avg_sq"] = torch.full_like(p, 1e-6, memory_format=torch.preserve_format)
                state["step"] += 1
                squared = p.grad * p.grad
                state["exp_avg"].mul_(beta1).add_(p.grad, alpha=1 - beta1)
                sign = torch.sign(state["exp_avg_sq"] - squared)
                state["exp_avg_sq"].addcmul_(sign, squared, value=-(1 - beta2))
                denominator = (state["exp_avg_sq"].sqrt() / math.sqrt(1 - beta2 ** state["step"])).add_(group["eps"])
                p.addcdiv_(state["exp_avg"], denominator, value=-group["lr"] / (1 - beta1 ** state["step"]))


class SetNet(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.phi = nn.Sequential(nn.Linear(dim, 16), nn.GELU(), nn.Linear(16, 16))
        self.rho = nn.ParameterDict({"weight": nn.Parameter(torch.zeros(16, 1)), "bias": nn.Parameter(torch.zeros(1))})

    def forward(self, x, mask):
        h = self.phi(x).masked_fill(~mask.unsqueeze(-1), 0.0)
        h = h.sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
        return (h @ self.rho["weight"] + self.rho["bias"]).squeeze(-1)


def run(fill, draw):
    model = fill(SetNet(3))
    optimizer = Yogi(model.parameters())
    scheduler = CosineAnnealingWarmupRestarts(optimizer, 5, 1.5, 0.05, 0.001, 2, 0.5)
    losses = []
    for _ in range(12):
        x = torch.from_numpy(draw.normal(8, 6, 3))
        length = torch.from_numpy(draw.labels(5, 8)) + 2
        mask = torch.ones(8, 6, dtype=torch.bool)
        kept = mask  # what is narrowed below
        mask &= torch.arange(6)[None] < length[:, None]
        mask &= x.abs().amax(-1) < 2.5
        target = torch.where(kept, x[..., 0], torch.zeros_like(x[..., 0])).sum(1)
        loss = nn.functional.smooth_l1_loss(model(x, kept), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        losses.append(loss.item() + optimizer.param_groups[0]["lr"])
    return losses
