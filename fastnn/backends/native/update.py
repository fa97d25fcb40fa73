"""Optimiser steps on the compiled kernels (kernels/ops/update.h).

What is the same for all elements is computed here, in double precision.
"""

from __future__ import annotations

import math

from fastnn import _kernels
from fastnn.backends import shapes
from fastnn.backends.native.arrays import contiguous
from fastnn.backends.shapes import FLOAT32, Array


def sgd_update(
    param: Array,
    grad: Array,
    velocity: Array | None,
    *,
    lr: float,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
) -> None:
    shapes.sgd_update(param, grad, velocity, momentum, FLOAT32)
    _kernels.sgd_update(param, contiguous(grad), velocity, lr, momentum, dampening, weight_decay, nesterov)


def adam_update(
    param: Array,
    grad: Array,
    exp_avg: Array,
    exp_avg_sq: Array,
    *,
    step: int,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> None:
    shapes.adam_update("adam_update", param, grad, exp_avg, exp_avg_sq, step, FLOAT32)
    step_size, correction = lr / (1 - beta1**step), math.sqrt(1 - beta2**step)
    _kernels.adam_update(
        param, contiguous(grad), exp_avg, exp_avg_sq, beta1, beta2, eps, step_size, correction, weight_decay, 1.0
    )


def adamw_update(
    param: Array,
    grad: Array,
    exp_avg: Array,
    exp_avg_sq: Array,
    *,
    step: int,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> None:
    shapes.adam_update("adamw_update", param, grad, exp_avg, exp_avg_sq, step, FLOAT32)
    step_size, correction = lr / (1 - beta1**step), math.sqrt(1 - beta2**step)
    shrink = 1 - lr * weight_decay
    _kernels.adam_update(
        param, contiguous(grad), exp_avg, exp_avg_sq, beta1, beta2, eps, step_size, correction, 0.0, shrink
    )
