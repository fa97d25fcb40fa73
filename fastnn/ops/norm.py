"""Batch normalisation (Ioffe and Szegedy 2015), and normalisation by constants."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.errors import ShapeError
from fastnn.ops.common import floating
from fastnn.tensor import Array, Context, Function, Tensor


class BatchNorm(Function):
    """(x - mean) / sqrt(var + eps) * weight + bias, channel by channel; kernels batch_norm_*.

    Saves x and the channels' numbers. x (N, C) or (N, C, H, W); mean, var (C,); weight, bias (C,) or None. Attributes:
    eps; training: whether mean and var are x's own statistics, through which the gradient flows too, or constants.
    """

    @staticmethod
    def forward(
        ctx: Context,
        x: Array,
        mean: Array,
        var: Array,
        weight: Array | None,
        bias: Array | None,
        *,
        eps: float,
        training: bool,
    ) -> Array:
        ctx.save_for_backward(x, mean, var, weight)
        return ctx.kernels.batch_norm_forward(x, mean, var, weight, bias, eps)

    @staticmethod
    def backward(ctx: Context, grad: Array) -> tuple[Array | None, None, None, Array | None, Array | None]:
        x, mean, var, weight = ctx.saved_tensors
        eps, training = ctx.attributes["eps"], ctx.attributes["training"]
        need_x, _, _, need_weight, need_bias = ctx.needs_input_grad
        grad_x = grad_weight = grad_bias = None
        if training or need_weight or need_bias:
            grad_weight, grad_bias = ctx.kernels.batch_norm_backward_weight(grad, x, mean, var, eps)
        if need_x:
            sums = (grad_weight, grad_bias) if training else (None, None)
            grad_x = ctx.kernels.batch_norm_backward_input(grad, x, mean, var, weight, *sums, eps)
        return grad_x, None, None, grad_weight, grad_bias


class Normalize(Function):
    """(x - mean) / std, channel by channel; uint8 is divided by 255 first. Saves std; in NumPy.

    x (N, C, ...) of any type, mean and std (C,) or (1,).
    """

    @staticmethod
    def forward(ctx: Context, x: Array, mean: Array, std: Array) -> Array:
        channels = (1, -1) + (1,) * (x.ndim - 2)
        mean, std = mean.reshape(channels), std.reshape(channels)
        ctx.save_for_backward(std)
        y = x.astype(mean.dtype)
        if x.dtype == np.uint8:
            y /= 255
        y -= mean
        y /= std
        return y

    @staticmethod
    def backward(ctx: Context, grad: Array) -> tuple[Array, None, None]:
        (std,) = ctx.saved_tensors
        return grad / std, None, None


def batch_norm_statistics(x: Tensor) -> tuple[Array, Array]:
    """Mean and variance (biased: divided by the count) of each channel of x (N, C) or (N, C, H, W), off the tape."""
    return Context(x.dtype, (), {}).kernels.batch_norm_statistics(x.data)


def batch_norm(
    x: Any,
    mean: Array,
    var: Array,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *,
    training: bool,
) -> Tensor:
    """(x - mean) / sqrt(var + eps) * weight + bias, channel by channel; x (N, C) or (N, C, H, W), the rest (C,).

    `training` says that mean and var are batch_norm_statistics(x), so that the gradient flows through them as well.
    """
    return BatchNorm.apply(floating(x, mean.dtype), mean, var, weight, bias, eps=eps, training=training)


def normalize(x: Any, mean: Array, std: Array) -> Tensor:
    """(x - mean) / std for each channel of x (N, C, ...), mean and std (C,) or (1,); uint8 is divided by 255 first.

    The result has mean's type. Raises ShapeError if the channels do not fit.
    """
    x = x if isinstance(x, Tensor) else Tensor(x)
    if x.ndim < 2 or len(mean) not in (1, x.shape[1]):
        raise ShapeError(f"normalize: expected input of shape (N, {len(mean)}, ...), got {x.shape}")
    return Normalize.apply(x, mean, std)
