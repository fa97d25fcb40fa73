"""Convolution by direct loops or by im2col: the choice, and how the work is cut into tasks."""

from __future__ import annotations

import numpy as np
from numba import prange

from fastnn.backends import shapes
from fastnn.backends.jit import conv_direct, conv_im2col
from fastnn.backends.jit.compile import contiguous, flat, kernel, piece, pieces
from fastnn.backends.jit.dense import channel_sums
from fastnn.backends.jit.tiles import TILE, Geometry
from fastnn.backends.shapes import FLOAT32, Array, Pair

_NS_PER_PRODUCT = 1 / 20
_DIRECT_FROM = 40  # positions in an output plane; with fewer, im2col makes longer runs of several images
_TASKS = 8  # enough for all threads to have work; not their number, on which no bit may depend
_PARTS = 16  # a sum over images is made in at most so many parts, added in order
_PARTS_FLOATS = 1 << 23  # and takes at most this much memory for them, if it is more than one


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
    y = shapes.conv2d_forward(x, weight, bias, stride, padding, dilation, groups, algorithm, out, FLOAT32)
    n, filters, oh, ow = y.shape
    if _direct(algorithm, oh * ow):
        run, tasks = conv_direct.forward, n * groups
    else:
        run, tasks = conv_im2col.forward, -(-n * oh * ow // TILE) * groups
    run(
        y.size * weight[0].size * _NS_PER_PRODUCT, contiguous(x), contiguous(weight),
        np.zeros(filters, np.float32) if bias is None else contiguous(bias),
        _geometry(stride, padding, dilation, oh, ow), int(groups), _splits(tasks, filters // groups), y,
    )  # fmt: skip
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
    grad_x = shapes.conv2d_backward_input(
        grad, weight, input_size, stride, padding, dilation, groups, algorithm, out, FLOAT32
    )
    n, _, oh, ow = grad.shape
    if _direct(algorithm, oh * ow):
        run, cut = conv_direct.backward_input, _splits(n * groups, weight.shape[1])
    else:
        run, cut = conv_im2col.backward_input, -(-TILE // (oh * ow))
    run(
        grad.size * weight[0].size * _NS_PER_PRODUCT, contiguous(grad), contiguous(weight),
        _geometry(stride, padding, dilation, oh, ow), int(groups), cut, grad_x,
    )  # fmt: skip
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
    grad_weight, grad_bias = shapes.conv2d_backward_weight(
        grad, x, kernel_size, stride, padding, dilation, groups, algorithm, out, FLOAT32
    )
    grad = contiguous(grad)
    n, filters, oh, ow = grad.shape
    channel_sums(float(grad.size), grad.reshape(n, filters, oh * ow), grad_bias)
    run = conv_direct.backward_weight if _direct(algorithm, oh * ow) else conv_im2col.backward_weight
    count = max(1, min(n, _PARTS, _PARTS_FLOATS // grad_weight.size))
    parts = np.empty((count, *grad_weight.shape))  # of many sums in single precision
    run(
        grad.size * grad_weight[0].size * _NS_PER_PRODUCT, grad, contiguous(x),
        _geometry(stride, padding, dilation, oh, ow), int(groups), _splits(count * groups, filters // groups), parts,
    )  # fmt: skip
    _sum_parts(float(parts.size), parts.reshape(count, grad_weight.size), flat(grad_weight))
    return grad_weight, grad_bias


def _direct(algorithm: str, positions: int) -> bool:
    return algorithm == "direct" or (algorithm == "auto" and positions >= _DIRECT_FROM)


def _splits(tasks: int, channels: int) -> int:
    """Into how many parts of at least eight channels each task is cut, so that there are enough of them."""
    return max(1, min(-(-_TASKS // max(tasks, 1)), -(-channels // 8)))


def _geometry(stride: Pair, padding: Pair, dilation: Pair, oh: int, ow: int) -> Geometry:
    """Where there is but one position, no second step is taken: however long it is, it must not size a buffer."""
    (sh, sw), (ph, pw), (dh, dw) = stride, padding, dilation
    return int(sh) if oh > 1 else 1, int(sw) if ow > 1 else 1, int(ph), int(pw), int(dh), int(dw)


@kernel()
def _sum_parts(parts: Array, total: Array) -> None:
    """total (E,) = parts (P,E)[0] + parts[1] + ..., in that order."""
    for k in prange(pieces(total.size)):
        t = piece(total, k)
        sums = piece(parts[0], k).copy()
        for part in range(1, parts.shape[0]):
            u = piece(parts[part], k)
            for i in range(t.size):
                sums[i] += u[i]
        for i in range(t.size):
            t[i] = sums[i]
