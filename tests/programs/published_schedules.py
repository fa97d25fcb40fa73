"""Learning-rate schedules as their authors publish them, and two of PyTorch's stepped in turn on one optimiser."""

import io
import math
import warnings

import torch
from torch import nn, optim
from torch.optim.lr_scheduler import CosineAnnealingLR, ExponentialLR, LinearLR, MultiStepLR, _LRScheduler


class NoamLR(_LRScheduler):
    def __init__(self, optimizer, dim_embed, warmup_steps, last_epoch=-1):
        self.dim_embed, self.warmup_steps, self.num_param_groups = dim_embed, warmup_steps, len(optimizer.param_groups)
        super().__init__(optimizer, last_epoch)

    def get_lr(self):
        lr = self.dim_embed**-0.5 * min(self._step_count**-0.5, self._step_count * self.warmup_steps**-1.5)
        return [lr] * self.num_param_groups


class PolynomialLRDecay(_LRScheduler):
    def __init__(self, optimizer, max_iters, power=0.9, last_epoch=-1, min_lr=1e-6):
        self.power, self.max_iters, self.min_lr, self.called = power, max_iters, min_lr, 0
        super().__init__(optimizer, last_epoch)

    def get_lr(self):
        if not self._get_lr_called_within_step:
            warnings.warn("To get the last learning rate computed by the scheduler, please use `get_last_lr()`.")
        self.called += 1
        share = (1 - self.last_epoch / self.max_iters) ** self.power
        return [max(base_lr * share / (1 + 0.01 * self.called), self.min_lr) for base_lr in self.base_lrs]


class GradualWarmupScheduler(_LRScheduler):
    def __init__(self, optimizer, multiplier, total_epoch, after_scheduler=None):
        self.multiplier, self.total_epoch, self.after_scheduler = multiplier, total_epoch, after_scheduler
        self.finished = False
        super().__init__(optimizer)

    def get_lr(self):
        if self.last_epoch > self.total_epoch:
            if self.after_scheduler:
                if not self.finished:
                    self.after_scheduler.base_lrs = [base_lr * self.multiplier for base_lr in self.base_lrs]
                    self.finished = True
                return self.after_scheduler.get_last_lr()
            return [base_lr * self.multiplier for base_lr in self.base_lrs]
        growth = (self.multiplier - 1.0) * self.last_epoch / self.total_epoch + 1.0
        return [base_lr * growth for base_lr in self.base_lrs]

    def step(self, epoch=None):
        if self.finished and self.after_scheduler:
            self.after_scheduler.step(None if epoch is None else epoch - self.total_epoch)
            self._last_lr = self.after_scheduler.get_last_lr()
        else:
            super().step(epoch)


class CosineAnnealingWarmupRestarts(_LRScheduler):
    def __init__(self, optimizer, first_cycle_steps, max_lr=0.1, min_lr=0.001, warmup_steps=0, gamma=1.0):
        self.cur_cycle_steps, self.base_max_lr, self.max_lr, self.min_lr = first_cycle_steps, max_lr, max_lr, min_lr
        self.warmup_steps, self.gamma, self.cycle, self.step_in_cycle = warmup_steps, gamma, 0, -1
        super().__init__(optimizer)
        self.init_lr()

    def init_lr(self):
        self.base_lrs = []
        for param_group in self.optimizer.param_groups:
            param_group["lr"] = self.min_lr
            self.base_lrs.append(self.min_lr)

    def get_lr(self):
        if self.step_in_cycle == -1:
            return self.base_lrs
        if self.step_in_cycle < self.warmup_steps:
            return [(self.max_lr - b) * self.step_in_cycle / self.warmup_steps + b for b in self.base_lrs]
        at = (self.step_in_cycle - self.warmup_steps) / (self.cur_cycle_steps - self.warmup_steps)
        return [b + (self.max_lr - b) * (1 + math.cos(math.pi * at)) / 2 for b in self.base_lrs]

    def step(self, epoch=None):
        epoch = self.last_epoch + 1
        self.step_in_cycle += 1
        if self.step_in_cycle >= self.cur_cycle_steps:
            self.cycle += 1
            self.step_in_cycle -= self.cur_cycle_steps
        self.max_lr = self.base_max_lr * self.gamma**self.cycle
        self.last_epoch = math.floor(epoch)
        for param_group, lr in zip(self.optimizer.param_groups, self.get_lr()):
            param_group["lr"] = lr


def make(optimizer, kind):
    if kind == "noam":
        return [NoamLR(optimizer, 16, 3)]
    if kind == "poly":
        return [PolynomialLRDecay(optimizer, 9)]
    if kind == "gradual":
        return [GradualWarmupScheduler(optimizer, 2.0, 2, CosineAnnealingLR(optimizer, 5))]
    if kind == "restarts":
        return [CosineAnnealingWarmupRestarts(optimizer, 4, max_lr=0.2, warmup_steps=1, gamma=0.5)]
    if kind == "warmup":
        return [LinearLR(optimizer, 0.1, total_iters=3), CosineAnnealingLR(optimizer, 8)]
    return [ExponentialLR(optimizer, 0.9), MultiStepLR(optimizer, [2, 4], 0.1)]


def run(fill, draw):
    x, y = torch.tensor(draw.normal(12, 5)), torch.tensor(draw.normal(12, 1))
    losses = []
    for kind in ("noam", "poly", "gradual", "restarts", "warmup", "chained"):
        model = fill(nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1)))
        optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        schedulers = make(optimizer, kind)
        for epoch in range(7):
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(x), y)
            loss.backward()
            optimizer.step()
            for scheduler in schedulers:
                scheduler.step()
            if epoch == 3 and kind == "poly":  # resumed from a checkpoint
                file = io.BytesIO()
                torch.save({"optimizer": optimizer.state_dict(), "scheduler": schedulers[0].state_dict()}, file)
                file.seek(0)
                checkpoint = torch.load(file)
                optimizer = optim.SGD(model.parameters(), lr=0.7, momentum=0.9)
                schedulers = make(optimizer, kind)
                optimizer.load_state_dict(checkpoint["optimizer"])
                schedulers[0].load_state_dict(checkpoint["scheduler"])
        losses += [loss.item(), optimizer.param_groups[0]["lr"]]
    return losses
