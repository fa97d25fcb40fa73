"""Batch normalisation in its parts: the statistics of a batch, and everything that uses given ones.

x is (N, C) or (N, C, H, W); arrays "per channel" are (C,). Training takes mean and var from batch_norm_statistics,
evaluation the running averages that the layer keeps. m = N, or N*H*W, is the number of values per channel, and xhat =
(x - mean) / sqrt(var + eps). (Ioffe, Szegedy 2015, https://arxiv.org/abs/1502.03167.)
"""

from __future__ import annotations

import numpy as np

from fastnn.backends import shapes
from fastnn.backends.shapes import FLOATING, Array
from fastnn.backends.sums import total


def batch_norm_statistics(x: Array, *, out: tuple[Array | None, Array | None] | None = None) -> tuple[Array, Array]:
    """Mean and biased variance (divided by m) of each channel.

    Returns (mean (C,), var (C,)). The variance is the mean of (x - mean)^2, not a difference of squares. Both of `out`
    are overwritten and must not overlap x. Raises ShapeError for an empty batch.

    >>> mean, var = batch_norm_statistics(np.array([[1.0, 5.0], [3.0, 5.0]]))
    >>> mean, var
    (array([2., 5.]), array([1., 0.]))
    """
    mean, var = shapes.batch_norm_statistics(x, out, FLOATING)
    m = x.size // x.shape[1]
    np.divide(total(x, _others(x)), m, out=mean)
    np.divide(total((x - _spread(mean, x)) ** 2, _others(x)), m, out=var)
    return mean, var


def batch_norm_forward(
    x: Array,
    mean: Array,
    var: Array,
    weight: Array | None,
    bias: Array | None,
    eps: float = 1e-5,
    *,
    out: Array | None = None,
) -> Array:
    """y = xhat * weight + bias, in the shape of x; weight and bias are per channel, or None for ones and zeros.

    `out` is overwritten; it may be x, and must not overlap an input otherwise.
    """
    y = shapes.batch_norm_forward(x, mean, var, weight, bias, out, FLOATING)
    y[...] = _normalised(x, mean, var, eps)
    if weight is not None:
        y *= _spread(weight, x)
    if bias is not None:
        y += _spread(bias, x)
    return y


def batch_norm_backward_weight(
    grad: Array,
    x: Array,
    mean: Array,
    var: Array,
    eps: float = 1e-5,
    *,
    out: tuple[Array | None, Array | None] | None = None,
) -> tuple[Array, Array]:
    """Gradients with respect to weight and bias: (sum of grad * xhat (C,), sum of grad (C,)); zeros for an empty batch.

    Both of `out` are overwritten, not added to, and must not overlap an input.
    """
    grad_weight, grad_bias = shapes.batch_norm_backward_weight(grad, x, mean, var, out, FLOATING)
    grad_weight[...] = total(grad * _normalised(x, mean, var, eps), _others(x))
    grad_bias[...] = total(grad, _others(x))
    return grad_weight, grad_bias


def batch_norm_backward_input(
    grad: Array,
    x: Array,
    mean: Array,
    var: Array,
    weight: Array | None,
    grad_weight: Array | None,
    grad_bias: Array | None,
    eps: float = 1e-5,
    *,
    out: Array | None = None,
) -> Array:
    """Gradient with respect to x, in its shape.

    With grad_weight and grad_bias, as batch_norm_backward_weight returns them, mean and var are functions of x:
    weight / sqrt(var + eps) * (grad - grad_bias / m - xhat * grad_weight / m). Without (both None), mean and var are
    constants: weight / sqrt(var + eps) * grad. weight is per channel, or None for ones.
    `out` is overwritten; it may be grad, and must not overlap an input otherwise.
    """
    grad_x = shapes.batch_norm_backward_input(grad, x, mean, var, weight, grad_weight, grad_bias, out, FLOATING)
    scale = 1 / np.sqrt(var + eps)
    if weight is not None:
        scale = scale * weight
    if grad_weight is None or grad_bias is None:
        grad_x[...] = grad * _spread(scale, x)
    else:
        m = max(x.size // x.shape[1], 1)
        through_mean = _spread(grad_bias / m, x)
        through_var = _normalised(x, mean, var, eps) * _spread(grad_weight / m, x)
        grad_x[...] = (grad - through_mean - through_var) * _spread(scale, x)
    return grad_x


def _others(x: Array) -> tuple[int, ...]:
    """The axes that are not the channel's."""
    return (0, *range(2, x.ndim))


def _spread(channels: Array, x: Array) -> Array:
    """A per-channel array, broadcastable against x."""
    return channels.reshape(1, -1, *(1,) * (x.ndim - 2))


def _normalised(x: Array, mean: Array, var: Array, eps: float) -> Array:
    return (x - _spread(mean, x)) * _spread(1 / np.sqrt(var + eps), x)
