"""One step of an optimiser, in place.

param and the state arrays are of one shape, any, C-contiguous and writable, and are overwritten by their new values;
grad, of the same shape with any strides, is only read and must not overlap them. The formulas are those of PyTorch's
single-tensor implementations (torch/optim/sgd.py, adam.py), in their order. Nothing is returned.
"""

from __future__ import annotations

import math

import numpy as np

from fastnn.backends import shapes
from fastnn.backends.shapes import FLOATING, Array


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
    """Stochastic gradient descent.

        g = grad + weight_decay * param
        velocity = momentum * velocity + (1 - dampening) * g        without momentum: none, and step = g
        step = g + momentum * velocity if nesterov else velocity
        param = param - lr * step

    velocity is None if and only if momentum is 0, else zeros before the first step, for which dampening has to be 0.

    >>> param = np.array([1.0]); sgd_update(param, np.array([2.0]), None, lr=0.1); param
    array([0.8])
    """
    shapes.sgd_update(param, grad, velocity, momentum, FLOATING)
    step = grad + weight_decay * param if weight_decay else grad
    if velocity is not None:
        velocity *= momentum
        velocity += (1 - dampening) * step
        step = step + momentum * velocity if nesterov else velocity
    param -= lr * step


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
    """Adam with coupled weight decay: it is added to the gradient (Kingma, Ba 2014, https://arxiv.org/abs/1412.6980).

        g = grad + weight_decay * param
        exp_avg = exp_avg + (1 - beta1) * (g - exp_avg)
        exp_avg_sq = beta2 * exp_avg_sq + (1 - beta2) * g * g
        param = param - lr / (1 - beta1^step) * exp_avg / (sqrt(exp_avg_sq) / sqrt(1 - beta2^step) + eps)

    step counts from 1; exp_avg and exp_avg_sq are zeros before the first.
    """
    shapes.adam_update("adam_update", param, grad, exp_avg, exp_avg_sq, step, FLOATING)
    decayed = grad + weight_decay * param if weight_decay else grad
    _adam(param, decayed, exp_avg, exp_avg_sq, step, lr, beta1, beta2, eps)


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
    """Adam with decoupled weight decay (Loshchilov, Hutter 2017, https://arxiv.org/abs/1711.05101).

    param is first multiplied by 1 - lr * weight_decay; then Adam's step follows with the bare gradient.
    """
    shapes.adam_update("adamw_update", param, grad, exp_avg, exp_avg_sq, step, FLOATING)
    param *= 1 - lr * weight_decay
    _adam(param, grad, exp_avg, exp_avg_sq, step, lr, beta1, beta2, eps)


def _adam(
    param: Array, grad: Array, exp_avg: Array, exp_avg_sq: Array,
    step: int, lr: float, beta1: float, beta2: float, eps: float,
) -> None:  # fmt: skip
    exp_avg += (1 - beta1) * (grad - exp_avg)
    exp_avg_sq *= beta2
    exp_avg_sq += (1 - beta2) * grad * grad
    denominator = np.sqrt(exp_avg_sq) / math.sqrt(1 - beta2**step) + eps
    param += -lr / (1 - beta1**step) * exp_avg / denominator
