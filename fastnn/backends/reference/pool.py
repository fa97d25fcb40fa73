"""Pooling over windows of an image: maximum, average, and the average of the whole image.

Sizes are a convolution's: OH = floor((H + 2*ph - kh) / sh) + 1. Padding is at most half the kernel, so that every
window holds a pixel; it is never the maximum, and it counts as zeros in an average (count_include_pad) or not at all.
"""

from __future__ import annotations

import numpy as np

from fastnn.backends import shapes
from fastnn.backends.shapes import FLOATING, Array, Pair
from fastnn.backends.sums import total


def max_pool2d_forward(
    x: Array,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair = (0, 0),
    *,
    out: tuple[Array | None, Array | None] | None = None,
) -> tuple[Array, Array]:
    """The largest value of each window and where it stood.

    x is (N, C, H, W). Returns (y (N, C, OH, OW), argmax int32 of the same shape: h*W + w in the plane of x).
    The first maximum in scan order wins; the first NaN wins over everything, as in PyTorch.
    Both of `out` are overwritten and must not overlap x.

    >>> y, argmax = max_pool2d_forward(np.array([[[[1.0, 4.0], [4.0, 2.0]]]]), (2, 2), (2, 2))
    >>> y.item(), argmax.item()
    (4.0, 1)
    """
    y, argmax = shapes.max_pool2d_forward(x, kernel_size, stride, padding, out, FLOATING)
    h, w = x.shape[2:]
    argmax[...] = -1
    for rows, columns, source_rows, source_columns in _taps((h, w), y.shape[2:], kernel_size, stride, padding):
        value = x[:, :, source_rows, source_columns]
        best = y[:, :, rows, columns]
        index = argmax[:, :, rows, columns]
        with np.errstate(invalid="ignore"):
            wins = (index < 0) | (value > best) | (np.isnan(value) & ~np.isnan(best))
        place = np.arange(h)[source_rows, None] * w + np.arange(w)[source_columns]
        np.copyto(best, value, where=wins)
        np.copyto(index, place.astype(np.int32), where=wins)
    return y, argmax


def max_pool2d_backward_input(grad: Array, argmax: Array, input_size: Pair, *, out: Array | None = None) -> Array:
    """Gradient of max-pooling: each grad entry goes to its maximum; where windows overlap they add.

    grad is (N, C, OH, OW), argmax int32 as max_pool2d_forward returned it (other numbers are undefined behaviour),
    input_size (H, W). Returns (N, C, H, W). `out` is overwritten, not added to, and must not overlap an input.
    """
    grad_x = shapes.max_pool2d_backward_input(grad, argmax, input_size, out, FLOATING)
    n, c, h, w = grad_x.shape
    grad_x[...] = 0
    planes = np.arange(n * c).reshape(n, c, 1, 1)
    np.add.at(grad_x.reshape(n * c, h * w), (planes, argmax), grad)
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
    """The mean of each window: its sum divided by kh*kw, or by its pixels inside the image if not count_include_pad.

    x is (N, C, H, W). Returns (N, C, OH, OW). `out` is overwritten and must not overlap x.
    """
    y = shapes.avg_pool2d_forward(x, kernel_size, stride, padding, out, FLOATING)
    size = x.shape[2:]
    sums = _sums(y, kernel_size)
    for rows, columns, source_rows, source_columns in _taps(size, y.shape[2:], kernel_size, stride, padding):
        sums[:, :, rows, columns] += x[:, :, source_rows, source_columns]
    sums /= _window_counts(size, y.shape[2:], kernel_size, stride, padding, count_include_pad).astype(x.dtype)
    y[...] = sums
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
    """Gradient of average-pooling: each grad entry, divided as its window was, goes to all the window's pixels.

    grad is (N, C, OH, OW), input_size (H, W). Returns (N, C, H, W).
    `out` is overwritten, not added to, and must not overlap grad.
    """
    grad_x = shapes.avg_pool2d_backward_input(grad, input_size, kernel_size, stride, padding, out, FLOATING)
    size, output_size = grad_x.shape[2:], grad.shape[2:]
    counts = _window_counts(size, output_size, kernel_size, stride, padding, count_include_pad)
    share = grad / counts.astype(grad.dtype)
    sums = _sums(grad_x, kernel_size)
    for rows, columns, source_rows, source_columns in _taps(size, output_size, kernel_size, stride, padding):
        sums[:, :, source_rows, source_columns] += share[:, :, rows, columns]
    grad_x[...] = sums
    return grad_x


def global_avg_pool2d_forward(x: Array, *, out: Array | None = None) -> Array:
    """The mean of each channel of each image: x (N, C, H, W) -> (N, C, 1, 1). `out` is overwritten, not in x."""
    y = shapes.global_avg_pool2d_forward(x, out, FLOATING)
    np.divide(total(x, (2, 3), keepdims=True), x[0, 0].size if len(x) else 1, out=y)
    return y


def global_avg_pool2d_backward_input(grad: Array, input_size: Pair, *, out: Array | None = None) -> Array:
    """Gradient of global average-pooling: grad (N, C, 1, 1) / (H*W) to every pixel of (N, C, *input_size).

    `out` is overwritten and must not overlap grad.
    """
    grad_x = shapes.global_avg_pool2d_backward_input(grad, input_size, out, FLOATING)
    h, w = input_size
    grad_x[...] = grad / (h * w)
    return grad_x


def _sums(like: Array, kernel_size: Pair) -> Array:
    """Zeros in its shape to add windows to; in double precision where windows are large."""
    return np.zeros(like.shape, np.float64 if kernel_size[0] * kernel_size[1] > 128 else like.dtype)


def _axis_taps(size: int, outputs: int, kernel: int, stride: int, padding: int) -> list[tuple[slice, slice]]:
    """For each kernel offset: the outputs whose window has a pixel of the image there, and those pixels."""
    taps = []
    for offset in range(kernel):
        first = max(0, -((offset - padding) // stride))  # smallest i with i*stride + offset - padding >= 0
        last = min(outputs - 1, (size - 1 - offset + padding) // stride)
        if first <= last:
            start = first * stride + offset - padding
            taps.append((slice(first, last + 1), slice(start, start + (last - first) * stride + 1, stride)))
    return taps


def _taps(
    size: Pair, output_size: Pair, kernel_size: Pair, stride: Pair, padding: Pair
) -> list[tuple[slice, slice, slice, slice]]:
    """Kernel offsets in scan order: (output rows, output columns, input rows, input columns) that meet there."""
    vertical, horizontal = map(_axis_taps, size, output_size, kernel_size, stride, padding)
    return [(rows, columns, y, x) for rows, y in vertical for columns, x in horizontal]


def _window_counts(
    size: Pair, output_size: Pair, kernel_size: Pair, stride: Pair, padding: Pair, count_include_pad: bool
) -> Array:
    """What each window's sum is divided by, (OH, OW)."""
    if count_include_pad:
        return np.full(output_size, kernel_size[0] * kernel_size[1])
    counts = np.zeros(output_size, int)
    for rows, columns, _, _ in _taps(size, output_size, kernel_size, stride, padding):
        counts[rows, columns] += 1
    return counts
