"""Convolution, or rather cross-correlation, as everywhere in deep learning.

    y[n, o, i, j] = bias[o] + sum over c, u, v of
                    weight[o, c, u, v] * x[n, first + c, i*sh + u*dh - ph, j*sw + v*dw - pw]

with x zero outside the image; c runs over the C/groups channels of o's group, of which `first` is the first. Both
gradients are this sum's, term by term. (Dumoulin and Visin 2016, https://arxiv.org/abs/1603.07285; the argument names
and the sizes are PyTorch's.)

Two algorithms: "direct" loops over images, filters and positions in Python, as one writes it first: it is the naive
baseline. "im2col" gathers all windows and multiplies once: it is the vectorised baseline, and what "auto" chooses.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from fastnn.backends import shapes
from fastnn.backends.shapes import FLOATING, Array, Pair
from fastnn.backends.sums import product, total


def conv2d_forward(
    x: Array,
    weight: Array,
    bias: Array | None,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
    *,
    algorithm: str = "auto",
    out: Array | None = None,
) -> Array:
    """Two-dimensional convolution, by the formula at the top of this file.

    x is (N, C, H, W), weight (O, C/groups, kh, kw), bias (O,) or None; stride, padding and dilation are (rows,
    columns). Returns y (N, O, OH, OW) with OH = floor((H + 2*ph - dh*(kh - 1) - 1) / sh) + 1, OW alike. `out` is
    overwritten and must not overlap an input.

    >>> conv2d_forward(np.arange(9.0).reshape(1, 1, 3, 3), np.ones((1, 1, 2, 2)), None)
    array([[[[ 8., 12.],
             [20., 24.]]]])

    Raises ShapeError where channels do not fit or the kernel exceeds the padded image, ArgumentError for options that
    make no sense, DTypeError where the dtypes are not one floating type.
    """
    y = shapes.conv2d_forward(x, weight, bias, stride, padding, dilation, groups, algorithm, out, FLOATING)
    padded = _pad(x, padding)
    if algorithm == "direct":
        _forward_direct(padded, weight, stride, dilation, groups, y)
    else:
        n, o, oh, ow = y.shape
        windows = _windows(padded, weight.shape[2:], stride, dilation, groups)
        filters = weight.reshape(groups, o // groups, -1)
        sums = np.empty((groups, n * oh * ow, o // groups), y.dtype)
        product(windows, filters.transpose(0, 2, 1), sums)
        y[...] = sums.reshape(groups, n, oh, ow, o // groups).transpose(1, 0, 4, 2, 3).reshape(y.shape)
    if bias is not None:
        y += bias[:, None, None]
    return y


def conv2d_backward_input(
    grad: Array,
    weight: Array,
    input_size: Pair,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
    *,
    algorithm: str = "auto",
    out: Array | None = None,
) -> Array:
    """Gradient of the loss with respect to the input of a convolution.

    grad is (N, O, OH, OW), weight (O, C/groups, kh, kw), input_size the (H, W) that the strides left open.
    Returns (N, C, H, W): each grad entry times its filter, added to the window it came from.
    `out` is overwritten, not added to, and must not overlap an input.
    """
    grad_x = shapes.conv2d_backward_input(
        grad, weight, input_size, stride, padding, dilation, groups, algorithm, out, FLOATING
    )
    (n, c, h, w), (ph, pw) = grad_x.shape, padding
    grad_padded = np.zeros((n, c, h + 2 * ph, w + 2 * pw), grad.dtype)
    if algorithm == "direct":
        _backward_input_direct(grad, weight, stride, dilation, groups, grad_padded)
    else:
        _, o, oh, ow = grad.shape
        kh, kw = weight.shape[2:]
        filters = weight.reshape(groups, o // groups, -1)
        sums = np.empty((groups, n * oh * ow, filters.shape[2]), grad.dtype)
        product(_rows(grad, groups), filters, sums)
        terms = sums.reshape(groups, n, oh, ow, c // groups, kh, kw).transpose(1, 0, 4, 5, 6, 2, 3)
        terms = terms.reshape(n, c, kh, kw, oh, ow)
        (sh, sw), (dh, dw) = stride, dilation
        for u in range(kh):
            for v in range(kw):
                rows = slice(u * dh, u * dh + (oh - 1) * sh + 1, sh)
                columns = slice(v * dw, v * dw + (ow - 1) * sw + 1, sw)
                grad_padded[:, :, rows, columns] += terms[:, :, u, v]
    grad_x[...] = grad_padded[:, :, ph : ph + h, pw : pw + w]
    return grad_x


def conv2d_backward_weight(
    grad: Array,
    x: Array,
    kernel_size: Pair,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
    *,
    algorithm: str = "auto",
    out: tuple[Array | None, Array | None] | None = None,
) -> tuple[Array, Array]:
    """Gradients with respect to the filters and the bias of a convolution.

    grad is (N, O, OH, OW), x (N, C, H, W), kernel_size the (kh, kw) that the strides left open.
    Returns (grad_weight (O, C/groups, kh, kw): each grad entry times the window it came from, summed;
    grad_bias (O,): grad summed over images and positions). Zeros for an empty batch.
    Both of `out` are overwritten, not added to, and must not overlap an input.
    """
    grad_weight, grad_bias = shapes.conv2d_backward_weight(
        grad, x, kernel_size, stride, padding, dilation, groups, algorithm, out, FLOATING
    )
    padded = _pad(x, padding)
    if algorithm == "direct":
        _backward_weight_direct(grad, padded, stride, dilation, groups, grad_weight)
    else:
        windows = _windows(padded, kernel_size, stride, dilation, groups)
        product(_rows(grad, groups).transpose(0, 2, 1), windows, grad_weight.reshape(groups, -1, windows.shape[2]))
    grad_bias[...] = total(grad, (0, 2, 3))
    return grad_weight, grad_bias


def _pad(x: Array, padding: Pair) -> Array:
    ph, pw = padding
    return np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))


# ---- im2col ----------------------------------------------------------------------------------------------------------


def _windows(padded: Array, kernel_size: Pair, stride: Pair, dilation: Pair, groups: int) -> Array:
    """The window of every output position as one row: (groups, N*OH*OW, C/groups*kh*kw), copied."""
    (kh, kw), (sh, sw), (dh, dw) = kernel_size, stride, dilation
    span = (dh * (kh - 1) + 1, dw * (kw - 1) + 1)
    views = sliding_window_view(padded, span, axis=(2, 3))[:, :, ::sh, ::sw, ::dh, ::dw]
    n, c, oh, ow = views.shape[:4]
    views = views.reshape(n, groups, c // groups, oh, ow, kh, kw).transpose(1, 0, 3, 4, 2, 5, 6)
    return views.reshape(groups, n * oh * ow, c // groups * kh * kw)


def _rows(grad: Array, groups: int) -> Array:
    """grad (N, O, OH, OW) with one row for every output position: (groups, N*OH*OW, O/groups)."""
    n, o, oh, ow = grad.shape
    split = grad.reshape(n, groups, o // groups, oh, ow).transpose(1, 0, 3, 4, 2)
    return split.reshape(groups, n * oh * ow, o // groups)


# ---- direct ----------------------------------------------------------------------------------------------------------


def _window(o: int, i: int, j: int, weight: Array, stride: Pair, dilation: Pair, groups: int) -> tuple[slice, ...]:
    """Index of the channels, rows and columns of one padded image that output (o, i, j) sees."""
    filters, cg, kh, kw = weight.shape
    (sh, sw), (dh, dw) = stride, dilation
    first = o // (filters // groups) * cg
    rows = slice(i * sh, i * sh + dh * (kh - 1) + 1, dh)
    columns = slice(j * sw, j * sw + dw * (kw - 1) + 1, dw)
    return slice(first, first + cg), rows, columns


def _forward_direct(padded: Array, weight: Array, stride: Pair, dilation: Pair, groups: int, y: Array) -> None:
    for n, o, i, j in np.ndindex(y.shape):
        window = padded[n][_window(o, i, j, weight, stride, dilation, groups)]
        y[n, o, i, j] = np.sum(window * weight[o])


def _backward_input_direct(
    grad: Array, weight: Array, stride: Pair, dilation: Pair, groups: int, grad_padded: Array
) -> None:
    for n, o, i, j in np.ndindex(grad.shape):
        grad_padded[n][_window(o, i, j, weight, stride, dilation, groups)] += grad[n, o, i, j] * weight[o]


def _backward_weight_direct(
    grad: Array, padded: Array, stride: Pair, dilation: Pair, groups: int, grad_weight: Array
) -> None:
    grad_weight[...] = 0
    for n, o, i, j in np.ndindex(grad.shape):
        grad_weight[o] += grad[n, o, i, j] * padded[n][_window(o, i, j, grad_weight, stride, dilation, groups)]
