"""Pooling, a plane of an image at a time."""

from __future__ import annotations

import numpy as np
from numba import prange

from fastnn.backends import shapes
from fastnn.backends.jit.compile import REORDERED, contiguous, inner, kernel
from fastnn.backends.shapes import FLOAT32, Array, Pair

_NS_PER_PIXEL = 2.0


def max_pool2d_forward(
    x: Array,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair = (0, 0),
    *,
    out: tuple[Array | None, Array | None] | None = None,
) -> tuple[Array, Array]:
    y, argmax = shapes.max_pool2d_forward(x, kernel_size, stride, padding, out, FLOAT32)
    work = y.size * kernel_size[0] * kernel_size[1] * _NS_PER_PIXEL
    _max_pool(work, _planes(x), *_ints(kernel_size, stride, padding), _planes(y), _planes(argmax))
    return y, argmax


def max_pool2d_backward_input(grad: Array, argmax: Array, input_size: Pair, *, out: Array | None = None) -> Array:
    grad_x = shapes.max_pool2d_backward_input(grad, argmax, input_size, out, FLOAT32)
    _max_pool_backward(grad_x.size * 1.0, _planes(grad), _planes(argmax), _planes(grad_x))
    return grad_x


def avg_pool2d_forward(
    x: Array,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair = (0, 0),
    count_include_pad: bool = True,
    *,
    out: Array | None = None,
) -> Array:
    y = shapes.avg_pool2d_forward(x, kernel_size, stride, padding, out, FLOAT32)
    work = y.size * kernel_size[0] * kernel_size[1] * _NS_PER_PIXEL
    _avg_pool(work, _planes(x), *_ints(kernel_size, stride, padding), bool(count_include_pad), _planes(y))
    return y


def avg_pool2d_backward_input(
    grad: Array,
    input_size: Pair,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair = (0, 0),
    count_include_pad: bool = True,
    *,
    out: Array | None = None,
) -> Array:
    grad_x = shapes.avg_pool2d_backward_input(grad, input_size, kernel_size, stride, padding, out, FLOAT32)
    work = grad.size * kernel_size[0] * kernel_size[1] * _NS_PER_PIXEL
    _avg_pool_backward(
        work, _planes(grad), *_ints(kernel_size, stride, padding), bool(count_include_pad), _planes(grad_x)
    )
    return grad_x


def global_avg_pool2d_forward(x: Array, *, out: Array | None = None) -> Array:
    y = shapes.global_avg_pool2d_forward(x, out, FLOAT32)
    n, c, h, w = x.shape
    _global_avg_pool(x.size * 1.0, contiguous(x).reshape(n * c, h * w), y.reshape(-1))
    return y


def global_avg_pool2d_backward_input(grad: Array, input_size: Pair, *, out: Array | None = None) -> Array:
    grad_x = shapes.global_avg_pool2d_backward_input(grad, input_size, out, FLOAT32)
    _global_avg_pool_backward(grad_x.size * 1.0, contiguous(grad).reshape(-1), _planes(grad_x))
    return grad_x


def _planes(x: Array) -> Array:
    """x (N,C,H,W) as (N*C,H,W)."""
    n, c, h, w = x.shape
    return contiguous(x).reshape(n * c, h, w)


def _ints(*pairs: Pair) -> tuple[Pair, ...]:
    return tuple((int(rows), int(columns)) for rows, columns in pairs)


@inner()
def _window(i: int, stride: int, padding: int, length: int, size: int) -> tuple[int, int]:
    """The part inside 0 .. size-1 of window i: first, end."""
    first = i * stride - padding
    return max(0, first), min(size, first + length)


@inner()
def _largest(image: Array, first: int, rows: int, columns: int, w: int) -> int:
    """Where in image (H*W,) the first maximum, or the first NaN, of the window stands that begins at `first`."""
    place, best, nan = first, image[first], False
    for r in range(rows):
        row = image[first + r * w :][:columns]
        for c in range(columns):
            wins = row[c] > best  # chosen below without a branch, which would be guessed wrong every other time
            best = row[c] if wins else best
            place = first + r * w + c if wins else place
            nan |= row[c] != row[c]
    if nan:
        for r in range(rows):
            for place in range(first + r * w, first + r * w + columns):
                if image[place] != image[place]:
                    return place
    return place


@kernel()
def _max_pool(x: Array, kernel_size: Pair, stride: Pair, padding: Pair, y: Array, argmax: Array) -> None:
    """y, argmax (P,OH,OW) from x (P,H,W)."""
    _, h, w = x.shape
    planes, oh, ow = y.shape
    for plane in prange(planes):
        image = x[plane].reshape(h * w)
        for i in range(oh):
            r0, r1 = _window(i, stride[0], padding[0], kernel_size[0], h)
            for j in range(ow):
                c0, c1 = _window(j, stride[1], padding[1], kernel_size[1], w)
                place = _largest(image, r0 * w + c0, r1 - r0, c1 - c0, w)
                y[plane, i, j] = image[place]
                argmax[plane, i, j] = place


@kernel()
def _max_pool_backward(grad: Array, argmax: Array, grad_x: Array) -> None:
    """grad_x (P,H,W) from grad, argmax (P,OH,OW)."""
    planes, h, w = grad_x.shape
    _, oh, ow = grad.shape
    for plane in prange(planes):
        target = grad_x[plane].reshape(h * w)
        target[:] = 0
        for i in range(oh):
            for j in range(ow):
                target[argmax[plane, i, j]] += grad[plane, i, j]


@kernel()
def _avg_pool(x: Array, kernel_size: Pair, stride: Pair, padding: Pair, count_include_pad: bool, y: Array) -> None:
    """y (P,OH,OW) from x (P,H,W)."""
    _, h, w = x.shape
    planes, oh, ow = y.shape
    for plane in prange(planes):
        for i in range(oh):
            r0, r1 = _window(i, stride[0], padding[0], kernel_size[0], h)
            for j in range(ow):
                c0, c1 = _window(j, stride[1], padding[1], kernel_size[1], w)
                total = 0.0
                for r in range(r0, r1):
                    for c in range(c0, c1):
                        total += x[plane, r, c]
                count = kernel_size[0] * kernel_size[1] if count_include_pad else (r1 - r0) * (c1 - c0)
                y[plane, i, j] = total / count


@kernel()
def _avg_pool_backward(
    grad: Array, kernel_size: Pair, stride: Pair, padding: Pair, count_include_pad: bool, grad_x: Array
) -> None:
    """grad_x (P,H,W) from grad (P,OH,OW)."""
    planes, h, w = grad_x.shape
    _, oh, ow = grad.shape
    for plane in prange(planes):
        sums = np.zeros((h, w))
        for i in range(oh):
            r0, r1 = _window(i, stride[0], padding[0], kernel_size[0], h)
            for j in range(ow):
                c0, c1 = _window(j, stride[1], padding[1], kernel_size[1], w)
                count = kernel_size[0] * kernel_size[1] if count_include_pad else (r1 - r0) * (c1 - c0)
                share = grad[plane, i, j] / np.float32(count)
                for r in range(r0, r1):
                    for c in range(c0, c1):
                        sums[r, c] += share
        for r in range(h):
            for c in range(w):
                grad_x[plane, r, c] = sums[r, c]


@kernel(REORDERED)
def _global_avg_pool(x: Array, y: Array) -> None:
    """y (P,) from x (P,H*W)."""
    planes, size = x.shape
    for plane in prange(planes):
        total = 0.0
        for i in range(size):
            total += x[plane, i]
        y[plane] = total / size


@kernel()
def _global_avg_pool_backward(grad: Array, grad_x: Array) -> None:
    """grad_x (P,H,W) from grad (P,)."""
    planes, h, w = grad_x.shape
    for plane in prange(planes):
        grad_x[plane] = grad[plane] / np.float32(h * w)
