"""Optimiser steps on the compiled kernels (kernels/ops/update.h)."""

from __future__ import annotations

from fastnn import _kernels
from fastnn._kernels import contiguous
from fastnn.backends import shapes
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
    numbers = _kernels.Numbers()
    numbers.sgd(lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay, nesterov=nesterov)
    _kernels.update_array(param, contiguous(grad), [velocity], numbers)


def rprop_update(
    param: Array,
    grad: Array,
    prev: Array,
    step_size: Array,
    *,
    eta_minus: float = 0.5,
    eta_plus: float = 1.2,
    step_size_min: float = 1e-6,
    step_size_max: float = 50.0,
) -> None:
    shapes.update("rprop_update", FLOAT32, param, grad, prev, step_size)
    numbers = _kernels.Numbers()
    numbers.rprop(eta_minus=eta_minus, eta_plus=eta_plus, step_size_min=step_size_min, step_size_max=step_size_max)
    _kernels.update_array(param, contiguous(grad), [prev, step_size], numbers)


def adagrad_update(
    param: Array,
    grad: Array,
    sum: Array,
    *,
    step: int,
    lr: float,
    lr_decay: float = 0.0,
    eps: float = 1e-10,
    weight_decay: float = 0.0,
) -> None:
    shapes.adagrad_update(param, grad, sum, step, FLOAT32)
    numbers = _kernels.Numbers()
    numbers.adagrad(step=step, lr=lr, lr_decay=lr_decay, eps=eps, weight_decay=weight_decay)
    _kernels.update_array(param, contiguous(grad), [sum], numbers)


def rmsprop_update(
    param: Array,
    grad: Array,
    square_avg: Array,
    momentum_buffer: Array | None,
    grad_avg: Array | None,
    *,
    lr: float,
    alpha: float = 0.99,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum: float = 0.0,
) -> None:
    shapes.rmsprop_update(param, grad, square_avg, momentum_buffer, grad_avg, momentum, FLOAT32)
    numbers = _kernels.Numbers()
    numbers.rmsprop(lr=lr, alpha=alpha, eps=eps, weight_decay=weight_decay, momentum=momentum)
    _kernels.update_array(param, contiguous(grad), [square_avg, momentum_buffer, grad_avg], numbers)


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
    numbers = _kernels.Numbers()
    numbers.adam(step=step, lr=lr, beta1=beta1, beta2=beta2, eps=eps, weight_decay=weight_decay)
    _kernels.update_array(param, contiguous(grad), [exp_avg, exp_avg_sq], numbers)


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
    numbers = _kernels.Numbers()
    numbers.adamw(step=step, lr=lr, beta1=beta1, beta2=beta2, eps=eps, weight_decay=weight_decay)
    _kernels.update_array(param, contiguous(grad), [exp_avg, exp_avg_sq], numbers)
