"""Activations, softmax and dropout, and their gradients.

Elementwise functions take arrays of any shape and return one of the same shape; `grad` is the gradient of the loss with
respect to the output. `out` is overwritten; it may be the first argument (or share its memory exactly), and must not
overlap an input otherwise. Where the formula has an exponential, it is written so that nothing overflows.
"""

from __future__ import annotations

import math

import numpy as np

from fastnn.backends import shapes
from fastnn.backends.reference.erf import erf
from fastnn.backends.reference.philox import uniform24
from fastnn.backends.shapes import FLOATING, Array
from fastnn.backends.sums import total


def relu_forward(x: Array, *, out: Array | None = None) -> Array:
    """max(x, 0); NaN stays NaN.

    >>> relu_forward(np.array([-1.0, 2.0]))
    array([0., 2.])
    """
    y = shapes.elementwise("relu", x, None, out, FLOATING)
    return np.maximum(x, 0, out=y)


def relu_backward_input(grad: Array, x: Array, *, out: Array | None = None) -> Array:
    """grad where x > 0, else 0, even if grad is not finite there. x may be the input or the output: the mask is one."""
    grad_x = shapes.elementwise("relu_backward_input", grad, x, out, FLOATING)
    grad_x[...] = np.where(x > 0, grad, 0)
    return grad_x


def leaky_relu_forward(x: Array, negative_slope: float = 0.01, *, out: Array | None = None) -> Array:
    """x where x > 0, else negative_slope * x. (Maas, Hannun, Ng 2013.)"""
    y = shapes.elementwise("leaky_relu", x, None, out, FLOATING)
    y[...] = np.where(x > 0, x, negative_slope * x)
    return y


def leaky_relu_backward_input(
    grad: Array, x: Array, negative_slope: float = 0.01, *, out: Array | None = None
) -> Array:
    """grad where x > 0, else negative_slope * grad. x is the input."""
    grad_x = shapes.elementwise("leaky_relu_backward_input", grad, x, out, FLOATING)
    grad_x[...] = np.where(x > 0, grad, negative_slope * grad)
    return grad_x


def elu_forward(x: Array, alpha: float = 1.0, *, out: Array | None = None) -> Array:
    """x where x > 0, else alpha * (exp(x) - 1).

    (Clevert, Unterthiner, Hochreiter 2015, https://arxiv.org/abs/1511.07289.)
    """
    y = shapes.elementwise("elu", x, None, out, FLOATING)
    y[...] = np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))
    return y


def elu_backward_input(grad: Array, x: Array, alpha: float = 1.0, *, out: Array | None = None) -> Array:
    """grad where x > 0, else grad * alpha * exp(x). x is the input."""
    grad_x = shapes.elementwise("elu_backward_input", grad, x, out, FLOATING)
    grad_x[...] = np.where(x > 0, grad, grad * alpha * np.exp(np.minimum(x, 0)))
    return grad_x


def sigmoid_forward(x: Array, *, out: Array | None = None) -> Array:
    """1 / (1 + exp(-x)).

    >>> sigmoid_forward(np.array([-1000.0, 0.0, 1000.0]))
    array([0. , 0.5, 1. ])
    """
    y = shapes.elementwise("sigmoid", x, None, out, FLOATING)
    y[...] = _sigmoid(x)
    return y


def sigmoid_backward_input(grad: Array, y: Array, *, out: Array | None = None) -> Array:
    """grad * y * (1 - y). y is the output."""
    grad_x = shapes.elementwise("sigmoid_backward_input", grad, y, out, FLOATING)
    grad_x[...] = grad * (y * (1 - y))
    return grad_x


def tanh_forward(x: Array, *, out: Array | None = None) -> Array:
    """The hyperbolic tangent."""
    y = shapes.elementwise("tanh", x, None, out, FLOATING)
    return np.tanh(x, out=y)


def tanh_backward_input(grad: Array, y: Array, *, out: Array | None = None) -> Array:
    """grad * (1 - y^2). y is the output."""
    grad_x = shapes.elementwise("tanh_backward_input", grad, y, out, FLOATING)
    grad_x[...] = grad * (1 - y * y)
    return grad_x


def gelu_forward(x: Array, *, out: Array | None = None) -> Array:
    """x * Phi(x) with the normal distribution's Phi(x) = (1 + erf(x / sqrt 2)) / 2, exact, not its tanh approximation.

    (Hendrycks, Gimpel 2016, https://arxiv.org/abs/1606.08415.)
    """
    y = shapes.elementwise("gelu", x, None, out, FLOATING)
    y[...] = x * _normal_cdf(x)
    return y


def gelu_backward_input(grad: Array, x: Array, *, out: Array | None = None) -> Array:
    """grad * (Phi(x) + x * phi(x)) with the normal density phi(x) = exp(-x^2 / 2) / sqrt(2 pi). x is the input."""
    grad_x = shapes.elementwise("gelu_backward_input", grad, x, out, FLOATING)
    density = np.exp(-0.5 * x * x) * (1 / math.sqrt(2 * math.pi))
    grad_x[...] = grad * (_normal_cdf(x) + x * density)
    return grad_x


def silu_forward(x: Array, *, out: Array | None = None) -> Array:
    """x * sigmoid(x). (Elfwing, Uchibe, Doya 2017, https://arxiv.org/abs/1702.03118.)"""
    y = shapes.elementwise("silu", x, None, out, FLOATING)
    y[...] = x * _sigmoid(x)
    return y


def silu_backward_input(grad: Array, x: Array, *, out: Array | None = None) -> Array:
    """grad * s * (1 + x * (1 - s)) with s = sigmoid(x). x is the input."""
    grad_x = shapes.elementwise("silu_backward_input", grad, x, out, FLOATING)
    s = _sigmoid(x)
    grad_x[...] = grad * (s * (1 + x * (1 - s)))
    return grad_x


def softmax_forward(x: Array, *, out: Array | None = None) -> Array:
    """exp(x) / sum exp(x) in each row of x (N, C), shifted by the row's maximum.

    >>> softmax_forward(np.array([[1000.0, 1000.0]]))
    array([[0.5, 0.5]])
    """
    y = shapes.softmax("softmax", x, None, out, FLOATING)
    y[...] = np.exp(log_softmax(x))
    return y


def softmax_backward_input(grad: Array, y: Array, *, out: Array | None = None) -> Array:
    """y * (grad - sum(grad * y)) in each row; y (N, C) is the output."""
    grad_x = shapes.softmax("softmax_backward_input", grad, y, out, FLOATING)
    grad_x[...] = y * (grad - total(grad * y, 1, keepdims=True))
    return grad_x


def log_softmax_forward(x: Array, *, out: Array | None = None) -> Array:
    """x - log sum exp(x) in each row of x (N, C), shifted by the row's maximum."""
    y = shapes.softmax("log_softmax", x, None, out, FLOATING)
    y[...] = log_softmax(x)
    return y


def log_softmax_backward_input(grad: Array, y: Array, *, out: Array | None = None) -> Array:
    """grad - exp(y) * sum(grad) in each row; y (N, C) is the output, the log-probabilities."""
    grad_x = shapes.softmax("log_softmax_backward_input", grad, y, out, FLOATING)
    grad_x[...] = grad - np.exp(y) * total(grad, 1, keepdims=True)
    return grad_x


def dropout_forward(x: Array, p: float, seed: int, stream: int, *, out: Array | None = None) -> Array:
    """Inverted dropout: x[i] / (1 - p) with probability 1 - p, else 0.

    Element i of x in C order is kept if and only if u[i] >= p, where u[i] in [0, 1) is word i % 4 of block i // 4 of
    Philox4x32-10 with key `seed` and stream `stream` (both 0 .. 2^64 - 1), as philox.uniform24 has it: 24 bits,
    compared in double precision. So any thread may draw any element, and p=0 keeps all, p=1 drops all. The kept are
    multiplied by 1 / (1 - p), rounded once to the dtype of x; the dropped are zero even where x is not finite.

    Linear in x, by a diagonal matrix: its backward is the function itself, applied to grad with the same numbers.

    >>> dropout_forward(np.ones(6), 0.5, seed=0, stream=0)
    array([0., 2., 2., 2., 2., 0.])
    """
    y = shapes.dropout_forward(x, p, seed, stream, out, FLOATING)
    kept = uniform24(x.size, seed, stream).reshape(x.shape) >= p
    scale = x.dtype.type(1 / (1 - p) if p < 1 else 0)
    y[...] = np.where(kept, x * scale, 0)
    return y


def log_softmax(x: Array) -> Array:
    """Log-probabilities of the rows of x (N, C); without checks, shared with the loss."""
    shifted = x - np.max(x, axis=1, keepdims=True)
    return shifted - np.log(total(np.exp(shifted), 1, keepdims=True))


def _sigmoid(x: Array) -> Array:
    e = np.exp(-np.abs(x))  # at most 1
    return np.where(x >= 0, 1, e) / (1 + e)


def _normal_cdf(x: Array) -> Array:
    return 0.5 * (1 + erf(x * math.sqrt(0.5)))
