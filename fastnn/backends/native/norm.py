"""Batch normalisation on the compiled kernels (kernels/ops/norm.h, norm_apply.h)."""

from __future__ import annotations

from fastnn import _kernels
from fastnn._kernels import contiguous
from fastnn.backends import shapes
from fastnn.backends.shapes import FLOAT32, Array


def batch_norm_statistics(x: Array, *, out: tuple[Array | None, Array | None] | None = None) -> tuple[Array, Array]:
    mean, var = shapes.batch_norm_statistics(x, out, FLOAT32)
    _kernels.batch_norm_statistics(contiguous(x), mean, var)
    return mean, var


def batch_norm_forward(
    x: Array,
    mean: Array,
    var: Array,
    weight: Array | None,
    bias: Array | None,
    eps: float = 1e-5,
    *,
    out: Array | None = None,
) -> Array:
    y = shapes.batch_norm_forward(x, mean, var, weight, bias, out, FLOAT32)
    affine = [None if array is None else contiguous(array) for array in (weight, bias)]
    _kernels.batch_norm_forward(contiguous(x), contiguous(mean), contiguous(var), *affine, eps, y)
    return y


def batch_norm_backward_weight(
    grad: Array,
    x: Array,
    mean: Array,
    var: Array,
    eps: float = 1e-5,
    *,
    out: tuple[Array | None, Array | None] | None = None,
) -> tuple[Array, Array]:
    grad_weight, grad_bias = shapes.batch_norm_backward_weight(grad, x, mean, var, out, FLOAT32)
    _kernels.batch_norm_backward_weight(
        contiguous(grad), contiguous(x), contiguous(mean), contiguous(var), eps, grad_weight, grad_bias
    )
    return grad_weight, grad_bias


def batch_norm_backward_input(
    grad: Array,
    x: Array,
    mean: Array,
    var: Array,
    weight: Array | None,
    grad_weight: Array | None,
    grad_bias: Array | None,
    eps: float = 1e-5,
    *,
    out: Array | None = None,
) -> Array:
    grad_x = shapes.batch_norm_backward_input(grad, x, mean, var, weight, grad_weight, grad_bias, out, FLOAT32)
    optional = [None if array is None else contiguous(array) for array in (weight, grad_weight, grad_bias)]
    _kernels.batch_norm_backward_input(
        contiguous(grad), contiguous(x), contiguous(mean), contiguous(var), *optional, eps, grad_x
    )
    return grad_x
