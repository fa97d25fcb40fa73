"""Matrix products on fastnn's own packed matmul: any strides are read in place, so a transpose costs nothing."""

from __future__ import annotations

from fastnn import _kernels
from fastnn._kernels import contiguous
from fastnn.backends import shapes
from fastnn.backends.shapes import FLOAT32, Array
from fastnn.backends.sums import total


def _strided(x: Array) -> Array:
    """x as it lies, or a copy where its strides are not whole floats or it is not aligned."""
    if x.flags.aligned and not (x.strides[0] | x.strides[1]) & 3:
        return x
    return x.copy()


def matmul(
    a: Array, b: Array, *, transpose_a: bool = False, transpose_b: bool = False, out: Array | None = None
) -> Array:
    c = shapes.matmul(a, b, transpose_a, transpose_b, out, FLOAT32)
    _kernels.sgemm(_strided(a.T if transpose_a else a), _strided(b.T if transpose_b else b), None, c)
    return c


def linear_forward(x: Array, weight: Array, bias: Array | None, *, out: Array | None = None) -> Array:
    y = shapes.linear_forward(x, weight, bias, out, FLOAT32)
    _kernels.sgemm(_strided(x), _strided(weight.T), None if bias is None else contiguous(bias), y)
    return y


def linear_backward_input(grad: Array, weight: Array, *, out: Array | None = None) -> Array:
    grad_x = shapes.linear_backward_input(grad, weight, out, FLOAT32)
    _kernels.sgemm(_strided(grad), _strided(weight), None, grad_x)
    return grad_x


def linear_backward_weight(
    grad: Array, x: Array, *, out: tuple[Array | None, Array | None] | None = None
) -> tuple[Array, Array]:
    grad_weight, grad_bias = shapes.linear_backward_weight(grad, x, out, FLOAT32)
    _kernels.sgemm(_strided(grad.T), _strided(x), None, grad_weight)
    grad_bias[...] = total(grad, 0)
    return grad_weight, grad_bias
