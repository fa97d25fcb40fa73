"""Layer, group, RMS and local response normalisation, each sample by itself."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn.checks import entries, is_whole, number, whole
from fastnn.errors import ArgumentError, ShapeError
from fastnn.ops.common import affine, floating, weight_of
from fastnn.ops.padding import pad
from fastnn.tensors import Array, Context, Function, Tensor

__all__ = ["group_norm", "layer_norm", "local_response_norm", "rms_norm"]


class GroupNorm(Function):
    """x of any shape, seen as `sizes`, (N, C, P), its channels normalised in groups; weight and bias (C,) or None;
    kernels group_norm_*.

    Saves x, the groups' statistics, and weight. Attributes: sizes, groups, eps, centred (else no mean is taken off).
    """

    @staticmethod
    def forward(
        ctx: Context,
        x: Array,
        weight: Array | None,
        bias: Array | None,
        *,
        sizes: tuple[int, int, int],
        groups: int,
        eps: float,
        centred: bool,
    ) -> Array:
        rows = x.reshape(sizes)
        y, statistics = ctx.kernels.group_norm_forward(rows, weight, bias, groups, eps, centred)
        if any(ctx.needs_input_grad):
            ctx.save_for_backward(rows, statistics, weight)
        return np.asarray(y.reshape(x.shape))

    @staticmethod
    def backward(ctx: Context, grad: Array) -> tuple[Array, Array, Array]:
        a = ctx.attributes
        grad_x, grad_weight, grad_bias = ctx.kernels.group_norm_backward(
            grad.reshape(a["sizes"]), *ctx.saved_tensors, a["groups"], a["centred"]
        )
        return grad_x.reshape(grad.shape), grad_weight, grad_bias


def layer_norm(
    input: Any,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """(x - mean) / sqrt(var + eps) * weight + bias over the last dimensions, which are `normalized_shape`.

    input (..., *normalized_shape), of any floating type; weight, bias of normalized_shape or None. The variance is
    the biased one. Raises ShapeError where the shapes do not fit.

    >>> import fastnn as fnn
    >>> fnn.nn.functional.layer_norm([[1.0, 3.0]], [2])
    Tensor([[-0.999995,  0.999995]])
    """
    return _last("layer_norm", input, normalized_shape, weight, bias, eps, True)


def rms_norm(
    input: Any, normalized_shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    """x / sqrt(mean(x²) + eps) * weight over the last dimensions; eps is the type's own unless given."""
    if eps is None:
        weight = None if weight is None else weight_of("rms_norm", "weight", weight)
        kind = floating(input, None if weight is None or weight.dtype.kind != "f" else weight.dtype).dtype
        eps = float(np.finfo(kind).eps)
    return _last("rms_norm", input, normalized_shape, weight, None, eps, False)


def _last(
    op: str, input: Any, shape: Sequence[int], weight: Tensor | None, bias: Tensor | None, eps: float, centred: bool
) -> Tensor:
    weight, bias = _both(op, weight, bias)
    x = floating(input, None if weight is None else weight.dtype)
    if not isinstance(shape, tuple):  # as of a layer
        shape = tuple(entries(op, "normalized_shape", shape))
    if not all(map(is_whole, shape)):
        raise ArgumentError(f"{op}: expected normalized_shape to be a list of sizes, got {shape!r}")
    if not shape or x.shape[-len(shape) :] != shape:
        raise ShapeError(f"{op}: expected input of shape (..., {str(shape)[1:-1].rstrip(',')}), got {x.shape}")
    for name, tensor in (("weight", weight), ("bias", bias)):
        if tensor is not None and tensor.shape != shape:
            raise ShapeError(f"{op}: expected {name} of shape {shape}, got {tensor.shape}")
    size = math.prod(shape)
    if x.numel() == 0:
        return affine(x, weight, bias, shape)  # whose gradients are 0, not missing
    if len(shape) > 1:
        weight, bias = (None if tensor is None else tensor.reshape(size) for tensor in (weight, bias))
    sizes = x.numel() // size, size, 1
    return GroupNorm.apply(x, weight, bias, sizes=sizes, groups=1, eps=_float(op, eps), centred=centred)


def _both(op: str, weight: Any, bias: Any) -> tuple[Tensor | None, Tensor | None]:
    """Weight and bias as tensors, or None; DTypeError for what is neither."""
    if (weight is None or isinstance(weight, Tensor)) and (bias is None or isinstance(bias, Tensor)):
        return weight, bias
    given = (("weight", weight), ("bias", bias))
    weight, bias = (None if value is None else weight_of(op, name, value) for name, value in given)
    return weight, bias


def _float(op: str, eps: Any) -> float:
    try:
        return float(eps)
    except (TypeError, ValueError):
        return number(op, "eps", eps, 0)


def group_norm(
    input: Any, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """(x - mean) / sqrt(var + eps) * weight + bias over each of num_groups groups of channels of each sample.

    input (N, C, ...), weight, bias (C,) or None. Raises ShapeError unless num_groups divides C.

    >>> import numpy as np, fastnn as fnn
    >>> fnn.nn.functional.group_norm(np.ones((2, 6, 5)), 3).shape
    (2, 6, 5)
    """
    weight, bias = _both("group_norm", weight, bias)
    x = floating(input, None if weight is None else weight.dtype)
    num_groups = whole("group_norm", "num_groups", num_groups, 1)
    if x.ndim < 2 or x.shape[1] % num_groups:
        raise ShapeError(f"group_norm: expected input (N, C, ...), C a multiple of {num_groups}, got {x.shape}")
    for name, tensor in (("weight", weight), ("bias", bias)):
        if tensor is not None and tensor.shape != x.shape[1:2]:
            raise ShapeError(f"group_norm: expected {name} of shape {x.shape[1:2]}, got {tensor.shape}")
    if x.numel() == 0:
        return affine(x, weight, bias, (-1, *(1,) * (x.ndim - 2)))
    sizes = x.shape[0], x.shape[1], math.prod(x.shape[2:])
    return GroupNorm.apply(x, weight, bias, sizes=sizes, groups=num_groups, eps=_float("group_norm", eps), centred=True)


def local_response_norm(input: Any, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Tensor:
    """x / (k + alpha · m)^beta, m the mean of x² over `size` neighbouring channels, those beyond counted as 0.

    input (N, C, ...), of at least three dimensions (ShapeError). AlexNet's, Krizhevsky et al. 2012, section 3.3, whose
    alpha is that of the sum.

    >>> import fastnn as fnn
    >>> fnn.nn.functional.local_response_norm([[[2.0], [1.0]]], 2, alpha=2.0, beta=1.0)
    Tensor([[[0.4       ],
             [0.16666667]]])
    """
    x, size = floating(input), whole("local_response_norm", "size", size, 1)
    if x.ndim < 3:
        raise ShapeError(f"local_response_norm: expected input (N, C, ...), got {x.shape}")
    around = pad(x * x, (*(0, 0) * (x.ndim - 2), size // 2, (size - 1) // 2))
    squares = functools.reduce(operator.add, (around[:, i : i + x.shape[1]] for i in range(size)))
    return x / (squares * (alpha / size) + k) ** beta
