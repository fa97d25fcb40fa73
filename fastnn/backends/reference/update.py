"""One step of an optimiser, in place.

param and the state arrays are of one shape, any, C-contiguous and writable, and are overwritten by their new values;
grad, of the same shape with any strides, is only read and must not overlap them. The formulas are those of PyTorch's
single-tensor implementations (torch/optim/sgd.py, adam.py, ...), in their order. Nothing is returned.
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
    """Resilient backpropagation (Riedmiller, Braun 1993, https://doi.org/10.1109/ICNN.1993.298623): only signs count.

        same = sign(grad) * sign(prev)
        step_size = clip(step_size * (eta_plus where same > 0, eta_minus where same < 0, 1 elsewhere), min, max)
        g = 0 where same < 0, grad elsewhere
        param = param - sign(g) * step_size
        prev = g

    prev is zeros before the first step, step_size the first step's size. (The product of signs, where PyTorch takes the
    sign of the product: the same unless that underflows.)

    >>> param, prev, size = np.array([1.0, 1.0]), np.array([3.0, -3.0]), np.array([0.5, 0.5])
    >>> rprop_update(param, np.array([1.0, 1.0]), prev, size); param, size, prev
    (array([0.4, 1. ]), array([0.6 , 0.25]), array([1., 0.]))
    """
    shapes.update("rprop_update", FLOATING, param, grad, prev, step_size)
    same = np.sign(grad) * np.sign(prev)
    step_size *= np.where(same > 0, eta_plus, np.where(same < 0, eta_minus, 1.0)).astype(param.dtype)
    np.clip(step_size, step_size_min, step_size_max, out=step_size)
    prev[...] = np.where(same < 0, 0, grad)
    param -= np.sign(prev) * step_size


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
    """Adagrad (Duchi, Hazan, Singer 2011, https://jmlr.org/papers/v12/duchi11a.html).

        g = grad + weight_decay * param
        sum = sum + g * g
        param = param - lr / (1 + (step - 1) * lr_decay) * g / (sqrt(sum) + eps)

    step counts from 1; sum is at least 0, and any such array before the first.
    """
    shapes.adagrad_update(param, grad, sum, step, FLOATING)
    g = grad + weight_decay * param if weight_decay else grad
    sum += g * g
    param += -lr / (1 + (step - 1) * lr_decay) * g / (np.sqrt(sum) + eps)


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
    """RMSprop (Tieleman, Hinton 2012, lecture 6.5 of Neural Networks for Machine Learning), and its centred variant
    (Graves 2013, https://arxiv.org/abs/1308.0850).

        g = grad + weight_decay * param
        square_avg = alpha * square_avg + (1 - alpha) * g * g
        grad_avg = grad_avg + (1 - alpha) * (g - grad_avg)          of the centred variant, else None, and 0 below
        step = g / (sqrt(square_avg - grad_avg * grad_avg) + eps)
        momentum_buffer = momentum * momentum_buffer + step         without momentum: None
        param = param - lr * (momentum_buffer or step)

    The difference under the root is a variance: where rounding makes it negative, 0 is taken (PyTorch gets NaN).
    All state is zeros before the first step; momentum_buffer is None if and only if momentum is 0.
    """
    shapes.rmsprop_update(param, grad, square_avg, momentum_buffer, grad_avg, momentum, FLOATING)
    g = grad + weight_decay * param if weight_decay else grad
    square_avg *= alpha
    square_avg += (1 - alpha) * g * g
    variance = square_avg
    if grad_avg is not None:
        grad_avg += (1 - alpha) * (g - grad_avg)
        variance = np.maximum(square_avg - grad_avg * grad_avg, 0)
    step = g / (np.sqrt(variance) + eps)
    if momentum_buffer is not None:
        momentum_buffer *= momentum
        momentum_buffer += step
        step = momentum_buffer
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
