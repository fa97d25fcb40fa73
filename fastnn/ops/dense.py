"""Matrix products and the linear layer."""

from __future__ import annotations

from typing import Any

from fastnn.errors import ShapeError
from fastnn.ops.common import floating, layer_input
from fastnn.tensor import Array, Context, Function, Tensor


class MatMul(Function):
    """a (M, K) @ b (K, N). Saves both; kernel matmul, thrice."""

    @staticmethod
    def forward(ctx: Context, a: Array, b: Array) -> Array:
        ctx.save_for_backward(a, b)
        return ctx.kernels.matmul(a, b)

    @staticmethod
    def backward(ctx: Context, grad: Array) -> tuple[Array | None, Array | None]:
        a, b = ctx.saved_tensors
        need_a, need_b = ctx.needs_input_grad
        return (
            ctx.kernels.matmul(grad, b, transpose_b=True) if need_a else None,
            ctx.kernels.matmul(a, grad, transpose_a=True) if need_b else None,
        )


class Linear(Function):
    """x (N, I), weight (O, I), bias (O,) or None -> (N, O). Saves x and weight; kernels linear_*."""

    @staticmethod
    def forward(ctx: Context, x: Array, weight: Array, bias: Array | None) -> Array:
        ctx.save_for_backward(x, weight)
        return ctx.kernels.linear_forward(x, weight, bias)

    @staticmethod
    def backward(ctx: Context, grad: Array) -> tuple[Array | None, Array | None, Array | None]:
        x, weight = ctx.saved_tensors
        need_x, need_weight, need_bias = ctx.needs_input_grad
        grad_weight = grad_bias = None
        if need_weight or need_bias:
            grad_weight, grad_bias = ctx.kernels.linear_backward_weight(grad, x)
        return ctx.kernels.linear_backward_input(grad, weight) if need_x else None, grad_weight, grad_bias


def matmul(a: Any, b: Any) -> Tensor:
    """a @ b for vectors and matrices; ShapeError for more dimensions.

    >>> import fastnn as fnn
    >>> fnn.ops.matmul([[1.0, 2.0]], [3.0, 4.0])
    Tensor([11.])
    """
    dtype = next((x.dtype for x in (a, b) if isinstance(x, Tensor) and x.dtype.kind == "f"), None)
    a, b = floating(a, dtype), floating(b, dtype)
    if a.ndim not in (1, 2) or b.ndim not in (1, 2):
        raise ShapeError(f"matmul: expected vectors or matrices, got {a.shape} and {b.shape}")
    product = MatMul.apply(
        a if a.ndim == 2 else a.reshape(1, -1),
        b if b.ndim == 2 else b.reshape(-1, 1),
    )
    rows = () if a.ndim == 1 else a.shape[:1]
    columns = () if b.ndim == 1 else b.shape[1:]
    return product if product.shape == rows + columns else product.reshape(rows + columns)


def linear(x: Any, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x (N, I) or (..., I), weight (O, I), bias (O,) or None -> (N, O) or (..., O): x @ weight.T + bias.

    x is cast to the weight's type. Raises DTypeError for uint8, ShapeError if I differs, or for one unbatched vector.
    """
    x = layer_input("linear", x, weight)
    if x.ndim == 1:
        raise ShapeError(f"linear: expected input of shape (N, {weight.shape[1]}), got {x.shape}: add a batch, x[None]")
    if x.ndim == 2:
        return Linear.apply(x, weight, bias)
    if x.ndim == 0 or x.shape[-1] != weight.shape[1]:
        raise ShapeError(
            f"linear: expected input of shape (N, {weight.shape[1]}), got {x.shape}"
            + (": flatten it first (nn.Flatten)" if x.ndim > 2 else "")
        )
    rows = x.numel() // x.shape[-1]
    return Linear.apply(x.reshape(rows, x.shape[-1]), weight, bias).reshape(*x.shape[:-1], weight.shape[0])
