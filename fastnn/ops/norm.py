"""Batch normalisation (Ioffe and Szegedy 2015), and normalisation by constants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnn.errors import DTypeError, ShapeError
from fastnn.ops.common import floating
from fastnn.tensor import Array, Context, Function, Tensor


class BatchNorm(Function):
    """(x - mean) / sqrt(var + eps) * weight + bias, channel by channel; kernels batch_norm_*.

    Saves x and the channels' numbers. x (N, C) or (N, C, H, W); mean, var (C,), constants; weight, bias (C,) or None.
    Attribute: eps.
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
    ) -> Array:
        ctx.save_for_backward(x, mean, var, weight)
        return ctx.kernels.batch_norm_forward(x, mean, var, weight, bias, eps)

    @staticmethod
    def backward(ctx: Context, grad: Array) -> tuple[Array | None, None, None, Array | None, Array | None]:
        x, mean, var, weight = ctx.saved_tensors
        eps = ctx.attributes["eps"]
        need_x, _, _, need_weight, need_bias = ctx.needs_input_grad
        grad_x = grad_weight = grad_bias = None
        if need_weight or need_bias:
            grad_weight, grad_bias = ctx.kernels.batch_norm_backward_weight(grad, x, mean, var, eps)
        if need_x:
            grad_x = ctx.kernels.batch_norm_backward_input(grad, x, mean, var, weight, None, None, eps)
        return grad_x, None, None, grad_weight, grad_bias


@dataclass
class Running:
    """Statistics (C,) that follow the batches': running += momentum·(batch's - running), with the unbiased variance.

    `batches` counts them; momentum None averages over all of them.
    """

    mean: Array
    var: Array
    batches: Array
    momentum: float | None

    def follow(self, mean: Array, unbiased_var: Array) -> None:
        self.batches += 1
        momentum = 1 / float(self.batches) if self.momentum is None else self.momentum
        for running, batch in ((self.mean, mean), (self.var, unbiased_var)):
            running *= 1 - momentum
            running += momentum * batch


class BatchNormTraining(Function):
    """BatchNorm by x's own statistics, through which the gradient flows too; kernels batch_norm_*.

    Saves x and the channels' numbers. x (N, C) or (N, C, H, W); weight, bias (C,) or None. Attributes: eps; running:
    the Running statistics that follow, or None.
    """

    @staticmethod
    def forward(
        ctx: Context, x: Array, weight: Array | None, bias: Array | None, *, eps: float, running: Running | None
    ) -> Array:
        mean, var = ctx.kernels.batch_norm_statistics(x)
        if running is not None:
            count = x.size // x.shape[1]
            running.follow(mean, var * (count / (count - 1)))
        ctx.save_for_backward(x, mean, var, weight)
        return ctx.kernels.batch_norm_forward(x, mean, var, weight, bias, eps)

    @staticmethod
    def backward(ctx: Context, grad: Array) -> tuple[Array | None, Array, Array]:
        x, mean, var, weight = ctx.saved_tensors
        eps = ctx.attributes["eps"]
        sums = ctx.kernels.batch_norm_backward_weight(grad, x, mean, var, eps)
        need_x = ctx.needs_input_grad[0]
        return (
            ctx.kernels.batch_norm_backward_input(grad, x, mean, var, weight, *sums, eps) if need_x else None,
            *sums,
        )


def on_scale(x: Array, dtype: np.dtype[Any]) -> Array:
    """A copy of `x` as `dtype`: integers are pixels from 0 to 255 and are divided by 255, whatever their type; floating
    numbers and booleans are taken as they are.

    Raises DTypeError for integers beyond 0 to 255, of which nobody knows the scale.
    """
    check_pixels(x)
    y = x.astype(dtype)
    if x.dtype.kind in "iu":
        y /= 255
    return y


def check_pixels(x: Array) -> None:
    """DTypeError for integers beyond 0 to 255."""
    if x.dtype.kind in "iu" and x.dtype != np.uint8 and x.size and not (x.min() >= 0 and x.max() <= 255):
        raise DTypeError(
            f"expected pixels from 0 to 255 or floating numbers, got {x.dtype} from {x.min()} to {x.max()}: "
            "pass floating numbers on the scale of the training images"
        )


class Normalize(Function):
    """(x - mean) / std, channel by channel, of x `on_scale`. Saves std; in NumPy.

    x (N, C, ...) of any type, mean and std (C,) or (1,).
    """

    @staticmethod
    def forward(ctx: Context, x: Array, mean: Array, std: Array) -> Array:
        channels = (1, -1) + (1,) * (x.ndim - 2)
        mean, std = mean.reshape(channels), std.reshape(channels)
        ctx.save_for_backward(std)
        y = on_scale(x, mean.dtype)
        y -= mean
        y /= std
        return y

    @staticmethod
    def backward(ctx: Context, grad: Array) -> tuple[Array, None, None]:
        (std,) = ctx.saved_tensors
        return grad / std, None, None


def batch_norm(
    x: Any,
    mean: Array,
    var: Array,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """(x - mean) / sqrt(var + eps) * weight + bias, channel by channel; x (N, C) or (N, C, H, W), the rest (C,)."""
    return BatchNorm.apply(floating(x, mean.dtype), mean, var, weight, bias, eps=eps)


def batch_norm_training(
    x: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    running: Running | None = None,
) -> Tensor:
    """batch_norm by the mean and the (biased) variance of x itself; the running statistics follow them."""
    return BatchNormTraining.apply(floating(x), weight, bias, eps=eps, running=running)


def normalize(x: Any, mean: Array, std: Array) -> Tensor:
    """(x - mean) / std for each channel of x (N, C, ...), mean and std (C,) or (1,); integers, of any type, are pixels
    from 0 to 255 and are divided by 255 first.

    The result has mean's type. Raises ShapeError if the channels do not fit, DTypeError for integers beyond 0 to 255.
    """
    x = x if isinstance(x, Tensor) else Tensor(x)
    if x.ndim < 2 or len(mean) not in (1, x.shape[1]):
        raise ShapeError(f"normalize: expected input of shape (N, {len(mean)}, ...), got {x.shape}")
    return Normalize.apply(x, mean, std)
