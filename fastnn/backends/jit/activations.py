"""Activations, softmax and dropout, and their gradients. Elementwise loops go by pieces of the flat arrays."""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from fastnn.backends import shapes
from fastnn.backends.jit.compile import CHUNK, Kernel, contiguous, flat, inner, kernel, piece, pieces
from fastnn.backends.reference.kinds import FORMULAS, name_of
from fastnn.backends.shapes import FLOAT32, Array

_ZERO = np.float32(0)
_HALF = np.float32(0.5)
_ONE = np.float32(1)
_SQRT_HALF = np.float32(math.sqrt(0.5))
_DENSITY_AT_ZERO = np.float32(1 / math.sqrt(2 * math.pi))  # of the normal distribution

# What an element costs: a load and a store, or an exponential as well.
_NS_COPY = 0.5
_NS_EXP = 5.0


def relu_forward(x: Array, *, out: Array | None = None) -> Array:
    return _map("relu", _relu, _NS_COPY, x, out)


def relu_backward_input(grad: Array, x: Array, *, out: Array | None = None) -> Array:
    return _map2("relu_backward_input", _relu_backward, _NS_COPY, grad, x, out)


def leaky_relu_forward(x: Array, negative_slope: float = 0.01, *, out: Array | None = None) -> Array:
    return _map("leaky_relu", _leaky_relu, _NS_COPY, x, out, float(negative_slope))


def leaky_relu_backward_input(
    grad: Array, x: Array, negative_slope: float = 0.01, *, out: Array | None = None
) -> Array:
    return _map2("leaky_relu_backward_input", _leaky_relu_backward, _NS_COPY, grad, x, out, float(negative_slope))


def elu_forward(x: Array, alpha: float = 1.0, *, out: Array | None = None) -> Array:
    return _map("elu", _elu, _NS_EXP, x, out, float(alpha))


def elu_backward_input(grad: Array, x: Array, alpha: float = 1.0, *, out: Array | None = None) -> Array:
    return _map2("elu_backward_input", _elu_backward, _NS_EXP, grad, x, out, float(alpha))


def sigmoid_forward(x: Array, *, out: Array | None = None) -> Array:
    return _map("sigmoid", _sigmoid, _NS_EXP, x, out)


def sigmoid_backward_input(grad: Array, y: Array, *, out: Array | None = None) -> Array:
    return _map2("sigmoid_backward_input", _sigmoid_backward, _NS_COPY, grad, y, out)


def tanh_forward(x: Array, *, out: Array | None = None) -> Array:
    return _map("tanh", _tanh, _NS_EXP, x, out)


def tanh_backward_input(grad: Array, y: Array, *, out: Array | None = None) -> Array:
    return _map2("tanh_backward_input", _tanh_backward, _NS_COPY, grad, y, out)


def gelu_forward(x: Array, *, out: Array | None = None) -> Array:
    return _map("gelu", _gelu, _NS_EXP, x, out)


def gelu_backward_input(grad: Array, x: Array, *, out: Array | None = None) -> Array:
    return _map2("gelu_backward_input", _gelu_backward, _NS_EXP, grad, x, out)


def silu_forward(x: Array, *, out: Array | None = None) -> Array:
    return _map("silu", _silu, _NS_EXP, x, out)


def silu_backward_input(grad: Array, x: Array, *, out: Array | None = None) -> Array:
    return _map2("silu_backward_input", _silu_backward, _NS_EXP, grad, x, out)


def activation_forward(x: Array, kind: int, *, out: Array | None = None) -> Array:
    """In NumPy, as the reference."""
    y = shapes.elementwise(name_of(kind), x, None, out, FLOAT32)
    y[...] = FORMULAS[kind][1](x)
    return y


def activation_backward_input(grad: Array, x: Array, kind: int, *, out: Array | None = None) -> Array:
    grad_x = shapes.elementwise(f"{name_of(kind)}_backward_input", grad, x, out, FLOAT32)
    grad_x[...] = grad * FORMULAS[kind][2](x)
    return grad_x


def softmax_forward(x: Array, *, out: Array | None = None) -> Array:
    y = shapes.softmax("softmax", x, None, out, FLOAT32)
    _softmax(x.size * _NS_EXP, contiguous(x), y)
    return y


def softmax_backward_input(grad: Array, y: Array, *, out: Array | None = None) -> Array:
    grad_x = shapes.softmax("softmax_backward_input", grad, y, out, FLOAT32)
    _softmax_backward(y.size * _NS_COPY, contiguous(grad), contiguous(y), grad_x)
    return grad_x


def log_softmax_forward(x: Array, *, out: Array | None = None) -> Array:
    y = shapes.softmax("log_softmax", x, None, out, FLOAT32)
    _log_softmax(x.size * _NS_EXP, contiguous(x), y)
    return y


def log_softmax_backward_input(grad: Array, y: Array, *, out: Array | None = None) -> Array:
    grad_x = shapes.softmax("log_softmax_backward_input", grad, y, out, FLOAT32)
    _log_softmax_backward(y.size * _NS_EXP, contiguous(grad), contiguous(y), grad_x)
    return grad_x


def dropout_forward(x: Array, p: float, seed: int, stream: int, *, out: Array | None = None) -> Array:
    y = shapes.dropout_forward(x, p, seed, stream, out, FLOAT32)
    # u >= p, u being a multiple of 2^-24, compared as whole numbers.
    least, scale = math.ceil(p * 2**24), 1 / (1 - p) if p < 1 else 0.0
    _dropout(x.size * _NS_EXP, flat(x), least, scale, np.uint64(seed), np.uint64(stream), flat(y))
    return y


def _map(op: str, run: Kernel, nanoseconds: float, x: Array, out: Array | None, *options: float) -> Array:
    y = shapes.elementwise(op, x, None, out, FLOAT32)
    run(x.size * nanoseconds, flat(x), flat(y), *options)
    return y


def _map2(
    op: str, run: Kernel, nanoseconds: float, grad: Array, saved: Array, out: Array | None, *options: float
) -> Array:
    grad_x = shapes.elementwise(op, grad, saved, out, FLOAT32)
    run(grad.size * nanoseconds, flat(grad), flat(saved), flat(grad_x), *options)
    return grad_x


# ---- elementwise: x, grad, y, grad_x are (size,) ---------------------------------------------------------------------


@kernel()
def _relu(x: Array, y: Array) -> None:
    for k in prange(pieces(x.size)):
        u, v = piece(x, k), piece(y, k)
        for i in range(u.size):
            v[i] = _ZERO if u[i] <= 0 else u[i]  # so asked, NaN stays


@kernel()
def _relu_backward(grad: Array, x: Array, grad_x: Array) -> None:
    for k in prange(pieces(x.size)):
        g, u, v = piece(grad, k), piece(x, k), piece(grad_x, k)
        for i in range(u.size):
            v[i] = g[i] if u[i] > 0 else _ZERO


@kernel()
def _leaky_relu(x: Array, y: Array, negative_slope: float) -> None:
    slope = np.float32(negative_slope)
    for k in prange(pieces(x.size)):
        u, v = piece(x, k), piece(y, k)
        for i in range(u.size):
            v[i] = u[i] if u[i] > 0 else slope * u[i]


@kernel()
def _leaky_relu_backward(grad: Array, x: Array, grad_x: Array, negative_slope: float) -> None:
    slope = np.float32(negative_slope)
    for k in prange(pieces(x.size)):
        g, u, v = piece(grad, k), piece(x, k), piece(grad_x, k)
        for i in range(u.size):
            v[i] = g[i] if u[i] > 0 else slope * g[i]


@kernel()
def _elu(x: Array, y: Array, alpha: float) -> None:
    factor = np.float32(alpha)
    for k in prange(pieces(x.size)):
        u, v = piece(x, k), piece(y, k)
        for i in range(u.size):
            v[i] = u[i] if u[i] > 0 else factor * math.expm1(u[i])


@kernel()
def _elu_backward(grad: Array, x: Array, grad_x: Array, alpha: float) -> None:
    factor = np.float32(alpha)
    for k in prange(pieces(x.size)):
        g, u, v = piece(grad, k), piece(x, k), piece(grad_x, k)
        for i in range(u.size):
            v[i] = g[i] if u[i] > 0 else g[i] * factor * math.exp(u[i])


@inner()
def _logistic(x: np.float32) -> np.float32:
    e = math.exp(-abs(x))  # at most 1
    return (_ONE if x >= 0 else e) / (_ONE + e)


@kernel()
def _sigmoid(x: Array, y: Array) -> None:
    for k in prange(pieces(x.size)):
        u, v = piece(x, k), piece(y, k)
        for i in range(u.size):
            v[i] = _logistic(u[i])


@kernel()
def _sigmoid_backward(grad: Array, y: Array, grad_x: Array) -> None:
    for k in prange(pieces(y.size)):
        g, u, v = piece(grad, k), piece(y, k), piece(grad_x, k)
        for i in range(u.size):
            v[i] = g[i] * (u[i] * (_ONE - u[i]))


@kernel()
def _tanh(x: Array, y: Array) -> None:
    for k in prange(pieces(x.size)):
        u, v = piece(x, k), piece(y, k)
        for i in range(u.size):
            v[i] = math.tanh(u[i])


@kernel()
def _tanh_backward(grad: Array, y: Array, grad_x: Array) -> None:
    for k in prange(pieces(y.size)):
        g, u, v = piece(grad, k), piece(y, k), piece(grad_x, k)
        for i in range(u.size):
            v[i] = g[i] * (_ONE - u[i] * u[i])


@inner()
def _normal_cdf(x: np.float32) -> np.float32:
    return _HALF * math.erfc(-x * _SQRT_HALF)  # = (1 + erf)/2 without its cancellation


@kernel()
def _gelu(x: Array, y: Array) -> None:
    for k in prange(pieces(x.size)):
        u, v = piece(x, k), piece(y, k)
        for i in range(u.size):
            v[i] = u[i] * _normal_cdf(u[i])


@kernel()
def _gelu_backward(grad: Array, x: Array, grad_x: Array) -> None:
    for k in prange(pieces(x.size)):
        g, u, v = piece(grad, k), piece(x, k), piece(grad_x, k)
        for i in range(u.size):
            density = _DENSITY_AT_ZERO * math.exp(-_HALF * u[i] * u[i])
            v[i] = g[i] * (_normal_cdf(u[i]) + u[i] * density)


@kernel()
def _silu(x: Array, y: Array) -> None:
    for k in prange(pieces(x.size)):
        u, v = piece(x, k), piece(y, k)
        for i in range(u.size):
            v[i] = u[i] * _logistic(u[i])


@kernel()
def _silu_backward(grad: Array, x: Array, grad_x: Array) -> None:
    for k in prange(pieces(x.size)):
        g, u, v = piece(grad, k), piece(x, k), piece(grad_x, k)
        for i in range(u.size):
            s = _logistic(u[i])
            v[i] = g[i] * (s * (_ONE + u[i] * (_ONE - s)))


# ---- softmax: all arrays are (N,C) -----------------------------------------------------------------------------------


@inner()
def _maximum(row: Array) -> np.float32:
    """The largest entry; with NaNs in the row, that or NaN: either way the row's sum of exponentials is NaN."""
    top = row[0]
    for j in range(1, row.size):
        if row[j] > top:
            top = row[j]
    return top


@kernel()
def _softmax(x: Array, y: Array) -> None:
    for n in prange(x.shape[0]):
        u, v = x[n], y[n]
        top, total = _maximum(u), 0.0
        for j in range(u.size):
            e = math.exp(u[j] - top)
            total += e
            v[j] = e
        divisor = np.float32(total)
        for j in range(v.size):
            v[j] /= divisor


@kernel()
def _softmax_backward(grad: Array, y: Array, grad_x: Array) -> None:
    for n in prange(y.shape[0]):
        g, u, v = grad[n], y[n], grad_x[n]
        total = 0.0
        for j in range(u.size):
            total += g[j] * u[j]
        mean = np.float32(total)
        for j in range(u.size):
            v[j] = u[j] * (g[j] - mean)


@kernel()
def _log_softmax(x: Array, y: Array) -> None:
    for n in prange(x.shape[0]):
        u, v = x[n], y[n]
        top, total = _maximum(u), 0.0
        for j in range(u.size):
            total += math.exp(u[j] - top)
        log_total = np.float32(math.log(total))
        for j in range(u.size):
            v[j] = u[j] - top - log_total


@kernel()
def _log_softmax_backward(grad: Array, y: Array, grad_x: Array) -> None:
    for n in prange(y.shape[0]):
        g, u, v = grad[n], y[n], grad_x[n]
        total = 0.0
        for j in range(u.size):
            total += g[j]
        upstream = np.float32(total)
        for j in range(u.size):
            v[j] = g[j] - math.exp(u[j]) * upstream


# ---- dropout ---------------------------------------------------------------------------------------------------------


@inner()
def _philox(block: int, seed: int, stream: int) -> tuple[int, int, int, int]:
    """Philox4x32-10 as backends/reference/philox.py has it: the four words of a block. Everything is uint64."""
    low, shift = np.uint64(0xFFFFFFFF), np.uint64(32)
    k0, k1 = seed & low, seed >> shift
    c0, c1, c2, c3 = block & low, block >> shift, stream & low, stream >> shift
    for _ in range(10):
        product0, product1 = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
        c0, c1, c2, c3 = (product1 >> shift) ^ c1 ^ k0, product1 & low, (product0 >> shift) ^ c3 ^ k1, product0 & low
        k0, k1 = (k0 + np.uint64(0x9E3779B9)) & low, (k1 + np.uint64(0xBB67AE85)) & low
    return c0, c1, c2, c3


@kernel()
def _dropout(x: Array, least: int, scale: float, seed: int, stream: int, y: Array) -> None:
    """y = x*scale where the upper 24 of the element's 32 random bits are at least `least`, else 0."""
    factor, limit = np.float32(scale), np.uint32(least)
    for k in prange(pieces(x.size)):
        u, v = piece(x, k), piece(y, k)
        words = np.empty(CHUNK, np.uint32)  # drawn first, four at a time, so that both loops are vectorised
        for block in range((u.size + 3) // 4):
            words[4 * block], words[4 * block + 1], words[4 * block + 2], words[4 * block + 3] = _philox(
                np.uint64(k * (CHUNK // 4) + block), seed, stream
            )
        for i in range(u.size):
            v[i] = u[i] * factor if words[i] >> np.uint32(8) >= limit else _ZERO
