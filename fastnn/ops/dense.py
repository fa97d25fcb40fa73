"""Matrix products and the linear layer."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnn.errors import ShapeError
from fastnn.ops.arithmetic import common_type
from fastnn.ops.common import floating, layer_input, sum_to, tensor_of
from fastnn.tensors import Array, Context, Function, Tensor


class MatMul(Function):
    """a (M, K) @ b (K, N). Saves each where the other one's gradient needs it; kernel matmul, three times."""

    @staticmethod
    def forward(ctx: Context, a: Array, b: Array) -> Array:
        need_a, need_b = ctx.needs_input_grad
        ctx.save_for_backward(a if need_b else None, b if need_a else None)
        return ctx.kernels.matmul(a, b) if a.dtype.kind == "f" else np.matmul(a, b)

    @staticmethod
    def backward(ctx: Context, grad: Array) -> tuple[Array | None, Array | None]:
        a, b = ctx.saved_tensors
        need_a, need_b = ctx.needs_input_grad
        return (
            ctx.kernels.matmul(grad, b, transpose_b=True) if need_a else None,
            ctx.kernels.matmul(a, grad, transpose_a=True) if need_b else None,
        )


class StackedMatMul(Function):
    """a (..., M, K) @ b (..., K, N), the dimensions before broadcast; kernel stacked_matmul.

    Saves the shapes, and each where the other one's gradient needs it.
    """

    @staticmethod
    def forward(ctx: Context, a: Array, b: Array) -> Array:
        need_a, need_b = ctx.needs_input_grad
        ctx.save_for_backward(a if need_b else None, b if need_a else None, a.shape, b.shape)
        y: Array = ctx.kernels.stacked_matmul(a, b) if a.dtype.kind == "f" else np.matmul(a, b)
        return y

    @staticmethod
    def backward(ctx: Context, grad: Array) -> tuple[Array | None, Array | None]:
        a, b, a_shape, b_shape = ctx.saved_tensors
        need_a, need_b = ctx.needs_input_grad
        return (
            sum_to(ctx.kernels.stacked_matmul(grad, b.swapaxes(-1, -2)), a_shape) if need_a else None,
            sum_to(ctx.kernels.stacked_matmul(a.swapaxes(-1, -2), grad), b_shape) if need_b else None,
        )


class Linear(Function):
    """x (N, I), weight (O, I), bias (O,) or None -> (N, O); kernels linear_*.

    Saves x and weight, each where it is needed: x for the parameters' gradients, weight for that of x.
    """

    @staticmethod
    def forward(ctx: Context, x: Array, weight: Array, bias: Array | None) -> Array:
        need_x, *need_parameters = ctx.needs_input_grad
        ctx.save_for_backward(x if any(need_parameters) else None, weight if need_x else None)
        return ctx.kernels.linear_forward(x, weight, bias)

    @staticmethod
    def backward(ctx: Context, grad: Array) -> tuple[Array | None, Array | None, Array | None]:
        x, weight = ctx.saved_tensors
        need_x, need_weight, need_bias = ctx.needs_input_grad
        grad_weight = grad_bias = None
        if need_weight or need_bias:
            grad_weight, grad_bias = ctx.kernels.linear_backward_weight(grad, x)
        return ctx.kernels.linear_backward_input(grad, weight) if need_x else None, grad_weight, grad_bias


def matmul(input: Any, other: Any) -> Tensor:
    """input @ other, as NumPy: vectors, matrices, and stacks of matrices (..., M, K) @ (..., K, N), which broadcast; of
    whole numbers whole ones.

    Raises ShapeError for numbers, and for shapes that do not fit.

    >>> import numpy as np, fastnn as fnn
    >>> fnn.ops.matmul([[1.0, 2.0]], [3.0, 4.0])
    Tensor([11.])
    >>> fnn.ops.matmul(np.ones((5, 1, 2, 3)), np.ones((4, 3, 6))).shape
    (5, 4, 2, 6)
    """
    dtype = next((x.dtype for x in (input, other) if isinstance(x, Tensor) and x.dtype.kind == "f"), None)
    a, b = tensor_of(input), tensor_of(other)
    if {a.dtype.kind, b.dtype.kind} <= {"i", "u"}:
        a, b = common_type((a, b))
    else:
        a, b = floating(a, dtype), floating(b, dtype)
    if a.ndim == 0 or b.ndim == 0:
        raise ShapeError(f"matmul: expected vectors or matrices, got {a.shape} and {b.shape}")
    left = a if a.ndim > 1 else a.reshape(1, -1)
    right = b if b.ndim > 1 else b.reshape(-1, 1)
    if left.ndim == right.ndim == 2:
        if left.shape[1] != right.shape[0]:
            raise ShapeError(f"matmul: expected (M, K) and (K, N), got {a.shape} and {b.shape}")
        product = MatMul.apply(left, right)
    else:
        _check_stacks(left.shape, right.shape)
        product = StackedMatMul.apply(left, right)
    rows = () if a.ndim == 1 else product.shape[-2:-1]
    columns = () if b.ndim == 1 else product.shape[-1:]
    shape = product.shape[:-2] + rows + columns
    return product if product.shape == shape else product.reshape(shape)


def _check_stacks(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    try:
        np.broadcast_shapes(a[:-2], b[:-2])
        fits = a[-1] == b[-2]
    except ValueError:
        fits = False
    if not fits:
        raise ShapeError(f"matmul: expected (..., M, K) and (..., K, N) that broadcast, got {a} and {b}")


def linear(input: Any, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """input (N, I) or (..., I), weight (O, I), bias (O,) or None -> (N, O) or (..., O): input @ weight.T + bias.

    A vector (I,) gives a vector (O,). `input` is cast to the weight's type. Raises DTypeError for uint8, ShapeError if
    I differs.
    """
    x = layer_input("linear", input, weight)
    if x.ndim == 2 and weight.ndim == 2:
        return Linear.apply(x, weight, bias)
    if weight.ndim != 2:
        raise ShapeError(f"linear: expected weight of shape (O, I), got {weight.shape}")
    if x.ndim == 0 or x.shape[-1] != weight.shape[1]:
        raise ShapeError(
            f"linear: expected input of shape (N, {weight.shape[1]}), got {x.shape}"
            + (": flatten it first (nn.Flatten)" if x.ndim > 2 else "")
        )
    rows = math.prod(x.shape[:-1])
    return Linear.apply(x.reshape(rows, x.shape[-1]), weight, bias).reshape(*x.shape[:-1], weight.shape[0])
