"""One step of an optimiser in place, each operation rounded by itself, as NumPy and PyTorch do: no fused products."""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from fastnn.backends import shapes
from fastnn.backends.jit.compile import EXACT, flat, inner, kernel, piece, pieces
from fastnn.backends.shapes import FLOAT32, Array

_NS = 1.0  # what an element costs


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
    p, g = flat(param), flat(grad)
    if velocity is None:
        _sgd(p.size * _NS, p, g, float(lr), float(weight_decay))
    else:
        _sgd_with_momentum(
            p.size * _NS, p, g, flat(velocity), float(lr), float(momentum), 1.0 - dampening, float(weight_decay),
            bool(nesterov),
        )  # fmt: skip


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
    _rprop(
        param.size * 2 * _NS, flat(param), flat(grad), flat(prev), flat(step_size), float(eta_minus), float(eta_plus),
        float(step_size_min), float(step_size_max),
    )  # fmt: skip


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
    rate = -lr / (1 + (step - 1) * lr_decay)
    _adagrad(param.size * 2 * _NS, flat(param), flat(grad), flat(sum), float(rate), float(eps), float(weight_decay))


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
    p, square = flat(param), flat(square_avg)
    _rmsprop(  # what is not kept is not looked at
        p.size * 2 * _NS, p, flat(grad), square, square if momentum_buffer is None else flat(momentum_buffer),
        square if grad_avg is None else flat(grad_avg), momentum_buffer is not None, grad_avg is not None, float(lr),
        float(alpha), 1.0 - alpha, float(eps), float(weight_decay), float(momentum),
    )  # fmt: skip


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
    _run_adam(param, grad, exp_avg, exp_avg_sq, step, lr, beta1, beta2, eps, weight_decay, 1.0)


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
    _run_adam(param, grad, exp_avg, exp_avg_sq, step, lr, beta1, beta2, eps, 0.0, 1.0 - lr * weight_decay)


def _run_adam(
    param: Array, grad: Array, exp_avg: Array, exp_avg_sq: Array, step: int, lr: float, beta1: float, beta2: float,
    eps: float, coupled_decay: float, param_factor: float,
) -> None:  # fmt: skip
    rate, root = -lr / (1 - beta1**step), math.sqrt(1 - beta2**step)
    _adam(
        param.size * 2 * _NS, flat(param), flat(grad), flat(exp_avg), flat(exp_avg_sq), 1.0 - beta1, float(beta2),
        1.0 - beta2, rate, root, float(eps), float(coupled_decay), float(param_factor),
    )  # fmt: skip


# All arrays are (size,)


@inner(EXACT)
def _decayed(grad: np.float32, param: np.float32, decay: np.float32) -> np.float32:
    return grad + decay * param if decay != 0 else grad


@kernel(EXACT)
def _sgd(param: Array, grad: Array, lr: float, weight_decay: float) -> None:
    rate, decay = np.float32(lr), np.float32(weight_decay)
    for k in prange(pieces(param.size)):
        p, g = piece(param, k), piece(grad, k)
        for i in range(p.size):
            p[i] -= rate * _decayed(g[i], p[i], decay)


@kernel(EXACT)
def _sgd_with_momentum(
    param: Array, grad: Array, velocity: Array, lr: float, momentum: float, kept: float, weight_decay: float,
    nesterov: bool,
) -> None:  # fmt: skip
    """kept is 1 - dampening."""
    rate, decay, keep, factor = np.float32(lr), np.float32(weight_decay), np.float32(kept), np.float32(momentum)
    for k in prange(pieces(param.size)):
        p, g, v = piece(param, k), piece(grad, k), piece(velocity, k)
        for i in range(p.size):
            step = _decayed(g[i], p[i], decay)
            v[i] = factor * v[i] + keep * step
            p[i] -= rate * (step + factor * v[i] if nesterov else v[i])


@kernel(EXACT)
def _adam(
    param: Array, grad: Array, exp_avg: Array, exp_avg_sq: Array, new1: float, beta2: float, new2: float, rate: float,
    root: float, eps: float, coupled_decay: float, param_factor: float,
) -> None:  # fmt: skip
    """new1 = 1 - beta1, new2 = 1 - beta2, rate = -lr/(1 - beta1^step), root = sqrt(1 - beta2^step)."""
    one_minus_beta1, old2, one_minus_beta2 = np.float32(new1), np.float32(beta2), np.float32(new2)
    factor, correction, epsilon = np.float32(rate), np.float32(root), np.float32(eps)
    decay, shrink = np.float32(coupled_decay), np.float32(param_factor)
    for k in prange(pieces(param.size)):
        p, g, m, v = piece(param, k), piece(grad, k), piece(exp_avg, k), piece(exp_avg_sq, k)
        for i in range(p.size):
            step = _decayed(g[i], p[i], decay)
            m[i] += one_minus_beta1 * (step - m[i])
            v[i] = old2 * v[i] + one_minus_beta2 * step * step
            p[i] = shrink * p[i] + factor * m[i] / (math.sqrt(v[i]) / correction + epsilon)


@inner(EXACT)
def _sign(x: np.float32) -> np.float32:
    """1, 0 or -1; NaN of NaN."""
    return np.float32(1) if x > 0 else np.float32(-1) if x < 0 else x


@kernel(EXACT)
def _rprop(
    param: Array, grad: Array, prev: Array, step_size: Array, eta_minus: float, eta_plus: float, least: float,
    most: float,
) -> None:  # fmt: skip
    minus, plus, smallest, largest = np.float32(eta_minus), np.float32(eta_plus), np.float32(least), np.float32(most)
    for k in prange(pieces(param.size)):
        p, g, before, size = piece(param, k), piece(grad, k), piece(prev, k), piece(step_size, k)
        for i in range(p.size):
            same = _sign(g[i]) * _sign(before[i])
            factor = plus if same > 0 else minus if same < 0 else np.float32(1)
            size[i] = min(max(size[i] * factor, smallest), largest)
            before[i] = np.float32(0) if same < 0 else g[i]
            p[i] -= _sign(before[i]) * size[i]


@kernel(EXACT)
def _adagrad(param: Array, grad: Array, sum: Array, rate: float, eps: float, weight_decay: float) -> None:
    factor, epsilon, decay = np.float32(rate), np.float32(eps), np.float32(weight_decay)
    for k in prange(pieces(param.size)):
        p, g, total = piece(param, k), piece(grad, k), piece(sum, k)
        for i in range(p.size):
            step = _decayed(g[i], p[i], decay)
            total[i] += step * step
            p[i] += factor * step / (math.sqrt(total[i]) + epsilon)


@kernel(EXACT)
def _rmsprop(
    param: Array, grad: Array, square_avg: Array, momentum_buffer: Array, grad_avg: Array, kept: bool, centered: bool,
    lr: float, alpha: float, new: float, eps: float, weight_decay: float, momentum: float,
) -> None:  # fmt: skip
    """new = 1 - alpha; momentum_buffer counts where kept, grad_avg where centered."""
    rate, old, fresh, epsilon = np.float32(lr), np.float32(alpha), np.float32(new), np.float32(eps)
    decay, factor = np.float32(weight_decay), np.float32(momentum)
    for k in prange(pieces(param.size)):
        p, g, square = piece(param, k), piece(grad, k), piece(square_avg, k)
        buffer, mean = piece(momentum_buffer, k), piece(grad_avg, k)
        for i in range(p.size):
            step = _decayed(g[i], p[i], decay)
            square[i] = old * square[i] + fresh * step * step
            variance = square[i]
            if centered:
                mean[i] += fresh * (step - mean[i])
                variance = max(variance - mean[i] * mean[i], np.float32(0))
            step = step / (math.sqrt(variance) + epsilon)
            if kept:
                buffer[i] = factor * buffer[i] + step
                step = buffer[i]
            p[i] -= rate * step
