"""Convolution."""

from __future__ import annotations

from typing import Any

from fastnn.ops.common import Size, layer_input, pair
from fastnn.tensor import Array, Context, Function, Tensor


class Conv2d(Function):
    """x (N, C, H, W), weight (O, C/g, kh, kw), bias (O,) or None -> (N, O, OH, OW).

    Saves the sizes; x where a parameter's gradient needs it, weight where that of x does; kernels conv2d_*.
    Attributes: stride, padding, dilation (pairs), groups.
    """

    @staticmethod
    def forward(ctx: Context, x: Array, weight: Array, bias: Array | None, **attributes: Any) -> Array:
        need_x, *need_parameters = ctx.needs_input_grad
        kept = x if any(need_parameters) else None, weight if need_x else None
        ctx.save_for_backward(*kept, x.shape[2:], weight.shape[2:])
        return ctx.kernels.conv2d_forward(x, weight, bias, **attributes)

    @staticmethod
    def backward(ctx: Context, grad: Array) -> tuple[Array | None, Array | None, Array | None]:
        x, weight, image_size, kernel_size = ctx.saved_tensors
        need_x, need_weight, need_bias = ctx.needs_input_grad
        grad_x = grad_weight = grad_bias = None
        if need_x:
            grad_x = ctx.kernels.conv2d_backward_input(grad, weight, image_size, **ctx.attributes)
        if need_weight or need_bias:
            grad_weight, grad_bias = ctx.kernels.conv2d_backward_weight(grad, x, kernel_size, **ctx.attributes)
        return grad_x, grad_weight, grad_bias


def conv2d(
    input: Any,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Size = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Tensor:
    """input (N, C, H, W), weight (O, C/groups, kh, kw), bias (O,) or None -> (N, O, OH, OW).

    Cross-correlation, as in PyTorch: OH = (H + 2·padding - dilation·(kh - 1) - 1) // stride + 1. `input` is cast to the
    weight's type. Raises ShapeError for channels that do not fit and images smaller than the kernel, DTypeError for
    uint8 images.

    >>> import numpy as np, fastnn as fnn
    >>> sobel = fnn.Tensor([[[[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]]])
    >>> ramp = np.arange(5.0) * np.ones((1, 1, 5, 1))
    >>> fnn.ops.conv2d(ramp, sobel).numpy()[0, 0]
    array([[8., 8., 8.],
           [8., 8., 8.],
           [8., 8., 8.]], dtype=float32)
    """
    return Conv2d.apply(
        layer_input("conv2d", input, weight),
        weight,
        bias,
        stride=pair("stride", stride),
        padding=pair("padding", padding),
        dilation=pair("dilation", dilation),
        groups=groups,
    )
