"""Operators that stand in backward alone, each the transpose of another one, and their own gradients."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnn.backends.reference.erf import erf
from fastnn.ops import shaping
from fastnn.tensors import Array, Context, Function

__all__ = [
    "AveragePoolInput",
    "ConvolutionInput",
    "ConvolutionWeight",
    "MaxPoolInput",
    "NormalCdf",
    "Pick",
    "ReLUInput",
    "Spread",
]


class ConvolutionInput(Function):
    """conv2d_backward_input as an operator: grad (N, O, OH, OW), weight -> (N, C, H, W). Attribute: image_size, and
    those of Conv2d. The three products of a convolution are each other's gradients."""

    @staticmethod
    def forward(ctx: Context, grad: Array, weight: Array, *, image_size: tuple[int, int], **options: Any) -> Array:
        ctx.save_for_backward(grad, weight)
        return ctx.kernels.conv2d_backward_input(grad, weight, image_size, **options)

    @staticmethod
    def backward(ctx: Context, grad: Array) -> tuple[Array | None, Array | None]:
        (given, weight), options = ctx.saved_tensors, _without(ctx.attributes, "image_size")
        need_given, need_weight = ctx.needs_input_grad
        return (
            ctx.kernels.conv2d_forward(grad, weight, None, **options) if need_given else None,
            ctx.kernels.conv2d_backward_weight(given, grad, weight.shape[2:], **options)[0] if need_weight else None,
        )


class ConvolutionWeight(Function):
    """conv2d_backward_weight as an operator, without the bias: grad (N, O, OH, OW), x -> (O, C/g, kh, kw). Attribute:
    kernel_size, and those of Conv2d."""

    @staticmethod
    def forward(ctx: Context, grad: Array, x: Array, *, kernel_size: tuple[int, int], **options: Any) -> Array:
        ctx.save_for_backward(grad, x)
        return ctx.kernels.conv2d_backward_weight(grad, x, kernel_size, **options)[0]

    @staticmethod
    def backward(ctx: Context, grad: Array) -> tuple[Array | None, Array | None]:
        (given, x), options = ctx.saved_tensors, _without(ctx.attributes, "kernel_size")
        need_given, need_x = ctx.needs_input_grad
        return (
            ctx.kernels.conv2d_forward(x, grad, None, **options) if need_given else None,
            ctx.kernels.conv2d_backward_input(given, grad, x.shape[2:], **options) if need_x else None,
        )


class AveragePoolInput(Function):
    """avg_pool2d_backward_input as an operator. Attribute: input_size, and those of AvgPool2d."""

    @staticmethod
    def forward(ctx: Context, grad: Array, *, input_size: tuple[int, int], **options: Any) -> Array:
        return ctx.kernels.avg_pool2d_backward_input(grad, input_size, **options)

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        return ctx.kernels.avg_pool2d_forward(grad, **_without(ctx.attributes, "input_size"))


class MaxPoolInput(Function):
    """max_pool2d_backward_input as an operator: entries go where the maxima were. Attributes: argmax, input_size."""

    @staticmethod
    def forward(ctx: Context, grad: Array, *, argmax: Array, input_size: tuple[int, int]) -> Array:
        return ctx.kernels.max_pool2d_backward_input(grad, argmax, input_size)

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        return _picked(grad, ctx.attributes["argmax"])


class Pick(Function):
    """The entries of x (N, C, H, W) at `argmax` (N, C, OH, OW), counted within each plane. Saves the shape."""

    @staticmethod
    def forward(ctx: Context, x: Array, *, argmax: Array) -> Array:
        ctx.save_for_backward(x.shape[2:])
        return _picked(x, argmax)

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        (input_size,) = ctx.saved_tensors
        return ctx.kernels.max_pool2d_backward_input(grad, ctx.attributes["argmax"], input_size)


def _picked(x: Array, argmax: Array) -> Array:
    planes = (*x.shape[:2], -1)
    return np.take_along_axis(x.reshape(planes), argmax.reshape(planes), 2).reshape(argmax.shape)


class Spread(Function):
    """Zeros of `shape` with x added at `index`: the transpose of indexing. Attributes: shape, index."""

    @staticmethod
    def forward(ctx: Context, x: Array, *, shape: tuple[int, ...], index: Any) -> Array:
        indexed = Context(ctx.dtype, (True,), {"index": index})
        indexed.save_for_backward(shape)
        return shaping.Index.backward(indexed, x)

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        return grad[ctx.attributes["index"]]


class ReLUInput(Function):
    """relu_backward_input as an operator: grad where y > 0, else 0; linear in grad. Saves y."""

    @staticmethod
    def forward(ctx: Context, grad: Array, y: Array) -> Array:
        ctx.save_for_backward(y)
        return ctx.kernels.relu_backward_input(grad, y)

    @staticmethod
    def backward(ctx: Context, grad: Array) -> tuple[Array, None]:
        return ctx.kernels.relu_backward_input(grad, *ctx.saved_tensors), None


class NormalCdf(Function):
    """Φ(x), the normal distribution's. Saves x."""

    @staticmethod
    def forward(ctx: Context, x: Array) -> Array:
        ctx.save_for_backward(x)
        return 0.5 * (1 + erf(x * math.sqrt(0.5)))

    @staticmethod
    def backward(ctx: Context, grad: Array) -> Array:
        (x,) = ctx.saved_tensors
        return grad * np.exp(-0.5 * x * x) * (1 / math.sqrt(2 * math.pi))


def _without(attributes: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in attributes.items() if key != name}
