"""Pooling on the compiled kernels (kernels/ops/pool2d.h, pool2d_average.h)."""

from __future__ import annotations

from fastnn import _kernels
from fastnn._kernels import contiguous
from fastnn.backends import shapes
from fastnn.backends.shapes import FLOAT32, Array, Pair


def max_pool2d_forward(
    x: Array,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair = (0, 0),
    *,
    out: tuple[Array | None, Array | None] | None = None,
) -> tuple[Array, Array]:
    y, argmax = shapes.max_pool2d_forward(x, kernel_size, stride, padding, out, FLOAT32)
    _kernels.max_pool2d_forward(contiguous(x), kernel_size, stride, padding, y, argmax)
    return y, argmax


def max_pool2d_backward_input(grad: Array, argmax: Array, input_size: Pair, *, out: Array | None = None) -> Array:
    grad_x = shapes.max_pool2d_backward_input(grad, argmax, input_size, out, FLOAT32)
    _kernels.max_pool2d_backward_input(contiguous(grad), contiguous(argmax), grad_x)
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
    _kernels.avg_pool2d_forward(contiguous(x), kernel_size, stride, padding, count_include_pad, y)
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
    _kernels.avg_pool2d_backward_input(contiguous(grad), kernel_size, stride, padding, count_include_pad, grad_x)
    return grad_x


def global_avg_pool2d_forward(x: Array, *, out: Array | None = None) -> Array:
    y = shapes.global_avg_pool2d_forward(x, out, FLOAT32)
    _kernels.global_avg_pool2d_forward(contiguous(x), y)
    return y


def global_avg_pool2d_backward_input(grad: Array, input_size: Pair, *, out: Array | None = None) -> Array:
    grad_x = shapes.global_avg_pool2d_backward_input(grad, input_size, out, FLOAT32)
    _kernels.global_avg_pool2d_backward_input(contiguous(grad), grad_x)
    return grad_x
