"""Batch normalisation (Ioffe and Szegedy 2015), and normalisation by constants."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnn.arrays import is_masked
from fastnn.checks import flag, number
from fastnn.errors import ArgumentError, DTypeError, ShapeError, StateError
from fastnn.ops.common import affine, floating, tensor_of
from fastnn.tensors import Array, Context, Function, Tensor
from fastnn.versions import wrote


class BatchNorm(Function):
    """(x - mean) / sqrt(var + eps) * weight + bias, channel by channel; kernels batch_norm_*.

    Saves x and the channels' numbers, of mean and var copies: running statistics may follow another batch meanwhile.
    x (N, C), (N, C, L) or (N, C, H, W); mean, var (C,), constants; weight, bias (C,) or None. Attribute: eps.
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
        if any(ctx.needs_input_grad):
            ctx.save_for_backward(x, mean.copy(), var.copy(), weight if ctx.needs_input_grad[0] else None)
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

    `batches` counts them; momentum None averages over all of them. Of tensors, the arrays follow. Where each image has
    statistics of its own, together (N·C,), they follow the means over the images.
    """

    mean: Array
    var: Array
    batches: Any  # an integer array of shape (), or None, which counts nothing
    momentum: float | None

    def __post_init__(self) -> None:
        if self.momentum is not None:
            number("batch_norm", "momentum", self.momentum)
        self.mean, self.var, self.batches = map(_array_of, (self.mean, self.var, self.batches))

    def follow(self, mean: Array, unbiased_var: Array) -> None:
        batches: Any = None if self.batches is None else self.batches.item() + 1
        momentum = 1 / batches if self.momentum is None else self.momentum
        if mean.shape != self.mean.shape:
            mean, unbiased_var = (images.reshape(-1, self.mean.size).mean(0) for images in (mean, unbiased_var))
        pairs = ((self.mean, mean), (self.var, unbiased_var))
        new = [running * (1 - momentum) + momentum * batch for running, batch in pairs]
        if batches is not None:
            self.batches[()] = batches  # from here on nothing needs memory that there may not be
        for running, value in zip((self.mean, self.var), new, strict=True):
            running[...] = value
        wrote(self.mean, self.var)


class BatchNormTraining(Function):
    """BatchNorm by x's own statistics, through which the gradient flows too; kernels batch_norm_*.

    Saves x and the channels' numbers. x (N, C), (N, C, L) or (N, C, H, W); weight, bias (C,) or None. Attributes: eps;
    running: the Running statistics that follow, or None.
    """

    @staticmethod
    def forward(
        ctx: Context, x: Array, weight: Array | None, bias: Array | None, *, eps: float, running: Running | None
    ) -> Array:
        mean, var = ctx.kernels.batch_norm_statistics(x)
        y: Array = ctx.kernels.batch_norm_forward(x, mean, var, weight, bias, eps)
        if running is not None:
            count = x.size // x.shape[1]
            running.follow(mean, var * (count / (count - 1)))
        ctx.save_for_backward(x, mean, var, weight if ctx.needs_input_grad[0] else None)
        return y

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

    Raises DTypeError for integers beyond 0 to 255, whose scale is unknown.
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


def _array_of(statistics: Any) -> Any:
    return statistics.numpy() if isinstance(statistics, Tensor) else statistics


def _check_statistics(op: str, shape: tuple[int, ...], *, written: bool = False, **arrays: Any) -> None:
    """Raises DTypeError, ShapeError or StateError for all but floating arrays of this shape, writable if `written`.

    These arrays are attributes that anybody may replace, and kernels take them by address.
    """
    for name, value in arrays.items():
        array = _array_of(value)
        if not isinstance(array, np.ndarray) or is_masked(array):  # it hides entries
            raise DTypeError(f"{op}: expected {name} to be an array of shape {shape}, got {type(value).__name__}")
        if array.dtype not in (np.float32, np.float64):
            raise DTypeError(f"{op}: expected {name} of type float32 or float64, got {array.dtype}")
        if array.shape != shape:
            raise ShapeError(f"{op}: expected {name} of shape {shape} (one value per channel), got {array.shape}")
        if written and not array.flags.writeable:
            raise StateError(f"{op}: expected {name} that follows the batches, got a read-only array")


def _check_count(batches: Any) -> None:
    array = _array_of(batches)
    if not isinstance(array, np.ndarray) or array.shape != () or array.dtype.kind not in "iuf":
        got = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(batches).__name__
        raise DTypeError(f"batch_norm: expected num_batches_tracked to be an integer array of shape (), got {got}")
    if not array.flags.writeable:
        raise StateError("batch_norm: expected num_batches_tracked that counts the batches, got a read-only array")


def batch_norm(
    input: Any,
    running_mean: Any,
    running_var: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """(x - mean) / sqrt(var + eps) * weight + bias, channel by channel; x (N, C), (N, C, L) or (N, C, H, W), the rest
    (C,).

    mean and var are the running statistics, arrays or tensors; with `training` those of x itself, which the running
    ones, unless they are None, then follow: running += momentum·(batch's - running), with the unbiased variance.

    Raises ArgumentError for statistics that are None without `training`, and for an `eps` or `training` of another
    kind; ShapeError for one value per channel in training.
    """
    if not isinstance(training, (bool, np.bool_)):
        raise ArgumentError(f"batch_norm: expected training=True or False as sixth argument, got {training!r}")
    mean, var = map(_array_of, (running_mean, running_var))
    x = tensor_of(input)
    given = {name: s for name, s in (("running_mean", mean), ("running_var", var)) if s is not None}
    _check_statistics("batch_norm", x.shape[1:2], written=bool(training), **given)
    if training:
        x = floating(x, next((a.dtype for a in (weight, mean) if a is not None), None))
        running = None if mean is None or var is None else Running(mean, var, np.zeros((), np.int64), momentum)
        if x.ndim > 1 and x.numel() == x.shape[1]:
            raise ShapeError(f"batch_norm: expected more than one value per channel in training, got {x.shape}")
        return batch_norm_training(x, weight, bias, eps, running)
    if mean is None or var is None:
        raise ArgumentError("batch_norm: expected running_mean and running_var, or training=True, got None")
    eps = number("batch_norm", "eps", eps, 0)
    return BatchNorm.apply(floating(x, mean.dtype), mean, var, weight, bias, eps=eps)


def batch_norm_training(
    x: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    running: Running | None = None,
) -> Tensor:
    """batch_norm by the mean and the (biased) variance of x itself; the running statistics follow them."""
    x, eps = floating(x), number("batch_norm", "eps", eps, 0)
    if running is not None:
        _check_statistics("batch_norm", x.shape[1:2], written=True, running_mean=running.mean, running_var=running.var)
        _check_count(running.batches)
    for name, tensor in (("weight", weight), ("bias", bias)):
        if tensor is not None and tensor.shape != x.shape[1:2]:
            raise ShapeError(f"batch_norm: expected {name} of shape {x.shape[1:2]}, got {tensor.shape}")
    return BatchNormTraining.apply(x, weight, bias, eps=eps, running=running)


def instance_norm(
    input: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """batch_norm of each image by itself: x (N, C, L) or (N, C, H, W), weight and bias (C,) or None (Ulyanov et al.
    2016).

    Running statistics, arrays or tensors, follow the means of the images' own; without `use_input_stats` it is
    batch_norm by them. Raises ShapeError for planes of one entry, ArgumentError for statistics that are None where they
    are used.
    """
    if not flag("instance_norm", "use_input_stats", use_input_stats):
        return batch_norm(input, running_mean, running_var, weight, bias, eps=eps)
    x = floating(input, None if weight is None else weight.dtype)
    if x.ndim not in (3, 4):
        raise ShapeError(f"instance_norm: expected input of shape (N, C, L) or (N, C, H, W), got {x.shape}")
    n, c, *plane = x.shape
    if math.prod(plane) == 1:
        raise ShapeError(f"instance_norm: expected more than one value per channel, got {x.shape}")
    running = None
    if running_mean is not None and running_var is not None:
        running = Running(running_mean, running_var, None, momentum)
        _check_statistics("instance_norm", (c,), written=True, running_mean=running.mean, running_var=running.var)
    eps = number("instance_norm", "eps", eps, 0)
    y = x
    if x.numel():
        y = BatchNormTraining.apply(x.reshape(1, n * c, *plane), None, None, eps=eps, running=running).reshape(x.shape)
    for name, tensor in (("weight", weight), ("bias", bias)):
        if tensor is not None and tensor.shape != (c,):
            raise ShapeError(f"instance_norm: expected {name} of shape {(c,)}, got {tensor.shape}")
    channels = (c, *(1,) * len(plane))
    return affine(y, weight, bias, channels)


def normalize_channels(x: Any, mean: Array, std: Array) -> Tensor:
    """(x - mean) / std for each channel of x (N, C, ...), mean and std (C,) or (1,); integers, of any type, are pixels
    from 0 to 255 and are divided by 255 first.

    The result has mean's type. Raises ShapeError if the channels do not fit, DTypeError for integers beyond 0 to 255,
    ArgumentError for mean and std that are no arrays: PyTorch's function of this name makes vectors of length 1.
    """
    if not isinstance(mean, np.ndarray) or not isinstance(std, np.ndarray):
        raise ArgumentError(
            "normalize: expected arrays mean and std, one number per channel; for vectors of length 1 write "
            "x / (x * x).sum(dim, keepdim=True).sqrt()"
        )
    x = tensor_of(x)
    if x.ndim < 2 or (np.shape(mean) != (1,) and np.shape(mean) != x.shape[1:2]):
        raise ShapeError(f"normalize: expected input of shape (N, {np.size(mean)}, ...), got {x.shape}")
    _check_statistics("normalize", np.shape(mean), mean=mean, std=std)
    return Normalize.apply(x, mean, std)
