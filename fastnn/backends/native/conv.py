"""Convolution on the compiled kernels, by direct loops or by im2col; kernels/ops/conv2d.h chooses by shape."""

from __future__ import annotations

from fastnn import _kernels
from fastnn._kernels import contiguous
from fastnn.backends import shapes
from fastnn.backends.shapes import FLOAT32, Array, Pair

_ALGORITHM = {"auto": 0, "direct": 1, "im2col": 2}  # enum conv2d_algorithm of kernels/table.h


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
    if y.size:
        _kernels.conv2d_forward(
            contiguous(x), contiguous(weight), None if bias is None else contiguous(bias),
            stride, padding, dilation, groups, _ALGORITHM[algorithm], y,
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
    if grad_x.size:
        _kernels.conv2d_backward_input(
            contiguous(grad), contiguous(weight),
            stride, padding, dilation, groups, _ALGORITHM[algorithm], grad_x,
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
    _kernels.conv2d_backward_weight(
        contiguous(grad), contiguous(x),
        stride, padding, dilation, groups, _ALGORITHM[algorithm], grad_weight, grad_bias,
    )  # fmt: skip
    return grad_weight, grad_bias
