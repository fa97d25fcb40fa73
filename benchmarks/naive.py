"""The kernels as one writes them first: loops in Python over images, filters and positions, or over elements.

One function per kernel, with its arguments and results (see fastnn.backends.reference); what the inner sum of a
convolution or of a matrix product needs is NumPy's, on one window or one row at a time. Convolutions are the
reference's own, by algorithm="direct".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from fastnn.backends import reference

Array = np.ndarray

conv2d_forward = partial(reference.conv2d_forward, algorithm="direct")
conv2d_backward_input = partial(reference.conv2d_backward_input, algorithm="direct")
conv2d_backward_weight = partial(reference.conv2d_backward_weight, algorithm="direct")

# ---- dense -----------------------------------------------------------------------------------------------------------


def matmul(a: Array, b: Array, transpose_a: bool, transpose_b: bool) -> Array:
    a, b = a.T if transpose_a else a, b.T if transpose_b else b
    product = np.empty((len(a), b.shape[1]), a.dtype)
    for i, j in np.ndindex(product.shape):
        product[i, j] = np.dot(a[i], b[:, j])
    return product


def linear_forward(x: Array, weight: Array, bias: Array) -> Array:
    y = np.empty((len(x), len(weight)), x.dtype)
    for n, o in np.ndindex(y.shape):
        y[n, o] = np.dot(x[n], weight[o]) + bias[o]
    return y


def linear_backward_input(grad: Array, weight: Array) -> Array:
    grad_x = np.zeros((len(grad), weight.shape[1]), grad.dtype)
    for n, o in np.ndindex(grad.shape):
        grad_x[n] += grad[n, o] * weight[o]
    return grad_x


def linear_backward_weight(grad: Array, x: Array) -> tuple[Array, Array]:
    grad_weight, grad_bias = np.zeros((grad.shape[1], x.shape[1]), x.dtype), np.zeros(grad.shape[1], x.dtype)
    for n, o in np.ndindex(grad.shape):
        grad_weight[o] += grad[n, o] * x[n]
        grad_bias[o] += grad[n, o]
    return grad_weight, grad_bias


# ---- pooling, for windows without padding ----------------------------------------------------------------------------

Pair = tuple[int, int]


def _window(i: int, j: int, kernel_size: Pair, stride: Pair) -> tuple[slice, slice]:
    top, left = i * stride[0], j * stride[1]
    return slice(top, top + kernel_size[0]), slice(left, left + kernel_size[1])


def _output(x: Array, kernel_size: Pair, stride: Pair) -> tuple[int, ...]:
    sizes = zip(x.shape[2:], kernel_size, stride, strict=True)
    return (*x.shape[:2], *((size - k) // s + 1 for size, k, s in sizes))


def max_pool2d_forward(x: Array, kernel_size: Pair, stride: Pair) -> tuple[Array, Array]:
    y, argmax = np.empty(_output(x, kernel_size, stride), x.dtype), np.empty(_output(x, kernel_size, stride), np.int32)
    for n, c, i, j in np.ndindex(y.shape):
        window = x[n, c][_window(i, j, kernel_size, stride)]
        u, v = divmod(int(np.argmax(window)), kernel_size[1])
        y[n, c, i, j] = window[u, v]
        argmax[n, c, i, j] = (i * stride[0] + u) * x.shape[3] + j * stride[1] + v
    return y, argmax


def max_pool2d_backward_input(grad: Array, argmax: Array, input_size: Pair) -> Array:
    grad_x = np.zeros((*grad.shape[:2], *input_size), grad.dtype)
    for n, c, i, j in np.ndindex(grad.shape):
        grad_x[n, c, argmax[n, c, i, j] // input_size[1], argmax[n, c, i, j] % input_size[1]] += grad[n, c, i, j]
    return grad_x


def avg_pool2d_forward(x: Array, kernel_size: Pair, stride: Pair) -> Array:
    y = np.empty(_output(x, kernel_size, stride), x.dtype)
    for n, c, i, j in np.ndindex(y.shape):
        y[n, c, i, j] = np.mean(x[n, c][_window(i, j, kernel_size, stride)])
    return y


def avg_pool2d_backward_input(grad: Array, input_size: Pair, kernel_size: Pair, stride: Pair) -> Array:
    grad_x = np.zeros((*grad.shape[:2], *input_size), grad.dtype)
    for n, c, i, j in np.ndindex(grad.shape):
        grad_x[n, c][_window(i, j, kernel_size, stride)] += grad[n, c, i, j] / math.prod(kernel_size)
    return grad_x


def global_avg_pool2d_forward(x: Array) -> Array:
    y = np.empty((*x.shape[:2], 1, 1), x.dtype)
    for n, c in np.ndindex(x.shape[:2]):
        y[n, c] = sum(x[n, c, i, j] for i, j in np.ndindex(x.shape[2:])) / math.prod(x.shape[2:])
    return y


def global_avg_pool2d_backward_input(grad: Array, input_size: Pair) -> Array:
    grad_x = np.empty((*grad.shape[:2], *input_size), grad.dtype)
    for n, c, i, j in np.ndindex(grad_x.shape):
        grad_x[n, c, i, j] = grad[n, c, 0, 0] / math.prod(input_size)
    return grad_x


# ---- element by element ----------------------------------------------------------------------------------------------


def _elementwise(formula: Callable[..., Any], outputs: int = 1) -> Callable[..., Any]:
    """The kernel that applies a formula to one element after the other: first the arrays' values, then the options."""

    def kernel(**a: Any) -> Any:
        arrays = [value for value in a.values() if isinstance(value, Array)]
        options = [value for value in a.values() if not isinstance(value, Array)]
        results = [np.empty_like(arrays[0]) for _ in range(outputs)]
        flat = [result.reshape(-1) for result in results]
        for i, values in enumerate(zip(*(array.reshape(-1) for array in arrays), strict=True)):
            value = formula(*values, *options)
            for result, part in zip(flat, value if outputs > 1 else (value,), strict=True):
                result[i] = part
        return tuple(results) if outputs > 1 else results[0]

    return kernel


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def _normal_cdf(x: float) -> float:
    return 0.5 * (1 + math.erf(x * math.sqrt(0.5)))


def _gelu_slope(x: float) -> float:
    return _normal_cdf(x) + x * math.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)


relu_forward = _elementwise(lambda x: max(x, 0))
relu_backward_input = _elementwise(lambda grad, x: grad if x > 0 else 0)
leaky_relu_forward = _elementwise(lambda x, slope=0.01: x if x > 0 else slope * x)
leaky_relu_backward_input = _elementwise(lambda grad, x, slope=0.01: grad if x > 0 else slope * grad)
elu_forward = _elementwise(lambda x, alpha=1.0: x if x > 0 else alpha * math.expm1(x))
elu_backward_input = _elementwise(lambda grad, x, alpha=1.0: grad if x > 0 else grad * alpha * math.exp(x))
sigmoid_forward = _elementwise(_sigmoid)
sigmoid_backward_input = _elementwise(lambda grad, y: grad * y * (1 - y))
tanh_forward = _elementwise(math.tanh)
tanh_backward_input = _elementwise(lambda grad, y: grad * (1 - y * y))
gelu_forward = _elementwise(lambda x: x * _normal_cdf(x))
gelu_backward_input = _elementwise(lambda grad, x: grad * _gelu_slope(x))
silu_forward = _elementwise(lambda x: x * _sigmoid(x))
silu_backward_input = _elementwise(lambda grad, x: grad * _sigmoid(x) * (1 + x * (1 - _sigmoid(x))))
activation_forward = _elementwise(lambda x, kind: x * min(max(x + 3, 0), 6) / 6)  # hardswish alone
activation_backward_input = _elementwise(lambda grad, x, kind: grad * (0 if x <= -3 else 1 if x >= 3 else x / 3 + 0.5))
mse = _elementwise(lambda p, t, scale=1.0: ((p - t) ** 2, 2 * scale * (p - t)), outputs=2)
huber = smooth_l1 = _elementwise(  # alike with delta = beta = 1
    lambda p, t, scale=1.0: (
        (0.5 * (p - t) ** 2, scale * (p - t)) if abs(p - t) < 1 else (abs(p - t) - 0.5, scale * math.copysign(1, p - t))
    ),
    outputs=2,
)
bce_with_logits = _elementwise(
    lambda z, t, scale=1.0: (max(z, 0) - z * t + math.log1p(math.exp(-abs(z))), scale * (_sigmoid(z) - t)), outputs=2
)


def dropout_forward(x: Array, p: float, seed: int, stream: int) -> Array:
    y = np.empty_like(x)
    flat_x, flat_y = x.reshape(-1), y.reshape(-1)
    for block in range(-(-x.size // 4)):
        for lane, word in enumerate(_philox4x32(block, seed, stream)[: x.size - 4 * block]):
            i = 4 * block + lane
            flat_y[i] = flat_x[i] / (1 - p) if (word >> 8) * 2.0**-24 >= p else 0
    return y


def _philox4x32(block: int, seed: int, stream: int) -> tuple[int, ...]:
    low = 0xFFFFFFFF
    c = (block & low, block >> 32, stream & low, stream >> 32)
    k = (seed & low, seed >> 32)
    for _ in range(10):
        a, b = c[0] * 0xD2511F53, c[2] * 0xCD9E8D57
        c = ((b >> 32) ^ c[1] ^ k[0], b & low, (a >> 32) ^ c[3] ^ k[1], a & low)
        k = ((k[0] + 0x9E3779B9) & low, (k[1] + 0xBB67AE85) & low)
    return c


# ---- row by row ------------------------------------------------------------------------------------------------------


def softmax_forward(x: Array) -> Array:
    y = np.empty_like(x)
    for n, row in enumerate(x):
        largest = max(row)
        total = sum(math.exp(value - largest) for value in row)
        for c, value in enumerate(row):
            y[n, c] = math.exp(value - largest) / total
    return y


def softmax_backward_input(grad: Array, y: Array) -> Array:
    grad_x = np.empty_like(y)
    for n in range(len(y)):
        dot = sum(g * p for g, p in zip(grad[n], y[n], strict=True))
        for c in range(y.shape[1]):
            grad_x[n, c] = y[n, c] * (grad[n, c] - dot)
    return grad_x


def log_softmax_forward(x: Array) -> Array:
    y = np.empty_like(x)
    for n, row in enumerate(x):
        largest = max(row)
        total = math.log(sum(math.exp(value - largest) for value in row))
        for c, value in enumerate(row):
            y[n, c] = value - largest - total
    return y


def log_softmax_backward_input(grad: Array, y: Array) -> Array:
    grad_x = np.empty_like(y)
    for n in range(len(y)):
        total = sum(grad[n])
        for c in range(y.shape[1]):
            grad_x[n, c] = grad[n, c] - math.exp(y[n, c]) * total
    return grad_x


def softmax_cross_entropy(logits: Array, target: Array) -> tuple[Array, Array]:
    """With integer labels."""
    loss, grad = np.empty(len(logits), logits.dtype), np.empty_like(logits)
    for n, row in enumerate(logits):
        largest = max(row)
        total = sum(math.exp(value - largest) for value in row)
        loss[n] = math.log(total) + largest - row[target[n]]
        for c, value in enumerate(row):
            grad[n, c] = math.exp(value - largest) / total - (c == target[n])
    return loss, grad


# ---- batch norm ------------------------------------------------------------------------------------------------------


def batch_norm_statistics(x: Array) -> tuple[Array, Array]:
    mean, var = np.zeros(x.shape[1], x.dtype), np.zeros(x.shape[1], x.dtype)
    m = x.size // x.shape[1]
    for index in np.ndindex(x.shape):
        mean[index[1]] += x[index] / m
    for index in np.ndindex(x.shape):
        var[index[1]] += (x[index] - mean[index[1]]) ** 2 / m
    return mean, var


def batch_norm_forward(x: Array, mean: Array, var: Array, weight: Array, bias: Array, eps: float) -> Array:
    y = np.empty_like(x)
    for index in np.ndindex(x.shape):
        c = index[1]
        y[index] = (x[index] - mean[c]) / math.sqrt(var[c] + eps) * weight[c] + bias[c]
    return y


def batch_norm_backward_weight(grad: Array, x: Array, mean: Array, var: Array, eps: float) -> tuple[Array, Array]:
    grad_weight, grad_bias = np.zeros_like(mean), np.zeros_like(mean)
    for index in np.ndindex(x.shape):
        c = index[1]
        grad_weight[c] += grad[index] * (x[index] - mean[c]) / math.sqrt(var[c] + eps)
        grad_bias[c] += grad[index]
    return grad_weight, grad_bias


def batch_norm_backward_input(
    grad: Array, x: Array, mean: Array, var: Array, weight: Array, eps: float, grad_weight: Array, grad_bias: Array
) -> Array:
    grad_x = np.empty_like(x)
    m = x.size // x.shape[1]
    for index in np.ndindex(x.shape):
        c = index[1]
        scale = 1 / math.sqrt(var[c] + eps)
        xhat = (x[index] - mean[c]) * scale
        grad_x[index] = weight[c] * scale * (grad[index] - grad_bias[c] / m - xhat * grad_weight[c] / m)
    return grad_x


# ---- updates, in place -----------------------------------------------------------------------------------------------


def sgd_update(
    param: Array, grad: Array, velocity: Array, lr: float, momentum: float, nesterov: bool, weight_decay: float
) -> None:
    for i in range(param.size):
        g = grad[i] + weight_decay * param[i]
        velocity[i] = momentum * velocity[i] + g
        param[i] -= lr * (g + momentum * velocity[i] if nesterov else velocity[i])


def rprop_update(param: Array, grad: Array, prev: Array, step_size: Array) -> None:
    for i in range(param.size):
        same = np.sign(grad[i]) * np.sign(prev[i])
        step_size[i] = min(max(step_size[i] * (1.2 if same > 0 else 0.5 if same < 0 else 1.0), 1e-6), 50.0)
        prev[i] = 0.0 if same < 0 else grad[i]
        param[i] -= np.sign(prev[i]) * step_size[i]


def adagrad_update(param: Array, grad: Array, sum: Array, step: int, lr: float, eps: float) -> None:
    for i in range(param.size):
        sum[i] += grad[i] ** 2
        param[i] -= lr * grad[i] / (math.sqrt(sum[i]) + eps)


def rmsprop_update(
    param: Array, grad: Array, square_avg: Array, momentum_buffer: Array, grad_avg: Array, lr: float, eps: float,
    momentum: float,
) -> None:  # fmt: skip
    for i in range(param.size):
        square_avg[i] = 0.99 * square_avg[i] + 0.01 * grad[i] ** 2
        grad_avg[i] += 0.01 * (grad[i] - grad_avg[i])
        variance = max(square_avg[i] - grad_avg[i] ** 2, 0)
        momentum_buffer[i] = momentum * momentum_buffer[i] + grad[i] / (math.sqrt(variance) + eps)
        param[i] -= lr * momentum_buffer[i]


def adam_update(
    param: Array, grad: Array, exp_avg: Array, exp_avg_sq: Array, step: int, lr: float, eps: float
) -> None:  # fmt: skip
    """Without weight decay, so that it is AdamW's too."""
    for i in range(param.size):
        exp_avg[i] += 0.1 * (grad[i] - exp_avg[i])
        exp_avg_sq[i] = 0.999 * exp_avg_sq[i] + 0.001 * grad[i] ** 2
        denominator = math.sqrt(exp_avg_sq[i]) / math.sqrt(1 - 0.999**step) + eps
        param[i] -= lr / (1 - 0.9**step) * exp_avg[i] / denominator


adamw_update = adam_update
