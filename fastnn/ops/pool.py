"""Pooling over windows, and over whole planes."""

from __future__ import annotations

from typing import Any

from fastnn.habits import check_options
from fastnn.ops.common import Size, floating, pair
from fastnn.tensor import Array, Context, Function, Tensor


class MaxPool2d(Function):
    """x (N, C, H, W) -> (N, C, OH, OW). Saves where the maxima were; kernels max_pool2d_*.

    Attributes: kernel_size, stride, padding (pairs).
    """

    @staticmethod
    def forward(ctx: Context, x: Array, **attributes: Any) -> Array:
        y, argmax = ctx.kernels.max_pool2d_forward(x, **attributes)
        ctx.save_for_backward(argmax, x.shape[2:])
        return y

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        argmax, input_size = ctx.saved_tensors
        return ctx.kernels.max_pool2d_backward_input(grad, argmax, input_size)


class AvgPool2d(Function):
    """x (N, C, H, W) -> (N, C, OH, OW). Saves the input's size; kernels avg_pool2d_*.

    Attributes: kernel_size, stride, padding (pairs), count_include_pad.
    """

    @staticmethod
    def forward(ctx: Context, x: Array, **attributes: Any) -> Array:
        ctx.save_for_backward(x.shape[2:])
        return ctx.kernels.avg_pool2d_forward(x, **attributes)

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        (input_size,) = ctx.saved_tensors
        return ctx.kernels.avg_pool2d_backward_input(grad, input_size, **ctx.attributes)


class GlobalAvgPool2d(Function):
    """x (N, C, H, W) -> (N, C, 1, 1). Saves the input's size; kernels global_avg_pool2d_*."""

    @staticmethod
    def forward(ctx: Context, x: Array) -> Array:
        ctx.save_for_backward(x.shape[2:])
        return ctx.kernels.global_avg_pool2d_forward(x)

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        (input_size,) = ctx.saved_tensors
        return ctx.kernels.global_avg_pool2d_backward_input(grad, input_size)


def max_pool2d(
    input: Any,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:
    """The largest entry of each window: (N, C, H, W) -> (N, C, OH, OW); stride defaults to kernel_size.

    The last three are PyTorch's, and have no other value here (ArgumentError).

    >>> import numpy as np, fastnn as fnn
    >>> fnn.ops.max_pool2d(np.arange(16.0).reshape(1, 1, 4, 4), 2).numpy()[0, 0]
    array([[ 5.,  7.],
           [13., 15.]])
    """
    check_options("max_pool2d", dilation=dilation, ceil_mode=ceil_mode, return_indices=return_indices)
    kernel_size = pair("kernel_size", kernel_size)
    stride = kernel_size if stride is None else pair("stride", stride)
    return MaxPool2d.apply(floating(input), kernel_size=kernel_size, stride=stride, padding=pair("padding", padding))


def avg_pool2d(
    input: Any,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean of each window: (N, C, H, W) -> (N, C, OH, OW); stride defaults to kernel_size.

    `count_include_pad=False` divides by the entries inside the image alone. `ceil_mode` and `divisor_override` are
    PyTorch's, and have no other value here (ArgumentError).
    """
    check_options("avg_pool2d", ceil_mode=ceil_mode, divisor_override=divisor_override)
    kernel_size = pair("kernel_size", kernel_size)
    return AvgPool2d.apply(
        floating(input),
        kernel_size=kernel_size,
        stride=kernel_size if stride is None else pair("stride", stride),
        padding=pair("padding", padding),
        count_include_pad=count_include_pad,
    )


def global_avg_pool2d(x: Any) -> Tensor:
    """The mean of each plane: (N, C, H, W) -> (N, C, 1, 1)."""
    return GlobalAvgPool2d.apply(floating(x))
